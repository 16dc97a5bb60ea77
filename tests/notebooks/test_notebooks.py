"""Every notebook runs without an error in each supported way."""

import csv
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import nbclient
import nbformat
import pytest
from conftest import HEADSTART, ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Number of figures in each notebook. The notebooks themselves check the claims of their prose.
FIGURE_COUNTS = {
    "0_start_here": 2,
    "1_what_is_transfer_learning": 6,
    "2_vgg16_and_resnet50": 8,
    "3_the_workflow": 8,
    "4_the_program": 4,
    "5_fine_tuning": 9,
    "6_resnet50_instead": 4,
    "7_next_steps": 9,
    "8_photographs": 4,
    "9_honest_evaluation": 4,
    "10_neighbours_and_probes": 4,
    "11_learning_rates": 5,
    "12_little_data": 6,
    "13_calibration": 5,
    "14_cleaning_data": 4,
    "15_deploying": 2,
    "16_choosing_a_backbone": 3,
    "your_own_images": 4,
}

EXPERIMENTS = ROOT / "examples" / "course"
# Photographs for lesson 8, with a folder for each class: not part of the project, and the saved lesson was executed with
# them, through this link. Without them the lesson draws its images.
PHOTOS = Path(os.environ["HEADSTART_TEST_PHOTOS"]) if "HEADSTART_TEST_PHOTOS" in os.environ else None
LINK = Path(tempfile.gettempdir()) / "photographs"
LITE0 = os.environ["HEADSTART_LITE0"]


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text(notebook):
    return "".join(output.text for output in outputs(notebook) if output.output_type == "stream")


def figures_of(notebook):
    return [output.data["image/svg+xml"] for output in outputs(notebook) if "image/svg+xml" in output.get("data", {})]


def check_figures(found):
    """Figures are self-contained SVG documents without scripts, with a title for screen readers."""
    for figure in found:
        root = ElementTree.fromstring(figure)
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.get("role") == "img"
        assert root.find("{http://www.w3.org/2000/svg}title").text and "<script" not in figure


def losses(notebook):
    return [float(loss) for loss in re.findall(r" - loss: ([\d.]+)", text(notebook))]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The program, executed by the README's first command."""
    path = tmp_path_factory.mktemp("program") / "4_the_program.ipynb"
    command = [HEADSTART, "run", ROOT / "notebooks" / "4_the_program.ipynb", "--html", "--output", path]
    subprocess.run(command, check=True)
    assert "<svg" in path.with_suffix(".html").read_text()
    return nbformat.read(path, 4)


def check_program(notebook, figures=FIGURE_COUNTS["4_the_program"]):
    nbformat.validate(notebook)
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert len(losses(notebook)) == 10
    assert 0 <= float(re.search(r"Prediction for first image: (\d\.\d\d)", text(notebook))[1]) <= 1
    summaries = [output.data["text/plain"] for output in outputs(notebook) if "text/html" in output.get("data", {})]
    assert any("17,926,209" in summary and "3,211,521" in summary for summary in summaries)
    assert len(figures_of(notebook)) == figures and all("</svg>" in figure for figure in figures_of(notebook))


def test_the_program_runs_headless(program):
    check_program(program)


