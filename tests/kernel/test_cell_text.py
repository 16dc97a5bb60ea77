"""Text of cells as people type and paste it: names, spaces, types, commands, and variables that cannot be stored."""

import unicodedata

import pytest
from conftest import Kernel

NAMES = ["संख्या", "ค่า", "col·lecció", "число", "変数", unicodedata.normalize("NFD", "café")]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_any_script_is_found_in_later_cells(kernel, name):
    kernel.ok(f"let mut {name} = vec![1];")
    kernel.ok(f"{name}.push(2);")
    for form in ("NFC", "NFD"):
        assert kernel.ok(f"{unicodedata.normalize(form, name)}.len()") == "2"


def test_spaces_and_line_ends_of_other_programs_are_accepted(kernel):
    kernel.ok("\ufefflet\u00a0pasted = 1;\r\nlet\u3000wide\u202f= 2;\u200b\r\n// a\u00a0comment\r\n")
    assert kernel.ok("pasted\u00a0+ wide") == "3"
    assert kernel.ok('"a\u00a0b".chars().count()') == "3"


def test_a_type_over_several_lines_works_in_later_cells(kernel):
    kernel.ok("use std::collections::HashMap;\nlet mut counts: HashMap<\n    String,\n    Vec<u8>,\n> = HashMap::new();\nlet after = 1usize;")
    kernel.ok('counts.insert("a".into(), vec![1]);')
    assert kernel.ok("counts.len() + after") == "2"
    cell = kernel.run("let wrong: HashMap<\n    String,\n    u8,\n> = 1;\nlet next = 2;")
    assert "cell:4:5" in cell.traceback or "4 │ > = 1;" in cell.traceback, cell.traceback


# Values that evcxr cannot store, moved or borrowed in their own cell: the cell's value, and the variable
# that is stored.
NOT_STORED = {
    "let halve = LearningRateScheduler::new(|_, r| r / 2.0); let fit = Fit::epochs(10).callback(halve); 1": ("1", "fit"),
    "let f = |x: i32| x + 1; let called = f(2); f(3)": ("4", "called"),
    "let s = String::from(\"a b\"); let words: Vec<&str> = s.split(' ').collect(); words.len()": ("2", "s"),
    "let mut it = vec![1].into_iter().map(|x| x + 1); let next = it.next(); next": ("Some(2)", "next"),
    "let é = |x: i32| x; let twice = é(1) * 2; twice": ("2", "twice"),
    "let (add, base) = (|x: i32| x + 1, 2); add(base)": ("3", "base"),
    "let a = |x: i32| x; let b = |x: i32| a(x) + 1; b(1)": ("2", None),
}


@pytest.mark.parametrize("code", NOT_STORED)
def test_a_value_that_cannot_be_stored_works_in_its_own_cell(kernel, code):
    value, kept = NOT_STORED[code]
    assert kernel.ok(code) == value
    if kept:
        assert kept in kernel.ok(":vars")


def test_a_variable_of_one_cell_is_explained_in_the_next(kernel):
    cell = kernel.run("let square = |x: i32| x * x; square(3)")
    assert cell.value == "9" and "`square` lasts for this cell only" in cell.stderr
    assert "`square` lasted for its cell only" in kernel.run("square(3)").traceback
    # No warning if the variable is moved, because no later cell could use it anyway.
    cell = kernel.run("let lines = LearningRateScheduler::new(|_, r| r); let moved = Fit::epochs(1).callback(lines);")
    assert (cell.status, cell.stderr) == ("ok", "")


def test_commands_after_code_run_after_it(kernel):
    assert "late: &str" in kernel.ok('let late = "1";\n:vars')
    assert kernel.run("let late = 1;\n:vars\nlet later = 2;").status == "ok"
    assert kernel.run("let fine = 1;\n:no_such_command").status == "error"


def test_restart_leaves_a_kernel_that_can_be_interrupted(kernel):
    kernel.ok("let before = 1;")
    kernel.ok(":restart")
    assert kernel.run("before").status == "error"
    panicked = kernel.run('panic!("reported")')
    assert (panicked.reply["ename"], panicked.reply["evalue"]) == ("Panic", "reported")


def test_quit_answers_and_ends_the_kernel():
    kernel = Kernel()
    cell = kernel.run("let last = 1; println!(\"bye\");\n:quit")
    assert (cell.status, cell.stdout) == ("ok", "bye\n")
    assert kernel.manager.provisioner.process.wait(timeout=30) == 0
    kernel.stop()


def test_async_cells_work_before_and_after_tokio_is_added(kernel):
    assert kernel.ok("std::future::ready(1).await") == "1"
    assert kernel.ok("std::future::ready(2).await") == "2"
    kernel.ok(':dep tokio = { version = "1", features = ["rt", "rt-multi-thread", "time"] }')
    for _ in range(2):
        assert kernel.ok("tokio::time::sleep(std::time::Duration::from_millis(1)).await; 3") == "3"


# Code with the cursor at its end, and a completion that must be among the matches.
COMPLETED = {
    "let v = vec![1];\nv.it": "iter()",
    "vec![1, 2].it": "iter()",
    '"a".to_upper': "to_uppercase()",
    "2.5f64.sq": "sqrt()",
    '"3.5".parse::<f64>().unwrap().sq': "sqrt()",
    "[3, 1].iter().ma": "map(",
}
# Code, a word that contains the cursor, and the text that is shown.
INSPECTED = {
    ("vec![1].iter().count()", "iter"): "pub const fn iter(&self)",
    ('"a".to_uppercase()', "to_upper"): "pub fn to_uppercase(&self) -> String",
    ("let v = vec![1];\nv.len()", "len"): "fn len(&self) -> usize",
}


@pytest.mark.parametrize("code", COMPLETED)
def test_an_expression_of_this_cell_is_completed(kernel, code):
    assert COMPLETED[code] in kernel.client.complete(code, len(code), reply=True, timeout=30)["content"]["matches"]


@pytest.mark.parametrize("code, word", INSPECTED)
def test_an_expression_of_this_cell_is_inspected(kernel, code, word):
    position = code.index(word) + len(word) - 1
    shown = kernel.client.inspect(code, position, reply=True, timeout=30)["content"]
    assert shown["found"] and INSPECTED[code, word] in shown["data"]["text/plain"]


def test_a_foreign_block_can_run_again(kernel):
    for _ in range(2):
        assert kernel.ok('unsafe extern "C" {\n    fn abs(x: i32) -> i32;\n}\nunsafe { abs(-1) }') == "1"
    # Another block with the same function.
    assert kernel.ok('use std::ffi::c_long;\nunsafe extern "C" { safe fn labs(x: c_long) -> c_long; fn abs(x: i32) -> i32; }\nlabs(-2)') == "2"
    assert kernel.ok("unsafe { abs(-3) }") == "3"
    cell = kernel.run('unsafe extern "C" { fn abs(x: Unknown) -> i32; }')
    assert cell.status == "error" and "Unknown" in cell.traceback and "headstart_foreign" not in cell.traceback


def test_a_cell_with_an_attribute_of_its_own_is_an_ordinary_cell(kernel):
    assert kernel.ok("#![allow(dead_code)]\nlet f = |x: i32| x + 1;\nf(1)") == "2"
    kernel.ok("let a = 1; let b = 2;")
    kernel.ok("// two\n#![allow(unused)]\nlet [a, b] = [10, 20];")
    assert kernel.ok("(a, b)") == "(10, 20)"
    cell = kernel.run("#![allow(unconditional_panic)]\nlet v: Vec<u8> = vec![];\nv[0]")
    assert "3 │ v[0]" in cell.traceback
