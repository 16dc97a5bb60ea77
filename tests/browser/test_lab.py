"""The quickstart in JupyterLab, in a browser, as a learner sees it."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT
from playwright.sync_api import sync_playwright

PATIENCE = 240  # seconds for the whole notebook


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A running JupyterLab with a copy of the quickstart: its address and its folder."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copy(ROOT / "notebooks" / "quickstart.ipynb", folder)
    # No news, so that nothing lies over the page.
    settings = folder / ".settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    port, token = free_port(), secrets.token_hex(16)
    environment = os.environ | {"JUPYTERLAB_SETTINGS_DIR": str(folder / ".settings")}
    command = ["jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}", f"--IdentityProvider.token={token}"]
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}/lab/tree/quickstart.ipynb?token={token}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(address, timeout=5)
                break
            except OSError:
                assert server.poll() is None, (folder / "lab.log").read_text()
                time.sleep(0.5)
        yield address, folder
    finally:
        server.terminate()
        server.wait(30)


def test_the_chart_grows_while_fit_runs(lab):
    address, folder = lab
    pictures = Path(os.environ.get("HEADSTART_SCREENSHOTS", folder))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.goto(address, timeout=60_000)
        page.locator(".jp-Notebook").wait_for(timeout=60_000)
        page.get_by_text("Rust (Headstart)").first.wait_for(timeout=60_000)
        page.keyboard.press("Control+b")  # the side bar
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

        # The chart is the only SVG among the outputs, in a picture of its own.
        chart = page.locator(".jp-RenderedSVG").first
        chart.wait_for(timeout=PATIENCE * 1000)
        seen = []
        done = page.get_by_text("Prediction for first image:").and_(page.locator("pre"))
        end = time.monotonic() + PATIENCE
        while not done.count():
            assert time.monotonic() < end, "the notebook was not over in time"
            drawn = chart.inner_html()
            if not seen or drawn != seen[-1]:
                seen.append(drawn)
                chart.scroll_into_view_if_needed()
                page.screenshot(path=pictures / f"fit-{len(seen):02}.png")
            time.sleep(0.1)
        assert len(seen) >= 5, f"the chart was seen in {len(seen)} states"
        page.screenshot(path=pictures / "after.png")
        assert "10 epochs in" in page.locator(".jp-Notebook").inner_text()
        assert page.locator(".jp-RenderedSVG").count() == 1
        page.keyboard.press("Control+s")
        saved = folder / "quickstart.ipynb"
        for _ in range(50):
            outputs = [o for c in json.loads(saved.read_text())["cells"] for o in c.get("outputs", [])]
            if outputs:
                break
            time.sleep(0.2)
        browser.close()
    charts = [o["data"] for o in outputs if "image/svg+xml" in o.get("data", {})]
    assert len(charts) == 1 and "loss" in "".join(charts[0]["text/plain"])
    text = "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")
    assert len(re.findall(r"Epoch \d+/10", text)) == 10
    assert 0 <= float(re.search(r"Prediction for first image: (\d\.\d\d)", text)[1]) <= 1
