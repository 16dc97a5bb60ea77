"""`headstart run` when the session itself fails: one error, and a notebook that is written."""

import os
import shutil

import nbformat
import pytest
from test_command import headstart, notebook

CELLS = ["1", "2", "3"]


@pytest.fixture
def source(tmp_path):
    """A notebook whose first cell is expected to fail, and whose cells have outputs of an earlier run."""
    path = notebook(tmp_path / "a.ipynb", *CELLS)
    content = nbformat.read(path, 4)
    content.cells[0].metadata["tags"] = ["raises-exception"]
    for cell in content.cells:
        cell.outputs = [nbformat.v4.new_output("stream", text="old")]
    nbformat.write(content, path)
    return path


def without_rust(folder):
    (folder / "empty").mkdir()
    return {"PATH": str(folder / "empty")}, "Rust cannot be used"


def without_cargo(folder):
    """A compiler without cargo, as after an incomplete installation."""
    (folder / "rustc").symlink_to(shutil.which("rustc"))
    return {"PATH": str(folder), "RUSTUP_HOME": str(folder / "none")}, "cannot"


def without_cache(folder):
    (folder / "file").write_text("")
    return {"XDG_CACHE_HOME": str(folder / "file")}, "Not a directory"


def with_a_wrong_configuration(folder):
    (folder / "evcxr.toml").write_text('[evcxr]\ntmpdir = "/tmp/all"\n')
    return {"EVCXR_CONFIG_DIR": str(folder)}, "tmpdir"


@pytest.mark.parametrize("fault", [without_rust, without_cargo, without_cache, with_a_wrong_configuration])
@pytest.mark.parametrize("arguments", [[], ["--allow-errors"], ["--allow-errors", "--timeout", "20"]])
def test_a_session_that_cannot_start_is_reported_once(fault, arguments, source, tmp_path):
    changed, problem = fault(tmp_path)
    second = notebook(tmp_path / "b.ipynb", "4")
    target = tmp_path / "results"
    done = headstart("run", source, second, *arguments, "-o", target, env=os.environ | changed)
    assert done.returncode == 1 and problem in done.stderr, done.stderr
    assert done.stderr.count("StartError") == 1 and "cell 1 failed" in done.stderr, done.stderr
    written = nbformat.read(target / "a.ipynb", 4)
    nbformat.validate(written)
    first, *others = written.cells
    [output] = first.outputs
    assert output.ename == "StartError" and problem in "\n".join(output.traceback)
    assert [(cell.outputs, cell.execution_count) for cell in others] == [([], None)] * 2
    assert not (target / "b.ipynb").exists(), "the next notebook could not start either"


def test_an_output_that_cannot_be_written_is_reported_before_the_cells_run(source, tmp_path):
    for target in (tmp_path / "none" / "b.ipynb", tmp_path / "a.ipynb" / "b.ipynb"):
        done = headstart("run", source, "-o", target)
        assert done.returncode == 1 and f"{target} cannot be written" in done.stderr, done.stderr
        assert "[1/3]" not in done.stderr
