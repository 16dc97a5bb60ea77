"""Browser test of the image cleaner in JupyterLab."""

import csv
import time

from test_lab import choose, lab, opened  # noqa: F401 - `lab` is a fixture
from test_widgets import notebook, run_last

IMAGES = 4
CLEANER = [
    'draw_demo_images("cleaned", 2, 64, 1)?; let images = Images::from_directory("cleaned", (64, 64))?;\n'
    "let model = sequential![Input::new((3, 64, 64)), Flatten, Dense::new(2).activation(Softmax)]?;",
    f'images.cleaner(&model.predict(&images.x)?, {IMAGES}, "edits.csv")?',
]


def edits(path):
    if not path.exists():
        return {}
    with open(path, newline="") as file:
        return {row["filename"]: (row["edit"], row["class"]) for row in csv.DictReader(file)}


def wait_for_edits(path, expected):
    end = time.monotonic() + 20
    while sorted(edits(path).values()) != sorted(expected):
        assert time.monotonic() < end, edits(path)
        time.sleep(0.1)


def choices(lists):
    """The selected options of the dropdowns, once all are shown."""
    lists.nth(IMAGES - 1).wait_for(timeout=60_000)
    assert lists.count() == IMAGES
    shown = [lists.nth(at).locator("option:checked").inner_text() for at in range(IMAGES)]
    return [text.replace("\xa0", " ") for text in shown]


def test_choices_are_written_and_shown_again(lab):  # noqa: F811
    folder = lab[1]
    notebook(folder, "cleaner.ipynb", CLEANER)
    with opened(lab, "cleaner.ipynb") as (page, _, screenshots):
        choose(page, "Run", "Run All Cells")
        lists = page.locator(".jp-CodeCell").last.locator(".widget-dropdown select")
        assert choices(lists) == ["keep"] * IMAGES
        images = page.locator(".jp-CodeCell").last.locator(".widget-image, img.jupyter-widgets")
        assert images.count() == IMAGES
        assert all(images.nth(at).evaluate("image => image.naturalWidth") == 64 for at in range(IMAGES))
        lists.nth(0).select_option("drop")
        wait_for_edits(folder / "edits.csv", [("drop", "")])
        lists.nth(2).select_option("is dogs")
        wait_for_edits(folder / "edits.csv", [("drop", ""), ("relabel", "dogs")])
        page.get_by_text("2 edits in").first.wait_for(timeout=20_000)
        page.screenshot(path=screenshots / "cleaner.png")
        # A page that is loaded again, and a new cleaner.
        page.keyboard.press("Control+s")
        page.wait_for_function("!document.querySelector('.jp-mod-dirty')")
        page.reload()
        page.locator(".jp-Toolbar-kernelName", has_text="Headstart (Rust)").wait_for(timeout=60_000)
        lists = page.locator(".jp-CodeCell").last.locator(".widget-dropdown select")
        assert choices(lists) == ["drop", "keep", "is dogs", "keep"]
        before = lists.nth(0).element_handle()
        run_last(page)
        page.wait_for_function("list => !list.isConnected", arg=before)
        assert choices(lists) == ["drop", "keep", "is dogs", "keep"]
    assert len(edits(folder / "edits.csv")) == 2