def shown(notebook):
    """What each cell shows, without its numbers: kinds of output, and the lines of their texts."""
    found = []
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        lines = set()
        for output in cell.outputs:
            data = output.get("data", {})
            lines.add(" ".join(sorted(data)))
            lines.update((output.get("text") or data.get("text/plain") or "").splitlines())
        # A number with another digit shifts its column, so runs of spaces become one space.
        numberless = (re.sub(r"[-\d.,eE]*\d[a-zµ]*|[▁-█]+", "n", line) for line in lines)
        found.append({" ".join(line.split()) for line in numberless})
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_is_saved_with_its_outputs_and_names_its_kernel(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert path.stat().st_size < 400_000
    assert notebook.metadata.kernelspec.name == "headstart"


def solutions(notebook):
    """Solutions that are folded below the exercises."""
    prose = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.findall(r"```rust\n(.*?)```", prose.partition("<details><summary>Solutions")[2], re.S)


def environment_of(path):
    """Environment in which a notebook runs; lesson 8 reads photographs if there are any."""
    environment = {name: value for name, value in os.environ.items() if name != "HEADSTART_LITE0"}
    if path.stem == "8_photographs" and PHOTOS:
        if not LINK.exists():
            LINK.symlink_to(PHOTOS)
        environment |= {"HEADSTART_PHOTOS": str(LINK), "HEADSTART_LITE0": LITE0}
    return environment


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_and_its_solutions_run_through_nbconvert(path, tmp_path, program):
    kept = nbformat.read(path, 4)
    solved = nbformat.from_dict(kept)
    solved.cells += [nbformat.v4.new_code_cell(code) for code in solutions(kept)]
    assert len(solved.cells) > len(kept.cells) or path.stem == "your_own_images"
    nbformat.write(solved, tmp_path / "solved.ipynb")
    command = ["jupyter", "nbconvert", "--to", "notebook", "--execute", "--inplace", tmp_path / "solved.ipynb"]
    subprocess.run(command, check=True, env=environment_of(path))
    solved = nbformat.read(tmp_path / "solved.ipynb", 4)
    assert all(cell.outputs for cell in solved.cells[len(kept.cells) :] if not cell.source.startswith("fn "))
    notebook = nbformat.from_dict(solved | {"cells": solved.cells[: len(kept.cells)]})
    assert not [output for output in outputs(solved) if output.output_type == "error"]
    assert len(figures_of(notebook)) == FIGURE_COUNTS[path.stem]
    check_figures(figures_of(notebook))
    if path.stem != "8_photographs" or PHOTOS:
        assert shown(kept) == shown(notebook), "stale: run `headstart run notebooks/*.ipynb`"
    if path.stem == "4_the_program":
        check_program(notebook)
        assert losses(notebook) == losses(program), "one seed gives one history"


def runs(name):
    """Results of an experiment: for each key, the values of all seeds."""
    found = defaultdict(list)
    with open(EXPERIMENTS / f"{name}.csv") as file:
        for row in csv.DictReader(file):
            found[tuple(row.values())[:2]].append(row)
    return found


def numbers(name, variable):
    """The rows of numbers that a lesson's cell assigns to a variable."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
    cell = next(cell.source for cell in notebook.cells if f"let {variable} = [" in cell.source)
    body = cell.partition(f"let {variable} = [")[2].partition("\n];")[0]
    rows = (line for line in body.splitlines() if line.strip())
    return [[float(number) for number in re.findall(r"(?<![\w ])\s?-?\d+(?:\.\d+)?(?:e-?\d+)?", re.sub(r'".*?",', "", row))] for row in rows]


def mean_and_deviation(rows, column="accuracy"):
    values = [float(row[column]) for row in rows]
    return statistics.mean(values), statistics.stdev(values)


def test_lesson_1_shows_the_measured_learning_curve():
    measured = runs("learning_curve")
    for images, *shown in numbers("1_what_is_transfer_learning", "measured"):
        both = [mean_and_deviation(measured[way, str(int(images))]) for way in ("transfer", "scratch")]
        assert shown == pytest.approx([*both[0], *both[1]], abs=1e-4), images


def test_lesson_2_shows_the_measured_losses():
    measured = runs("depth_losses")
    towers = [(tower, layers) for layers in ("8", "24", "56") for tower in ("plain", "residual")]
    shown = numbers("2_vgg16_and_resnet50", "losses")
    assert len(shown) == 6
    for tower, row in zip(towers, shown):
        steps = defaultdict(list)
        for run in measured[tower]:
            steps[int(run["step"])].append(float(run["loss"]))
        means = [statistics.mean(losses) for _, losses in sorted(steps.items())]
        assert row == pytest.approx(means, abs=0.0051), tower


def test_lesson_5_shows_the_measured_rates():
    measured = runs("fine_tuning")
    for rate, *shown in numbers("5_fine_tuning", "rates"):
        rows = measured["all", f"{rate:.0e}".replace("e-0", "e-")]
        assert shown == pytest.approx(mean_and_deviation(rows), abs=1e-4), rate


def test_lesson_12_shows_the_measured_differences():
    """Each row of a variable has the differences of one way and size, one for each seed."""
    ways = ("augmented", "mixup", "smoothing", "all three")
    measured = {key: {row["seed"]: row for row in rows} for key, rows in runs("little_data").items()}
    tables = [
        ("accuracy", ways, "accuracy", lambda way, size: ("plain", size)),
        ("loss", ways, "loss", lambda way, size: ("plain", size)),
        ("view_accuracy", ("plain", "augmented"), "accuracy_views", lambda way, size: (way, size)),
        ("view_loss", ("plain", "augmented"), "loss_views", lambda way, size: (way, size)),
    ]
    for variable, compared, column, reference in tables:
        shown = numbers("12_little_data", variable)
        keys = [(way, size) for size in ("20", "50", "100") for way in compared]
        assert len(shown) == len(keys)
        for key, row in zip(keys, shown):
            base = measured[reference(*key)]
            plain = column.removesuffix("_views")
            seeds = sorted(measured[key], key=int)
            expected = [float(measured[key][seed][column]) - float(base[seed][plain]) for seed in seeds]
            assert row == pytest.approx(expected, abs=6e-4), (variable, key)


def test_lesson_15s_export_agrees_with_onnxruntime(tmp_path):
    """The Python code of the lesson, on the files that the lesson writes."""
    path = ROOT / "notebooks" / "15_deploying.ipynb"
    subprocess.run([HEADSTART, "run", path, "--output", tmp_path / "15_deploying.ipynb"], check=True)
    prose = "".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
    code = re.search(r"```python\n(.*?)```", prose, re.S)[1].replace("/tmp/", f"{tempfile.gettempdir()}/")
    worst = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert 0 <= float(worst) < 1e-4, worst


def test_photographs_run_without_photographs(tmp_path):
    """Without photographs, the lesson uses the library's demo images and demo weights, so it runs anywhere."""
    environment = {name: value for name, value in os.environ.items() if name != "HEADSTART_LITE0"}
    target = tmp_path / "drawn.ipynb"
    command = [HEADSTART, "run", ROOT / "notebooks" / "8_photographs.ipynb", "--output", target]
    subprocess.run(command, check=True, env=environment)
    assert "images of 64 by 64" in text(nbformat.read(target, 4))


if PHOTOS:

    def test_photographs_are_classified_and_damaged_files_left_out(tmp_path):
        """ImageNet weights on photographs, among them an empty and a truncated file."""
        folder = tmp_path / "photographs"
        for source in sorted(PHOTOS.glob("*/*")):
            (folder / source.parent.name).mkdir(parents=True, exist_ok=True)
            (folder / source.parent.name / source.name).write_bytes(source.read_bytes())
        first = next(folder.glob("bird/*"))
        (folder / "bird" / "empty.jpg").write_bytes(b"")
        (folder / "mammal" / f"cut{first.suffix}").write_bytes(first.read_bytes()[:400])
        environment = os.environ | {"HEADSTART_PHOTOS": str(folder)}
        target = tmp_path / "photographs.ipynb"
        command = [HEADSTART, "run", ROOT / "notebooks" / "8_photographs.ipynb", "--output", target]
        subprocess.run(command, check=True, env=environment)
        shown = text(nbformat.read(target, 4))
        assert "99 photographs" in shown and "empty.jpg" in shown and f"cut{first.suffix}" in shown
        assert float(re.search(r"test accuracy (\d\.\d+)", shown)[1]) > 0.85


def test_no_saved_lesson_contains_a_photograph():
    notebook = nbformat.read(ROOT / "notebooks" / "8_photographs.ipynb", 4)
    assert not any("<image" in figure for figure in figures_of(notebook))


def test_your_own_images_runs_on_a_users_folder(tmp_path):
    """Three classes, one of greyscale images; predictions are shown with the images."""
    from PIL import Image, ImageDraw

    for name, mode, fill in (("dark", "L", 40), ("green", "RGB", (30, 200, 30)), ("red", "RGBA", (220, 30, 30, 128))):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(8):
            image = Image.new(mode, (50 + number, 40))
            ImageDraw.Draw(image).ellipse((number, 3, 30 + number, 35), fill=fill)
            image.save(tmp_path / "images" / name / f"{number}.png")
    (tmp_path / "images" / "red" / "damaged.png").write_bytes(b"")
    source, target = tmp_path / "source.ipynb", tmp_path / "own.ipynb"
    new = (ROOT / "notebooks" / "your_own_images.ipynb").read_text()
    assert new.count('let new_image = \\"\\";') == 1
    source.write_text(new.replace('let new_image = \\"\\";', f'let new_image = \\"{tmp_path}/images/green/0.png\\";'))
    environment = os.environ | {"HEADSTART_IMAGES": str(tmp_path / "images")}
    subprocess.run([HEADSTART, "run", source, "--output", target], check=True, env=environment)
    notebook = nbformat.read(target, 4)
    assert re.search(r"left out as damaged: \[\S*/red/damaged.png", text(notebook))
    assert '["dark", "green", "red"]: 15 training images, 9 validation images' in text(notebook)
    shown = figures_of(notebook)
    assert len(shown) == 4 and shown[0].count("<image") == 15 and shown[2].count("<image") == 9
    assert re.search(r">(dark|green|red) \d+ %<", shown[2]) and shown[3].count("<image") == 1


def test_the_program_runs_in_the_stock_kernel(program):
    """evcxr_jupyter 0.22 with `:dep headstart`: the same numbers, and a chart at the end of the cell."""
    notebook = nbformat.read(ROOT / "notebooks" / "4_the_program.ipynb", 4)
    # Without the comparison with training from scratch, which takes minutes at the stock kernel's optimisation level.
    last = next(at for at, cell in enumerate(notebook.cells) if 'println!("Prediction' in cell.source)
    notebook.cells = notebook.cells[: last + 1]
    load = f':dep headstart = {{ path = "{ROOT}" }}\nuse headstart::prelude::*;'
    notebook.cells.insert(0, nbformat.v4.new_code_cell(load))
    plain = [nbformat.v4.new_code_cell(source) for source in ("let list = vec![40, 2];\nlist", "list[0] + list[1]")]
    notebook.cells += plain
    # In the first run, cargo compiles candle again, as for a user of the stock kernel.
    nbclient.NotebookClient(notebook, kernel_name="stock", timeout=None, startup_timeout=300).execute()
    shown = [cell.outputs[-1].data["text/plain"] for cell in notebook.cells[-2:]]
    assert shown == ["[40, 2]", "42"], "values without a look of their own"
    # The model, the augmented image and the training.
    check_program(notebook, figures=3)
    assert losses(notebook) == losses(program)
