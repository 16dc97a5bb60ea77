"""The headstart command: run, install, kernel, and others."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request

import nbformat
import pytest
from conftest import CACHE, HEADSTART, ROOT
from nbformat.sign import NotebookNotary


def headstart(*arguments, **options):
    return subprocess.run([HEADSTART, *map(str, arguments)], capture_output=True, text=True, **options)


def notebook(path, *cells):
    cells = [nbformat.v4.new_code_cell(source) for source in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_run_writes_outputs_and_a_page(tmp_path):
    source = notebook(tmp_path / "a.ipynb", 'println!("one & <two>");', "let n = 6;\nn * 7")
    done = headstart("run", source, "--output", tmp_path / "b.ipynb", "--html")
    assert done.returncode == 0, done.stderr
    assert "one & <two>" in done.stdout
    assert nbformat.read(source, 4).cells[0].outputs == [], "the source is as it was"
    executed = nbformat.read(tmp_path / "b.ipynb", 4)
    nbformat.validate(executed)
    assert [cell.execution_count for cell in executed.cells] == [1, 2]
    assert executed.cells[1].outputs[0].data["text/plain"] == "42"
    assert NotebookNotary().check_signature(nbformat.read(tmp_path / "b.ipynb", 4)), "Jupyter shows its images"
    page = (tmp_path / "b.html").read_text()
    assert "one &amp; &lt;two&gt;" in page and "<two>" not in page
    assert '<span class="kw">let</span> n = <span class="nm">6</span>' in page
    umask = os.umask(0o22)
    os.umask(umask)
    assert (tmp_path / "b.ipynb").stat().st_mode & 0o777 == 0o666 & ~umask


def tagged(path, defaults, *cells):
    source = notebook(path, defaults, *cells)
    content = nbformat.read(source, 4)
    content.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(content, source)
    return source


def test_run_accepts_parameters_as_papermill_does(tmp_path):
    source = tagged(tmp_path / "a.ipynb", "let epochs: usize = 2;\nlet rate = 1e-3;", "(epochs, rate)")
    target = tmp_path / "b.ipynb"
    done = headstart("run", source, "-p", "epochs=7", "--parameter", "rate=1", "-o", target)
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(target, 4)
    nbformat.validate(executed)
    assert executed.cells[2].outputs[0].data["text/plain"] == "(7, 1.0)"
    assert executed.cells[1].metadata.tags == ["injected-parameters"]
    assert executed.metadata.papermill.parameters == {"epochs": 7, "rate": 1}
    # A second run replaces the values.
    assert headstart("run", target, "-p", "epochs=8").returncode == 0
    assert nbformat.read(target, 4).cells[2].outputs[0].data["text/plain"] == "(8, 0.001)"


def test_glued_results_are_stored_in_the_notebook(tmp_path):
    cells = ['glue("accuracy", 0.93)?;', 'glue("losses", vec![0.5f32, f32::NAN])?;']
    source = notebook(tmp_path / "a.ipynb", *cells)
    done = headstart("run", source)
    assert done.returncode == 0, done.stderr
    outputs = [cell.outputs[0] for cell in nbformat.read(source, 4).cells]
    nbformat.validate(nbformat.read(source, 4))
    scraps = [output.data["application/scrapbook.scrap.json+json"] for output in outputs]
    assert scraps[0] == {"name": "accuracy", "data": 0.93, "encoder": "json", "version": 1}
    assert scraps[1]["data"] == [0.5, None]
    assert outputs[0].data["text/plain"] == "accuracy: 0.93"


def test_run_rejects_parameters_that_no_cell_defines(tmp_path):
    source = tagged(tmp_path / "a.ipynb", "let epochs = 2;")
    for argument, expected in [("epoch=3", "(epochs)"), ("epochs", "name=value"), ("a b=1", "Rust variable")]:
        done = headstart("run", source, "-p", argument)
        assert done.returncode != 0 and expected in done.stderr, done.stderr
    done = headstart("run", notebook(tmp_path / "c.ipynb", "1"), "-p", "n=1")
    assert done.returncode == 1 and "no cell has the tag `parameters`" in done.stderr


def test_run_stops_a_cell_at_the_timeout(tmp_path):
    endless = "loop { std::thread::sleep(std::time::Duration::from_millis(10)); headstart::check_interrupt()?; }"
    source = notebook(tmp_path / "a.ipynb", endless, "7")
    # Longer than the compilation of a cell on a slow machine.
    limit = ("--timeout", "15")
    done = headstart("run", source, *limit)
    assert done.returncode == 1 and "ran longer than 15s" in done.stderr, done.stderr
    cells = nbformat.read(source, 4).cells
    assert cells[0].outputs[-1].ename == "TimeoutError" and cells[1].outputs == []
    done = headstart("run", source, *limit, "--allow-errors")
    assert done.returncode == 0, done.stderr
    cells = nbformat.read(source, 4).cells
    assert cells[0].outputs[-1].ename == "TimeoutError" and cells[1].outputs[0].data["text/plain"] == "7"
    assert "positive number" in headstart("run", source, "--timeout", "0").stderr


def test_jupyter_trusts_an_executed_notebook_with_any_content(tmp_path):
    path = notebook(tmp_path / "a.ipynb", "1")
    content = nbformat.read(path, 4)
    content.metadata["values"] = [1e-5, -0.0001, 0.1, 1e15, 1e16, 2.0, 12345678901, True, False, None, {"Ä": "é"}]
    forms = {"image/png": "ab\ncd", "application/json": ["a", "b"]}
    content.cells.append(nbformat.v4.new_markdown_cell("# Ä\n\nb", attachments={"a.png": forms}))
    nbformat.write(content, path)
    not_there_yet = str(tmp_path / "jupyter")
    assert headstart("run", path, env=os.environ | {"JUPYTER_DATA_DIR": not_there_yet}).returncode == 0
    assert NotebookNotary(data_dir=not_there_yet).check_signature(nbformat.read(path, 4))


def test_run_stops_at_the_first_cell_that_fails(tmp_path):
    path = notebook(tmp_path / "a.ipynb", "1", "let v: Vec<u8> = vec![];\nv[1]", 'println!("never");')
    done = headstart("run", path)
    assert done.returncode == 1
    assert "cell 2 failed" in done.stderr and "index out of bounds" in done.stderr and "v[1]" in done.stderr
    first, second, third = nbformat.read(path, 4).cells
    assert first.outputs[0].data["text/plain"] == "1"
    assert second.outputs[0].ename == "Panic"
    assert (third.outputs, third.execution_count) == ([], None)


def test_run_continues_after_an_expected_error(tmp_path):
    path = notebook(tmp_path / "a.ipynb", "missing", "2")
    content = nbformat.read(path, 4)
    content.cells[0].metadata["tags"] = ["raises-exception"]
    nbformat.write(content, path)
    assert headstart("run", path).returncode == 0
    failed, after = nbformat.read(path, 4).cells
    assert failed.outputs[0].ename == "CompileError"
    assert after.outputs[0].data["text/plain"] == "2"


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "No such file"), ("{", "not a notebook"), ('{"nbformat": 3}', "format 4")]
)
def test_run_rejects_a_file_that_is_not_a_notebook(tmp_path, content, problem):
    path = tmp_path / "a.ipynb"
    if content is not None:
        path.write_text(content)
    done = headstart("run", path)
    assert done.returncode == 1 and problem in done.stderr and str(path) in done.stderr


def test_each_notebook_has_its_own_session(tmp_path):
    first = notebook(tmp_path / "first.ipynb", "let shared = 1;")
    second = notebook(tmp_path / "second.ipynb", "shared")
    done = headstart("run", first, second)
    assert done.returncode == 1 and "second.ipynb" in done.stderr and "shared" in done.stderr


def test_several_notebooks_are_written_into_a_folder(tmp_path):
    sources = [notebook(tmp_path / name, "6 * 7") for name in ("first.ipynb", "second.ipynb")]
    done = headstart("run", *sources, "--html", "--output", tmp_path / "lessons")
    assert done.returncode == 0, done.stderr
    written = sorted(path.name for path in (tmp_path / "lessons").iterdir())
    assert written == ["first.html", "first.ipynb", "index.html", "second.html", "second.ipynb"]
    index = (tmp_path / "lessons" / "index.html").read_text()
    assert index.count('<a class="card"') == 2 and 'href="second.html"' in index
    first = (tmp_path / "lessons" / "first.html").read_text()
    assert 'href="index.html"' in first and 'href="second.html"' in first and 'href="first.html"' not in first
    assert nbformat.read(sources[0], 4).cells[0].outputs == [], "the source is as it was"


def test_pages_are_linked_in_the_order_of_their_numbers(tmp_path):
    sources = [notebook(tmp_path / name, "6 * 7") for name in ("10_later.ipynb", "9_before.ipynb", "own.ipynb")]
    done = headstart("run", *sources, "--html", "--output", tmp_path / "lessons")
    assert done.returncode == 0, done.stderr
    index = (tmp_path / "lessons" / "index.html").read_text()
    assert re.findall(r'class="card" href="(\w+)', index) == ["9_before", "10_later", "own"]
    between = (tmp_path / "lessons" / "10_later.html").read_text()
    links = re.search(r"<nav>(.*?)</nav>", between)[1]
    assert re.findall(r'href="(\w+)', links) == ["9_before", "index", "own"]


def test_two_notebooks_of_one_name_do_not_overwrite_each_other(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    sources = [notebook(tmp_path / folder / "n.ipynb", "1") for folder in ("a", "b")]
    done = headstart("run", *sources, "--output", tmp_path / "lessons")
    assert done.returncode == 1 and "would both be written to" in done.stderr, done.stderr


def test_a_session_leaves_nothing_behind(tmp_path):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    shutil.copytree(CACHE / "templates", tmp_path / "headstart" / "templates", copy_function=os.link)
    assert headstart("run", notebook(tmp_path / "a.ipynb", "1"), env=environment).returncode == 0
    assert os.listdir(tmp_path / "headstart" / "sessions" / "target" / "package") == []


def test_install_writes_a_kernelspec_of_this_program(tmp_path):
    done = headstart("install", "--prefix", tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "share/jupyter/kernels/headstart"
    specification = json.loads((folder / "kernel.json").read_text())
    assert specification["argv"] == [str(HEADSTART), "kernel", "-f", "{connection_file}"]
    assert specification["interrupt_mode"] == "message"
    assert (folder / "logo-svg.svg").read_text().startswith("<svg")


def test_lab_opens_the_lessons(tmp_path):
    """Lessons that a learner has changed are not overwritten."""
    (tmp_path / "lessons").mkdir()
    own = notebook(tmp_path / "lessons" / "4_the_program.ipynb", "my own")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [HEADSTART, "lab", tmp_path / "lessons", "--", "--no-browser", "--allow-root", f"--port={port}", "--IdentityProvider.token=t"]
    lab = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(120):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/contents?token=t") as answer:
                    names = {entry["name"] for entry in json.load(answer)["content"]}
                break
            except OSError:
                time.sleep(0.5)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/kernelspecs?token=t") as answer:
            assert "headstart" in json.load(answer)["kernelspecs"]
    finally:
        lab.terminate()
        lab.wait(20)
    assert names == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert nbformat.read(own, 4).cells[0].source == "my own"
    first = nbformat.read(tmp_path / "lessons" / "1_what_is_transfer_learning.ipynb", 4)
    assert NotebookNotary().check_signature(first), "Jupyter shows its images"


def test_a_kernelspec_whose_program_is_gone_is_repaired_and_uninstalled(tmp_path):
    environment = os.environ | {"JUPYTER_DATA_DIR": str(tmp_path / "jupyter"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    (tmp_path / "cache" / "headstart").mkdir(parents=True)
    (tmp_path / "cache" / "headstart" / "templates").symlink_to(CACHE / "templates")
    specification = tmp_path / "jupyter" / "kernels" / "headstart" / "kernel.json"
    specification.parent.mkdir(parents=True)
    specification.write_text(json.dumps({"argv": ["/gone/headstart", "kernel"], "display_name": "a", "language": "rust"}))
    assert "/gone/headstart, which is not there" in headstart("doctor", env=environment).stdout
    (tmp_path / "jupyter-lab").write_text("#!/bin/sh\n")
    (tmp_path / "jupyter-lab").chmod(0o755)
    first = environment | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert headstart("lab", tmp_path / "lessons", env=first).returncode == 0
    assert json.loads(specification.read_text())["argv"][0] == str(HEADSTART)
    (tmp_path / "cache" / "headstart" / "templates").unlink()
    listed = headstart("cache", env=environment).stdout
    assert re.search(r"^preludes +\d+\.\d MB", listed, re.M) and "weights" in listed
    removed = headstart("uninstall", env=environment)
    assert removed.returncode == 0 and str(specification.parent) in removed.stdout, removed.stderr
    assert not specification.exists() and not (tmp_path / "cache" / "headstart" / "state").exists()


def test_a_missing_connection_file_is_named(tmp_path):
    done = headstart("kernel", "-f", tmp_path / "none.json")
    assert done.returncode == 1 and "none.json" in done.stderr


def test_weights_are_listed_with_their_paths(tmp_path):
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    listed = headstart("weights", "list", env=environment)
    assert listed.returncode == 0, listed.stderr
    assert re.search(r"^vgg16.tv_in1k +553 MB  top-1 71.6 %  BSD-3-Clause", listed.stdout, re.M), listed.stdout
    path = headstart("weights", "path", "resnet50.a1_in1k", env=environment).stdout.strip()
    assert path.endswith("timm--resnet50.a1_in1k/93271f4677dbf7b4d7f7e7d9d7811bd66c327e56/model.safetensors")
    unknown = headstart("weights", "path", 'no"such', env=environment)
    assert unknown.returncode == 1 and "expected one of vgg16.tv_in1k" in unknown.stderr
    assert unknown.stderr.startswith("error: ") and "Error:" not in unknown.stderr
    if not os.path.exists(path):
        fetched = headstart("weights", "fetch", "resnet50.a1_in1k", env=environment)
        assert fetched.returncode == 1 and "HF_HUB_OFFLINE" in fetched.stderr and path in fetched.stderr


def test_weights_are_listed_without_a_toolchain(tmp_path):
    environment = {"HOME": str(tmp_path), "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    listed = headstart("weights", "list", env=environment)
    assert listed.returncode == 0 and "vgg16.tv_in1k" in listed.stdout, listed.stderr
    path = headstart("weights", "path", "vgg16.tv_in1k", env=environment)
    assert path.returncode == 0 and path.stdout.startswith(str(tmp_path / "cache")), path.stderr
    networks = headstart("models", "list", env=environment)
    assert networks.returncode == 0, networks.stderr
    assert re.search(r"^resnet50 +25\.6 M +224 px +top-1 76\.\d % ", networks.stdout, re.M), networks.stdout
    assert len(networks.stdout.splitlines()) == (ROOT / "weights" / "models.toml").read_text().count("[[models]]")
    assert not (tmp_path / "cache" / "headstart" / "templates").exists()


def without_numbers(text):
    # A time with another digit shifts the columns, so runs of spaces become one space.
    return re.sub(r" +", " ", re.sub(r"[-\d.]*\d", "n", text))


def cargo_run(folder):
    command = ["cargo", "run", "--release", "--quiet", "--offline", "--manifest-path", folder / "Cargo.toml"]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")))
def test_an_exported_notebook_runs_as_a_program(tmp_path, name):
    done = headstart("export", ROOT / "notebooks" / f"{name}.ipynb", tmp_path / name)
    assert done.returncode == 0 and "cargo run" in done.stdout, done.stderr
    ran = cargo_run(tmp_path / name)
    assert ran.returncode == 0, ran.stderr
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells
    printed = [output.text for cell in cells for output in cell.get("outputs", []) if output.output_type == "stream"]
    last = printed[-1].splitlines()[-1]
    # The saved lesson on photographs was executed with photographs; the program here has none.
    if name != "8_photographs":
        assert without_numbers(last) in without_numbers(ran.stdout), f"{last}\n{ran.stdout[-2000:]}"


def test_an_exported_program_shows_what_the_cells_show(tmp_path):
    source = notebook(
        tmp_path / "two words.ipynb",
        "#[derive(Debug)]\nstruct Own(u8);\nOwn(7)",
        "fn f() -> Result<u8, std::num::ParseIntError> { \"42\".parse() }\nf()?",
        "fn f() -> u8 { 43 }\nf()",
        "Text::new(\"as it is\")",
        "missing",
        "\"x\".parse::<u8>()?;",
    )
    content = nbformat.read(source, 4)
    content.cells[4].metadata["tags"] = ["raises-exception"]
    content.cells.insert(0, nbformat.v4.new_markdown_cell("# A *title*"))
    nbformat.write(content, source)
    assert headstart("export", source, tmp_path / "program").returncode == 0
    ran = cargo_run(tmp_path / "program")
    assert ran.stdout.splitlines() == ["Own(7)", "42", "43", "as it is"], ran.stderr
    assert ran.returncode == 1 and "error: invalid digit" in ran.stderr
    assert "// # A *title*" in (tmp_path / "program/src/main.rs").read_text()
    again = headstart("export", source, tmp_path / "program")
    assert again.returncode == 1 and "expected a new or an empty folder" in again.stderr


def test_an_unavailable_gpu_is_reported(tmp_path):
    path = notebook(tmp_path / "a.ipynb", "1")
    # An empty cache, without a prelude compiled for a GPU.
    empty = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    hidden = empty | {"PATH": f"{tmp_path}:/usr/bin:/bin", "CUDA_HOME": "", "CUDA_PATH": "", "CUDA_ROOT": ""}
    for tool in ("cargo", "rustc", "rustup"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    done = headstart("run", "--cuda", path, env=os.environ | hidden)
    assert done.returncode == 1 and "there is no nvcc" in done.stderr and "hint: install the CUDA toolkit" in done.stderr
    both = headstart("run", "--cuda", "--metal", path)
    assert both.returncode == 2 and "cannot be used with" in both.stderr


def test_the_cpu_is_used_if_another_device_is_missing(tmp_path):
    path = notebook(tmp_path / "a.ipynb", "println!(\"{}\", device().is_cpu());")
    done = headstart("run", path, env=os.environ | {"HEADSTART_DEVICE": "cuda:0"})
    assert done.returncode == 0 and "true" in done.stdout
    assert "HEADSTART_DEVICE=cuda:0: this build has no support for NVIDIA GPUs" in done.stderr
