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


def test_a_users_cell_about_parameters_runs_as_it_is_written(kernel):
    kernel.ok("// Parameters\nlet n = 3.5;")
    kernel.ok("// Parameters\nlet n = 7;\nlet power = 2.0f64.powi(2);")
    assert kernel.ok("n / 2") == "3"
    kernel.ok("// Parameters\nlet power = 3.0f64.powi(2);")
    assert kernel.ok("power") == "9.0"


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
    assert cell.value == "9" and "later cells cannot use `square`" in cell.stderr
    assert "define and use `square` in one cell" in kernel.run("square(3)").traceback
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


def test_a_variant_or_constant_in_a_let_else_is_no_variable(kernel):
    kernel.ok("#[derive(Debug, Clone, Copy, PartialEq)] enum Color { Red, Green }\nuse Color::*;\nconst LIMIT: i32 = 3;")
    kernel.ok("let colour = Red;\nlet count = 3;")
    kernel.ok('let Red = colour else { panic!("not red") };\nlet LIMIT = count else { panic!("not the limit") };')
    cell = kernel.run("(colour == Red, count == LIMIT)")
    assert (cell.value, cell.stderr) == ("(true, true)", "")


def test_an_impl_does_not_end_with_an_unrelated_item(kernel):
    kernel.ok(
        "struct P(i32);\nfn show(p: &P) -> i32 { p.0 }\n"
        "impl std::ops::Add for P { type Output = P; fn add(self, other: P) -> P { P(self.0 + other.0) } }"
    )
    kernel.ok("fn show(p: &P) -> i32 { 10 * p.0 }")
    assert kernel.ok("show(&(P(1) + P(2)))") == "30"
    # Another `impl` of the trait for the type replaces it, alone and beside the type.
    kernel.ok("impl std::ops::Add for P { type Output = P; fn add(self, other: P) -> P { P(self.0 * other.0) } }")
    assert kernel.ok("show(&(P(2) + P(3)))") == "60"
    kernel.ok("struct P(i32);\nimpl std::ops::Add for P { type Output = P; fn add(self, _: P) -> P { P(7) } }")
    assert kernel.ok("show(&(P(2) + P(3)))") == "70"
    kernel.ok("fn other() -> i32 { 1 }\nimpl P { fn doubled(&self) -> i32 { 2 * self.0 } }")
    kernel.ok("fn other() -> i32 { 2 }")
    assert kernel.ok("P(4).doubled() + other()") == "10"
    found = kernel.client.complete("headst", 6, reply=True, timeout=30)["content"]["matches"]
    assert not [name for name in found if name.startswith("headstart_impl")]


@pytest.mark.parametrize("attribute", ["#![forbid(unsafe_code)]", "#![deny(unsafe_code, warnings)]"])
def test_a_pasted_file_may_forbid_unsafe_code(kernel, attribute):
    kernel.ok(":clear")
    cell = kernel.run(f"{attribute}\nfn f() -> i32 {{ 42 }}\nlet forbidden = f();")
    assert cell.status == "ok" and "only warn in a notebook" in cell.stderr, cell.reply
    assert kernel.ok("forbidden + 1") == "43"
    kernel.ok(":clear")


def test_a_module_can_be_imported_under_another_name_in_braces(kernel):
    kernel.ok("use std::fmt::{self as f, Debug};")
    assert kernel.ok('fn shown(value: impl f::Display) -> String { format!("{value}") }\nshown(1)') == '"1"'


def test_a_foreign_block_with_safe_functions_can_run_again(kernel):
    for _ in range(2):
        assert kernel.ok('use std::ffi::c_long;\nunsafe extern "C" { safe fn labs(x: c_long) -> c_long; }\nlabs(-2)') == "2"
    cell = kernel.run('unsafe extern "C" { fn abs(x: Unknown) -> i32; }')
    assert cell.status == "error" and "Unknown" in cell.traceback


def test_a_panic_in_a_cell_with_an_inner_attribute_has_its_line(kernel):
    cell = kernel.run("// three\n#![allow(unconditional_panic)]\nlet v: Vec<u8> = vec![];\nv[0]")
    assert "4 │ v[0]" in cell.traceback
