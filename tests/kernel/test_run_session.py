"""`headstart run` when the session fails or the run is stopped, and what it writes."""

import os
import shutil
import signal
import subprocess

import nbformat
import pytest
from conftest import CACHE, HEADSTART, Kernel
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


def test_an_update_of_an_earlier_cells_display_is_in_the_notebook(tmp_path):
    cells = ['let shown = display(&Text::new("before"));', 'shown.update(&Text::new("after"));', 'println!("last");']
    path = notebook(tmp_path / "a.ipynb", *cells)
    done = headstart("run", path)
    assert done.returncode == 0, done.stderr
    first, second, _ = nbformat.read(path, 4).cells
    assert [output.data["text/plain"] for output in first.outputs] == ["after"] and second.outputs == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_writes_the_outputs_so_far(tmp_path, number):
    wait = 'println!("begun"); loop { check_interrupt()?; std::thread::sleep(std::time::Duration::from_millis(10)); }'
    path = notebook(tmp_path / "a.ipynb", "6 * 7", wait, "3")
    running = subprocess.Popen(
        [HEADSTART, "run", path, "--allow-errors"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout.readline() == "begun\n"
    running.send_signal(number)
    said = running.communicate(timeout=60)[1]
    assert running.returncode == 1 and "cell 2 failed" in said and "Interrupted" in said, said
    first, second, third = nbformat.read(path, 4).cells
    assert first.outputs[0].data["text/plain"] == "42"
    assert [output.output_type for output in second.outputs] == ["stream", "error"] and third.outputs == []


def test_the_timeout_ends_a_cell_that_waits_for_input(tmp_path):
    path = notebook(tmp_path / "a.ipynb", 'input("name? ")?')
    command = [HEADSTART, "run", path, "--timeout", "5"]
    # An open pipe, into which nothing is written.
    process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.wait(timeout=120) == 1
    process.stdin.close()
    shown = process.stderr.read()
    process.stderr.close()
    assert "name? " in shown and "ran longer than" in shown, shown
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_between_two_notebooks_runs_no_further_one(tmp_path, number):
    paths = [notebook(tmp_path / f"{name}.ipynb", "1") for name in "abcd"]
    running = subprocess.Popen([HEADSTART, "run", *paths], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout.readline() == f"wrote {paths[0]}\n"
    running.send_signal(number)
    out, said = running.communicate(timeout=60)
    assert running.returncode == 1 and "stopped" in said, said
    assert str(paths[2]) not in out and str(paths[3]) not in out


def test_one_signal_ends_a_question_at_a_terminal(tmp_path):
    path = notebook(tmp_path / "a.ipynb", '"before"', 'let name = input("Name? ")?;', "3")
    master, terminal = os.openpty()
    running = subprocess.Popen(
        [HEADSTART, "run", path], stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    os.close(terminal)
    said = ""
    while not said.endswith("Name? "):
        said += running.stderr.read(1)
    running.send_signal(signal.SIGINT)
    rest = running.communicate(timeout=60)[1]
    os.close(master)
    assert running.returncode == 1 and "cell 2 failed" in rest and "Interrupted" in rest, rest
    first, _, third = nbformat.read(path, 4).cells
    assert first.outputs[0].data["text/plain"] == '"before"' and third.outputs == []


def test_answers_are_read_from_standard_input(tmp_path):
    path = notebook(tmp_path / "a.ipynb", 'let a = input("A? ")?; let b = input("B? ")?;', 'a + "-" + &b', 'input("C? ").is_err()')
    done = headstart("run", path, input="one\ntwo\n")
    assert done.returncode == 0, done.stderr
    values = [cell.outputs[0].data["text/plain"] for cell in nbformat.read(path, 4).cells[1:]]
    assert values == ['"one-two"', "true"]


def test_the_output_may_be_a_link_or_a_device(tmp_path):
    real = notebook(tmp_path / "real.ipynb", "6 * 7")
    real.chmod(0o600)
    link = tmp_path / "link.ipynb"
    link.symlink_to(real.name)
    assert headstart("run", link).returncode == 0
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o600
    assert nbformat.read(real, 4).cells[0].outputs[0].data["text/plain"] == "42"
    # A pipe stands for all devices.
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True)
    done = headstart("run", real, "-o", tmp_path / "pipe")
    written = reader.communicate(timeout=60)[0]
    assert done.returncode == 0 and nbformat.reads(written, 4).cells[0].outputs[0].data["text/plain"] == "42", done.stderr


def test_a_cell_with_the_tag_skip_execution_keeps_its_outputs(tmp_path):
    path = notebook(tmp_path / "a.ipynb", 'panic!("no")', "1 + 1")
    content = nbformat.read(path, 4)
    content.cells[0].metadata["tags"] = ["skip-execution"]
    content.cells[0].outputs = [nbformat.v4.new_output("stream", text="of yesterday")]
    nbformat.write(content, path)
    assert headstart("run", path).returncode == 0
    first, second = nbformat.read(path, 4).cells
    assert first.outputs[0].text == "of yesterday" and second.outputs[0].data["text/plain"] == "2"


def test_a_notebook_in_another_language_is_refused(tmp_path):
    path = notebook(tmp_path / "a.ipynb", "import numpy as np")
    content = nbformat.read(path, 4)
    content.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content.cells[0].outputs = [nbformat.v4.new_output("stream", text="hours of work")]
    nbformat.write(content, path)
    before = path.read_text()
    done = headstart("run", path)
    assert done.returncode == 1 and "found one in python" in done.stderr and path.read_text() == before


def test_a_failure_whose_cause_is_gone_is_not_repeated(tmp_path):
    # The first session of a cache fails without a linker.
    cache = tmp_path / "cache"
    shutil.copytree(CACHE / "templates", cache / "headstart" / "templates", copy_function=os.link)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("rustc", "cargo", "sh"):
        (programs / name).symlink_to(shutil.which(name))
    path = notebook(tmp_path / "a.ipynb", "6 * 7")
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    assert headstart("run", path, env=environment | {"PATH": str(programs)}).returncode == 1
    done = headstart("run", path, env=environment)
    assert done.returncode == 0, done.stderr


def test_parameters_keep_a_notebook_of_format_4_4_valid(tmp_path):
    path = notebook(tmp_path / "a.ipynb", "let n = 1;", "n")
    content = nbformat.read(path, 4)
    content.nbformat_minor = 4
    for cell in content.cells:
        del cell["id"]
    content.cells[0].metadata["tags"] = ["parameters"]
    path.write_text(nbformat.writes(content))
    assert headstart("run", path, "-p", "n=5").returncode == 0
    executed = nbformat.read(path, 4)
    nbformat.validate(executed)
    assert executed.cells[2].outputs[0].data["text/plain"] == "5"


def test_a_kernel_without_a_usable_cache_answers_and_names_the_reason(tmp_path):
    for folder, said in ((tmp_path / "a b", "a folder with a space"), (tmp_path / "file" / "cache", "Not a directory")):
        (tmp_path / "file").write_text("")
        kernel = Kernel(env=os.environ | {"XDG_CACHE_HOME": str(folder)})
        try:
            for _ in range(2):
                cell = kernel.run("1")
                assert cell.reply["ename"] == "StartError" and said in cell.traceback and str(folder) in cell.traceback
            assert kernel.client.complete("Vg", 2, reply=True, timeout=10)["content"]["matches"] == []
        finally:
            kernel.stop()


def test_a_cache_with_unusual_characters_works(tmp_path):
    cache = tmp_path / "a,b'é[x]#$yค่า"
    shutil.copytree(CACHE / "templates", cache / "headstart" / "templates", copy_function=os.link)
    path = notebook(tmp_path / "a.ipynb", "Tensor::zeros(2, DType::F32, &device())?.dims()")
    done = headstart("run", path, env=os.environ | {"XDG_CACHE_HOME": str(cache)})
    assert done.returncode == 0, done.stderr
    assert nbformat.read(path, 4).cells[0].outputs[0].data["text/plain"] == "[2]"


@pytest.mark.parametrize("manifest", ["[workspace]\nmembers = []\n", "", "no manifest"])
def test_a_cargo_manifest_above_the_cache_has_no_effect(tmp_path, manifest):
    (tmp_path / "Cargo.toml").write_text(manifest)
    cache = tmp_path / ".cache"
    shutil.copytree(CACHE / "templates", cache / "headstart" / "templates", copy_function=os.link)
    path = notebook(tmp_path / "a.ipynb", "1 + 1")
    done = headstart("run", path, env=os.environ | {"XDG_CACHE_HOME": str(cache)})
    assert done.returncode == 0, done.stderr


def test_a_page_has_images_markdown_and_the_line_of_an_error(tmp_path):
    cells = [
        'println!("EVCXR_BEGIN_CONTENT image/png\\niVBORw0KGgo=\\nEVCXR_END_CONTENT");',
        'println!("EVCXR_BEGIN_CONTENT text/markdown\\n**bold**\\nEVCXR_END_CONTENT");',
        "let v: Vec<u8> = vec![];\nv[1]",
    ]
    path = notebook(tmp_path / "a.ipynb", *cells)
    assert headstart("run", path, "--allow-errors", "--html").returncode == 0
    page = (tmp_path / "a.html").read_text()
    assert 'src="data:image/png;base64,iVBORw0KGgo="' in page and "<strong>bold</strong>" in page
    assert "Panic: index out of bounds" in page and "2 │ v[1]" in page and "\x1b" not in page
