"""Browser tests of the program in JupyterLab, as a learner uses it."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from playwright.sync_api import sync_playwright

TIMEOUT = 240  # seconds for the whole notebook


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


STOPPED = [
    "let mut model = sequential![Input::new(64), Dense::new(1024).activation(Relu), Dense::new(1).activation(Sigmoid)]?;\n"
    "model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);\n"
    "let x = random_uniform((4096, 64), 0.0, 1.0)?;\n"
    "let y = random_uniform(4096, 0.0, 1.0)?.ge(0.5)?.to_dtype(DType::F32)?;",
    "let history = model.fit((&x, &y), Fit::epochs(1000))?;",
    'println!("{} epochs, {} predictions", history.epochs(), model.predict(&x)?.len());',
]

RESTARTED = ["let n = 6;", 'println!("{}", n * 7);']


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A running JupyterLab with a copy of the program: its address and its folder."""
    folder = tmp_path_factory.mktemp("lab")
    program = nbformat.read(ROOT / "notebooks" / "4_the_program.ipynb", 4)
    for cell in program.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(program, folder / "4_the_program.ipynb")
    kernelspec = {"name": "headstart", "display_name": "Headstart (Rust)", "language": "rust"}
    for name, sources in (("stopped", STOPPED), ("restarted", RESTARTED)):
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec})
        nbformat.write(notebook, folder / f"{name}.ipynb")
    # Without news, so that no notification covers the page.
    settings = folder / ".settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    port, token = free_port(), secrets.token_hex(16)
    environment = os.environ | {"JUPYTERLAB_SETTINGS_DIR": str(folder / ".settings")}
    command = ["jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}", f"--IdentityProvider.token={token}"]
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}/lab/tree/{{}}?reset&token={token}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(address.format("4_the_program.ipynb"), timeout=5)
                break
            except OSError:
                assert server.poll() is None, (folder / "lab.log").read_text()
                time.sleep(0.5)
        yield address, folder
    finally:
        server.terminate()
        server.wait(30)


def choose(page, menu, item):
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.get_by_role("menuitem", name=item, exact=True).click()


@contextmanager
def opened(lab, notebook):
    """A notebook in a browser with a ready kernel: the page, its folder, and a folder for screenshots."""
    address, folder = lab
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.goto(address.format(notebook), timeout=60_000)
        page.locator(".jp-Notebook").wait_for(timeout=60_000)
        page.locator(".jp-Toolbar-kernelName", has_text="Headstart (Rust)").wait_for(timeout=60_000)
        page.keyboard.press("Control+b")  # the side bar
        yield page, folder, Path(os.environ.get("HEADSTART_SCREENSHOTS", folder))
        browser.close()


def test_the_chart_is_updated_while_fit_runs(lab):
    with opened(lab, "4_the_program.ipynb") as (page, folder, screenshots):
        choose(page, "Run", "Run All Cells")
        # The chart has its own output, separate from the progress bar.
        cell = page.locator(".jp-CodeCell", has_text="Fit::epochs(10))")
        chart = cell.locator(".jp-RenderedSVG")
        chart.wait_for(timeout=TIMEOUT * 1000)
        seen = []
        done = page.get_by_text("Prediction for first image:").and_(page.locator("pre"))
        end = time.monotonic() + TIMEOUT
        while not done.count():
            assert time.monotonic() < end, "the notebook was not over in time"
            drawn = chart.inner_html()
            if not seen or drawn != seen[-1]:
                seen.append(drawn)
                chart.scroll_into_view_if_needed()
                page.screenshot(path=screenshots / f"fit-{len(seen):02}.png")
            time.sleep(0.1)
        assert len(seen) >= 5, f"the chart was seen in {len(seen)} states"
        page.screenshot(path=screenshots / "after.png")
        assert "10 epochs in" in page.locator(".jp-Notebook").inner_text()
        assert chart.count() == 1
        page.keyboard.press("Control+s")
        saved = folder / "4_the_program.ipynb"
        outputs = []
        for _ in range(50):
            try:
                outputs = [o for c in json.loads(saved.read_text())["cells"] for o in c.get("outputs", [])]
            except json.JSONDecodeError:
                pass  # Jupyter is writing it.
            if outputs:
                break
            time.sleep(0.2)
    figures = [o["data"] for o in outputs if "image/svg+xml" in o.get("data", {})]
    charts = [figure for figure in figures if "loss" in "".join(figure["text/plain"])]
    assert len(charts) == 1 and len(figures) >= 3, "the model, its chart, the varied figure"
    text = "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")
    assert len(re.findall(r"Epoch \d+/10", text)) == 10
    assert 0 <= float(re.search(r"Prediction for first image: (\d\.\d\d)", text)[1]) <= 1


def test_stop_keeps_the_model_and_its_history(lab):
    with opened(lab, "stopped.ipynb") as (page, _, screenshots):
        choose(page, "Run", "Run All Cells")
        # JupyterLab may also show the running epoch in the status bar.
        page.locator("pre", has_text="Epoch 3/1000").wait_for(timeout=TIMEOUT * 1000)
        begin = time.monotonic()
        page.get_by_title("Interrupt the kernel").first.click()
        page.get_by_text("all variables keep their values").first.wait_for(timeout=10_000)
        assert time.monotonic() - begin < 2
        assert "predictions" not in page.locator(".jp-OutputArea").last.inner_text(), "the cell after it did not run"
        last = page.locator(".jp-CodeCell").last
        last.locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        page.locator("pre", has_text="4096 predictions").wait_for(timeout=30_000)
        page.screenshot(path=screenshots / "stopped.png")
        found = re.search(r"(\d+) epochs, 4096 predictions", last.inner_text())
        assert found and int(found[1]) >= 2


def test_tab_completes_and_shift_tab_inspects(lab):
    with opened(lab, "stopped.ipynb") as (page, _, screenshots):
        cell = page.locator(".jp-CodeCell").first
        cell.locator(".cm-content").click()
        page.keyboard.press("Control+a")
        page.keyboard.type("Vgg16::ne")
        # JupyterLab waits a second for completions; a kernel that has just started takes longer.
        for _ in range(10):
            page.wait_for_timeout(1500)
            if "Vgg16::new(" in cell.inner_text():
                break
            page.keyboard.press("Tab")
        assert "Vgg16::new(" in cell.inner_text()
        page.keyboard.press("Control+a")
        page.keyboard.type("Vgg16")
        page.keyboard.press("Shift+Tab")
        page.get_by_text("13 convolutions in five blocks").first.wait_for(timeout=30_000)
        page.screenshot(path=screenshots / "inspected.png")


def test_restart_and_run_all_starts_a_new_kernel(lab):
    with opened(lab, "restarted.ipynb") as (page, _, screenshots):
        choose(page, "Run", "Run All Cells")
        last = page.locator(".jp-CodeCell").last
        # The execution count arrives after the answer. It would increase if the kernel did not restart.
        prompt = last.locator(".jp-InputPrompt").get_by_text("[2]:", exact=True).first
        answer = last.locator(".jp-OutputArea-output pre")
        answer.get_by_text("42").wait_for(timeout=60_000)
        prompt.wait_for(timeout=30_000)
        choose(page, "Kernel", "Restart Kernel and Run All Cells…")
        page.get_by_role("button", name="Confirm Kernel Restart").click()
        answer.get_by_text("42").wait_for(state="detached", timeout=30_000)
        answer.get_by_text("42").wait_for(timeout=60_000)
        prompt.wait_for(timeout=30_000)
        page.screenshot(path=screenshots / "restarted.png")
