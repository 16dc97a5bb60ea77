"""Clients other than notebooks: papermill and the console."""

import os
import subprocess
import sys

import nbformat
from conftest import ROOT

KERNELSPEC = {"name": "headstart", "display_name": "Headstart (Rust)", "language": "rust"}


def test_papermill_executes_a_notebook(tmp_path):
    cells = [nbformat.v4.new_code_cell(source) for source in ("let n = 6;", 'println!("{}", n * 7);')]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNELSPEC}), tmp_path / "in.ipynb")
    command = ["papermill", "--no-progress-bar", tmp_path / "in.ipynb", tmp_path / "out.ipynb"]
    subprocess.run(command, check=True, timeout=120)
    executed = nbformat.read(tmp_path / "out.ipynb", 4)
    assert executed.cells[1].outputs[0].text == "42\n"
    assert executed.cells[1].metadata.papermill.status == "completed"


DEFAULTS = """\
let epochs: usize = 2;
let mut rate = 1e-3;
let name = String::from("vgg16");
let label: &'static str = "none";
let sizes = vec![0.5f32];
let steps: Vec<(usize, f32)> = vec![];"""


def test_papermill_passes_parameters_with_the_types_of_their_defaults(tmp_path):
    # The wheel's Python part, as pip would install it.
    info = tmp_path / "headstart_kernel-0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[papermill.engine]\nheadstart = headstart_kernel.papermill:Engine\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT / "kernel/package")])
    cells = [nbformat.v4.new_code_cell(source) for source in (DEFAULTS, "rate *= 2.0;\n(epochs, rate, name, label, sizes, steps)")]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNELSPEC}), tmp_path / "in.ipynb")
    text = 'a "b"\\c\n\x01 été'
    parameters = ["-p", "epochs", "7", "-p", "rate", "1", "-r", "name", text, "-r", "label", text]
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", *parameters, "-y", "{sizes: [1, 2.5], steps: [[1, 2]]}"]
    environment = os.environ | {"PYTHONPATH": path}
    subprocess.run([*command, tmp_path / "in.ipynb", tmp_path / "out.ipynb"], check=True, timeout=120, env=environment)
    executed = nbformat.read(tmp_path / "out.ipynb", 4)
    assert executed.cells[1].source.startswith("// Injected parameters\n")
    quoted = 'a \\"b\\"\\\\c\\n\\u{1} été'
    expected = f'(7, 2.0, "{quoted}", "{quoted}", [1.0, 2.5], [(1, 2.0)])'
    assert executed.cells[2].outputs[0].data["text/plain"] == expected


def test_the_console_shows_values_and_errors():
    lines = "let n = 6;\nn * 7\nno_such_thing\nfn f() -> i32 { 5 }\nf() + 1000\nexit\n"
    command = ["jupyter", "console", "--kernel", "headstart", "--simple-prompt"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=120)
    assert "Out[2]: 42" in done.stdout and "Out[5]: 1005" in done.stdout, done.stdout
    assert "cannot find value `no_such_thing`" in done.stderr, done.stderr
