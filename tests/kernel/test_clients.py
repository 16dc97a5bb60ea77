"""Other clients than notebooks: papermill and the console."""

import subprocess

import nbformat

KERNELSPEC = {"name": "headstart", "display_name": "Headstart (Rust)", "language": "rust"}


def test_papermill_executes_a_notebook(tmp_path):
    cells = [nbformat.v4.new_code_cell(source) for source in ("let n = 6;", 'println!("{}", n * 7);')]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNELSPEC}), tmp_path / "in.ipynb")
    command = ["papermill", "--no-progress-bar", tmp_path / "in.ipynb", tmp_path / "out.ipynb"]
    subprocess.run(command, check=True, timeout=120)
    executed = nbformat.read(tmp_path / "out.ipynb", 4)
    assert executed.cells[1].outputs[0].text == "42\n"
    assert executed.cells[1].metadata.papermill.status == "completed"


def test_the_console_shows_values_and_errors():
    lines = "let n = 6;\nn * 7\nno_such_thing\nfn f() -> i32 { 5 }\nf() + 1000\nexit\n"
    command = ["jupyter", "console", "--kernel", "headstart", "--simple-prompt"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=120)
    assert "Out[2]: 42" in done.stdout and "Out[5]: 1005" in done.stdout, done.stdout
    assert "cannot find value `no_such_thing`" in done.stderr, done.stderr
