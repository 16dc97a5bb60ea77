"""The kernel's assumptions about evcxr: its text, and that two variable stores are never mixed."""

import os
import subprocess

import pytest
from conftest import CACHE, HEADSTART, RELEASE, ROOT, Kernel
from test_template import doctor, template

assert template  # a fixture

GOLDEN = next((ROOT / "kernel" / "src").rglob("golden"))
UNCHANGED = {"HEADSTART_UNCHANGED_CELLS": "1"}
NOTE = "note: cells are compiled as evcxr writes them, which takes longer: "


def test_evcxr_generates_the_golden_files(tmp_path):
    subprocess.run([RELEASE / "examples" / "evcxr_sources", tmp_path], check=True, timeout=300)
    generated = {path.name: path.read_text() for path in tmp_path.iterdir()}
    golden = {path.name: path.read_text() for path in GOLDEN.iterdir()}
    assert generated.keys() == golden.keys()
    changed = [name for name in golden if golden[name] != generated[name]]
    assert not changed, (
        f"evcxr's text has changed in {changed}: adapt kernel/src/compile/evcxr_text, "
        f"then run `cargo run --release --example evcxr_sources -- {GOLDEN}`"
    )


@pytest.fixture
def start():
    """Start kernels, and stop them at the end."""
    kernels = []

    def start(**environment):
        kernels.append(Kernel(env=os.environ | environment))
        return kernels[-1]

    yield start
    for kernel in kernels:
        kernel.stop()


def test_unchanged_cells_work(start):
    kernel = start(**UNCHANGED)
    cell = kernel.run("let mut words = vec![String::from(\"é\")]; words.push(String::from(\"b\"));")
    assert cell.status == "ok" and cell.stderr == NOTE + "HEADSTART_UNCHANGED_CELLS is set\n"
    cell = kernel.run("struct Point { x: i64 }\nlet point = Point { x: 2 };\nwords.len() as i64 + point.x")
    assert (cell.value, cell.stderr) == ("4", "")
    for code, name, text in [
        ("\"x\".parse::<i32>()?;", "Error", "invalid digit found in string"),
        ("panic!(\"too {}\", \"late\");", "Panic", "too late"),
        ("missing + 1", "CompileError", "missing"),
    ]:
        cell = kernel.run(code)
        assert cell.reply["ename"] == name and text in cell.traceback, cell.traceback
    assert kernel.ok("(words.len(), point.x)") == "(2, 2)"
    # Only a rewritten cell saves the value. This one reports that it is lost.
    assert kernel.run("let words = 1;\n\"x\".parse::<i32>()?;").status == "error"
    cell = kernel.run("words.len()")
    assert "was lost in a cell that failed" in cell.traceback and kernel.ok("point.x") == "2"
    kernel.ok("let x = Var::from_tensor(&Tensor::full(3f32, 2, &device())?)?;")
    kernel.ok("let y = (x.as_tensor() * x.as_tensor())?.sum_all()?;")
    assert kernel.ok("y.backward()?.get(x.as_tensor()).unwrap().to_vec1::<f32>()?") == "[6.0, 6.0]"
    kernel.ok("let handle = std::thread::spawn(|| 7);")
    assert kernel.ok("handle.join().unwrap()") == "7"
    kernel.ok(":restart")
    assert kernel.ok("1 + 1") == "2"


def test_two_variable_stores_are_never_mixed(start):
    kernel = start()
    kernel.ok("let mut words = vec![String::from(\"é\")];")
    # Without the kernel's rustc wrapper, each of these cells would have evcxr's own store.
    for code in (":sccache 1", ":dep hex\n:sccache\nwords.len()", "words.len();\n:sccache 1"):
        cell = kernel.run(code)
        assert cell.reply["ename"] == "Error" and "`:sccache` cannot be used" in cell.traceback
    kernel.ok(":build_env RUSTC_WRAPPER=")
    for code in ("words.push(String::from(\"b\"));", "let other = 1;", "fn f() {}\nf();"):
        cell = kernel.run(code)
        assert "another variable store" in cell.traceback and "RUSTC_WRAPPER" in cell.traceback
    kernel.ok(f":build_env RUSTC_WRAPPER={HEADSTART}")
    assert kernel.ok("words.push(String::from(\"c\"));\nwords.clone()") == '["é", "c"]'
    # A process that starts with evcxr's own store continues to use it.
    kernel.ok(":build_env RUSTC_WRAPPER=")
    kernel.run(":restart")
    assert kernel.ok("let words = 3;\nwords") == "3"
    kernel.ok(f":build_env RUSTC_WRAPPER={HEADSTART}")
    assert "another variable store" in kernel.run("words").traceback


def test_a_cell_may_contain_evcxrs_own_text(start):
    kernel = start()
    kernel.ok("let mut words = vec![String::from(\"é\")];")
    inner = '{\n#[unsafe(no_mangle)]\npub extern "C" fn inner() -> u8 { 1 }\nwords.push(inner().to_string());\n}'
    kernel.ok(inner)
    kernel.ok('#[unsafe(no_mangle)]\npub extern "C" fn outer() -> u8 { 2 }\nwords.push(outer().to_string());')
    kernel.ok('let text = "\nmod evcxr_internal_runtime {\n}\n#[unsafe(no_mangle)]\n";\nwords.push(text.len().to_string());')
    assert kernel.ok("words") == '["é", "1", "2", "53"]'


def test_clear_loads_the_prelude_before_the_code_after_it(start):
    kernel = start()
    kernel.ok("let words = 1;")
    assert kernel.ok(":clear\nlet other = Tensor::zeros(2, DType::F32, &device())?;\nother.dims()") == "[2]"
    assert kernel.ok("let words = other.dims().len();\nwords") == "1"


def test_the_probe_runs_once_per_template(start, template):
    record = CACHE / "state" / template.name / "probe"
    assert record.read_text() == "rewritten"
    assert "ok    cells" in doctor()
    try:
        record.write_text("evcxr's source does not have the expected variable store")
        kernel = start()
        assert kernel.run("let a = 1;").stderr == NOTE + record.read_text() + "\n"
        assert kernel.ok("a + 1") == "2"
        [line] = [line for line in doctor().splitlines() if " cells " in line]
        assert line.startswith("note") and record.read_text() in line
    finally:
        record.unlink()
    kernel = start()
    assert kernel.run("let a = 1;").stderr == ""
    assert record.read_text() == "rewritten"
    # The compile cache contains the cells of a session that ran the probe.
    cells = CACHE / "state" / template.name / "cells"
    known = len(list(cells.iterdir()))
    again = start()
    assert again.run("let a = 1;").status == "ok" and len(list(cells.iterdir())) == known
