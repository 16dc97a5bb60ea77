"""Browser tests of the saved lessons' figures: no text is cut off, and no two texts overlap."""

import shutil

import nbformat
import pytest
from conftest import ROOT
from playwright.sync_api import sync_playwright

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FIGURES = sorted((ROOT / "notebooks").glob("*.svg"))
# Width of a notebook's column and of a README, in pixels.
COLUMN = 790
# Pixels by which lines may overlap: the box of a text is as high as the whole line, letters are smaller.
TOLERANCE = 4
BOXES = """
() => [...document.querySelectorAll('svg > text')].filter(text => !text.hasAttribute('transform')).map(text => {
  const box = text.getBBox()
  return {text: text.textContent, size: parseFloat(getComputedStyle(text).fontSize), x: box.x, y: box.y, right: box.x + box.width, bottom: box.y + box.height}
})
"""


@pytest.fixture(scope="module")
def page():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser.new_page()
        browser.close()


def figures(path):
    notebook = nbformat.read(path, 4)
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if "image/svg+xml" in output.get("data", {}):
                yield number, output.data["image/svg+xml"]


def check(page, svg, where, most=COLUMN):
    page.set_content(f"<body style='margin:0'>{svg}</body>")
    _, _, width, height = (float(value) for value in page.get_attribute("svg", "viewBox").split())
    assert width <= most, f"{where}: wider than its column"
    # A figure that is wider than the column is scaled down, with its text.
    least = 12 * max(1, width / COLUMN)
    boxes = [box for box in page.evaluate(BOXES) if box["text"].strip()]
    for box in boxes:
        assert box["size"] >= least, f"{where}: `{box['text']}` has {box['size']} px"
        inside = box["x"] >= -1 and box["right"] <= width + 1 and box["y"] >= -2 and box["bottom"] <= height + 2
        assert inside, f"{where}: `{box['text']}` is cut"
    for at, one in enumerate(boxes):
        for other in boxes[at + 1 :]:
            across = min(one["right"], other["right"]) - max(one["x"], other["x"])
            down = min(one["bottom"], other["bottom"]) - max(one["y"], other["y"])
            assert across <= 0 or down <= TOLERANCE, f"{where}: `{one['text']}` and `{other['text']}` overlap"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_text_of_a_figure_is_cut_off_or_covered(page, path):
    for number, svg in figures(path):
        check(page, svg, f"{path.stem}, cell {number}")


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.stem)
def test_no_text_of_a_readme_figure_is_cut_off_or_covered(page, path):
    check(page, path.read_text(), path.stem, most=1200)
