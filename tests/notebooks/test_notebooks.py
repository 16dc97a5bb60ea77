"""Every notebook, executed without an error, by each road that leads to it."""

import os
import re
import subprocess
from pathlib import Path

import nbclient
import nbformat
import pytest
from conftest import HEADSTART, ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text(notebook):
    return "".join(output.text for output in outputs(notebook) if output.output_type == "stream")


def pictures(notebook):
    return [output.data["image/svg+xml"] for output in outputs(notebook) if "image/svg+xml" in output.get("data", {})]


def losses(notebook):
    return [float(loss) for loss in re.findall(r" - loss: ([\d.]+)", text(notebook))]


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """The quickstart as the README's first command leaves it."""
    path = tmp_path_factory.mktemp("quickstart") / "quickstart.ipynb"
    command = [HEADSTART, "run", ROOT / "notebooks" / "quickstart.ipynb", "--html", "--output", path]
    subprocess.run(command, check=True, timeout=300)
    assert "<svg" in path.with_suffix(".html").read_text()
    return nbformat.read(path, 4)


def check_quickstart(notebook):
    nbformat.validate(notebook)
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert len(losses(notebook)) == 10
    assert 0 <= float(re.search(r"Prediction for first image: (\d\.\d\d)", text(notebook))[1]) <= 1
    summaries = [output.data["text/plain"] for output in outputs(notebook) if "text/html" in output.get("data", {})]
    assert any("17,926,209" in summary and "3,211,521" in summary for summary in summaries)
    assert len(pictures(notebook)) == 1 and "</svg>" in pictures(notebook)[0]


def test_the_quickstart_runs_headless(quickstart):
    check_quickstart(quickstart)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_is_kept_without_outputs_and_names_its_kernel(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert outputs(notebook) == []
    assert notebook.metadata.kernelspec.name == "headstart"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_runs_through_nbconvert(path, tmp_path, quickstart):
    command = ["jupyter", "nbconvert", "--to", "notebook", "--execute", "--output-dir", tmp_path, path]
    subprocess.run(command, check=True, timeout=400)
    notebook = nbformat.read(tmp_path / path.name, 4)
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    if path.stem == "looking_inside":
        # The finder's chart, two trainings', the confusion matrix, mistakes, heat and maps.
        assert len(pictures(notebook)) == 7
        assert float(re.search(r"^accuracy: ([\d.]+)", text(notebook), re.M)[1]) >= 0.9, "nine of ten, it says"
        assert re.search(r"^\d MB, and the same answers", text(notebook), re.M)
    if path.stem == "what_is_transfer_learning":
        # Drawings, two sheets of maps, two embeddings, the comparison.
        assert len(pictures(notebook)) == 6
        assert float(re.search(r"^transfer +accuracy ([\d.]+)", text(notebook), re.M)[1]) >= 0.9, "nine of ten, it says"
    if path.stem == "quickstart":
        check_quickstart(notebook)
        assert losses(notebook) == losses(quickstart), "one seed gives one history"


def test_your_own_images_runs_on_a_folder_of_ones_own(tmp_path):
    """Three classes, one of grey pictures; predictions stand beside them."""
    from PIL import Image, ImageDraw

    for name, mode, fill in (("dark", "L", 40), ("green", "RGB", (30, 200, 30)), ("red", "RGBA", (220, 30, 30, 128))):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(8):
            picture = Image.new(mode, (50 + number, 40))
            ImageDraw.Draw(picture).ellipse((number, 3, 30 + number, 35), fill=fill)
            picture.save(tmp_path / "pictures" / name / f"{number}.png")
    target = tmp_path / "own.ipynb"
    environment = os.environ | {"HEADSTART_IMAGES": str(tmp_path / "pictures")}
    command = [HEADSTART, "run", ROOT / "notebooks" / "your_own_images.ipynb", "--output", target]
    subprocess.run(command, check=True, timeout=300, env=environment)
    notebook = nbformat.read(target, 4)
    assert '["dark", "green", "red"]: 15 pictures to learn from, 9 kept aside' in text(notebook)
    assert losses(notebook)[-1] < losses(notebook)[0]
    shown = pictures(notebook)
    assert len(shown) == 3 and shown[0].count("<image") == 15 and shown[2].count("<image") == 9
    assert re.search(r">(dark|green|red) [01]\.\d\d", shown[2])


def test_the_quickstart_runs_in_the_stock_kernel(quickstart):
    """evcxr_jupyter 0.22 with `:dep headstart`: the same numbers, and the chart when the cell ends."""
    notebook = nbformat.read(ROOT / "notebooks" / "quickstart.ipynb", 4)
    load = f':dep headstart = {{ path = "{ROOT}" }}\nuse headstart::prelude::*;'
    notebook.cells.insert(0, nbformat.v4.new_code_cell(load))
    # The first time, cargo builds candle once more, as it does for a user of the stock kernel.
    nbclient.NotebookClient(notebook, kernel_name="stock", timeout=1800, startup_timeout=120).execute()
    check_quickstart(notebook)
    assert losses(notebook) == losses(quickstart)
