"""A variable whose type is defined anew is lost, and its memory is never read as another type. A cell that ends early keeps
the variables consistent."""

import time

import pytest
from conftest import Kernel

LOST = "was redefined, so was lost"


@pytest.mark.parametrize(
    ("before", "variable", "after", "used"),
    [
        ("#[derive(Debug)] struct Config { rate: f32 }", "Config { rate: 0.5 }", "#[derive(Debug)] struct Config { rate: f64 }", "v"),
        ("struct P(i32);", "P(5)", "struct P(String);", "v.0"),
        (
            "struct Inner { a: i32 }\nstruct Outer { inner: Inner }",
            "Outer { inner: Inner { a: 1 } }",
            "struct Inner { a: i32, b: String }",
            "v.inner.b",
        ),
        ("type Id = u32;\nstruct Tag(Id);", "Tag(1)", "type Id = u64;", "v.0"),
        ("const N: usize = 3;\nstruct M([f64; N]);", "M([0.0; N])", "const N: usize = 4;", "v.0[3]"),
        ("enum E { A(i32), B }", "E::A(1)", "enum E { A(String), B }", "matches!(v, E::B)"),
        ("struct Q(u8);", "vec![Q(1), Q(2)]", "struct Q([String; 2]);", "v[1].0[1].len()"),
        (
            "trait Speak { fn speak(&self) -> String; }\nstruct Dog;\nimpl Speak for Dog { fn speak(&self) -> String { String::new() } }",
            "(Box::new(Dog) as Box<dyn Speak>)",
            "trait Speak { fn count(&self) -> usize { 1 } fn speak(&self) -> String; }",
            "v.speak()",
        ),
        ("mod shapes { pub struct S(pub u8); }", "shapes::S(1)", "mod shapes { pub struct S(pub String); }", "v.0.len()"),
    ],
)
def test_a_variable_of_a_redefined_type_is_lost(kernel, before, variable, after, used):
    kernel.ok(f"{before}\nlet v = {variable}; let kept = vec![7];")
    cell = kernel.run(after)
    assert cell.status == "ok" and LOST in cell.stderr
    cell = kernel.run(used)
    assert cell.status == "error" and cell.reply["ename"] == "CompileError" and "`v`" in cell.traceback, cell.traceback
    assert kernel.ok("kept[0]") == "7"


def test_a_variable_is_kept_if_its_type_stays_the_same(kernel):
    definition = "#[derive(Debug)] struct Same { a: i32 }"
    kernel.ok(f"{definition}\nlet same = Same {{ a: 1 }};")
    for again in (
        definition,
        "/// A type.\n#[derive(Debug, Clone)]\nstruct Same {\n    a: i32, // one\n}",
        "impl Same { fn two(&self) -> i32 { 2 } }",
        "struct Unrelated(u8);\nuse std::collections::HashMap;",
    ):
        cell = kernel.run(again)
        assert cell.status == "ok" and LOST not in cell.stderr, cell.traceback
    assert kernel.ok("same.a") == "1"
    # The variable of the new type is an ordinary one.
    kernel.run("#[derive(Debug)] struct Same { a: String }")
    kernel.ok('let same = Same { a: "x".into() };')
    kernel.ok("let other = 1;")
    assert kernel.ok("same.a.len()") == "1"


def test_a_return_ends_the_cell_and_loses_only_its_own_variables(kernel):
    kernel.ok("let kept = vec![1]; let mut count = 1;")
    cell = kernel.run("let a = 1; count += 1; if a > 0 { return Ok(()); } let b = 2;")
    assert cell.status == "ok" and "`return` has ended the cell" in cell.stderr
    assert "no cell that has run" in kernel.run("a").traceback or kernel.run("a").status == "error"
    assert kernel.ok("(kept.len(), count)") == "(1, 2)"
    cell = kernel.run("let kept = vec![2, 3]; return Ok(());")
    assert cell.status == "ok"
    assert kernel.ok("kept") == "[1]", "the old value, as after a failed cell"
    assert "`return` has ended" not in kernel.run("let f = || -> Option<u8> { return Some(1) }; f();").stderr


def test_a_return_in_an_awaiting_cell_loses_only_its_own_variables(kernel):
    kernel.ok("let kept = vec![1];")
    cell = kernel.run("std::future::ready(1).await; let a = 1; if a > 0 { return Ok(()); } let b = 2;", timeout=300)
    assert cell.status == "ok" and "`return` has ended the cell" in cell.stderr, cell.traceback
    assert kernel.run("a").status == "error"
    assert kernel.ok("kept") == "[1]"


@pytest.mark.parametrize(
    ("before", "variable", "after", "again"),
    [
        ("struct Stack { items: Vec<i32> }", "Stack { items: vec![1] }", "struct Stack<T> { items: Vec<T> }", "Stack { items: vec![2.5] }"),
        ("", '"12".parse::<i32>()', "type Result<T> = std::result::Result<T, String>;", "Result::<u8>::Ok(1)"),
        ("", 'Text::new("a")', "struct Text<T>(T);", "1"),
    ],
)
def test_a_variable_whose_type_no_longer_compiles_is_lost(kernel, before, variable, after, again):
    kernel.ok(f"{before}\nlet lost = {variable}; let other = vec![7];")
    said = kernel.run(after).stderr
    cell = kernel.run("1 + 1")
    assert cell.value == "2" and "The variable lost was lost" in said + cell.stderr, cell.traceback
    assert kernel.ok("other[0]") == "7"
    kernel.ok(f"let lost = {again};")
    kernel.run(":clear")


def test_a_constant_replaces_the_variable_of_its_name(kernel):
    kernel.ok("let N = 10; let other = 1;")
    kernel.ok("const N: usize = 12;\nfn n() -> usize { N }")
    cell = kernel.run("vec![0; N].len() + n()")
    assert cell.value == "24", cell.traceback
    assert kernel.ok("(N, other)") == "(12, 1)"
    kernel.run(":clear")


def test_variables_are_dropped_at_the_end_of_their_process(kernel, tmp_path):
    for end in (":restart", "shutdown"):
        path = tmp_path / f"{end}.csv"
        own = kernel if end == ":restart" else Kernel()
        own.ok(f'use std::io::Write;\nlet mut file = std::io::BufWriter::new(std::fs::File::create("{path}")?);')
        own.ok('writeln!(file, "a,b")?;')
        assert path.read_text() == ""
        if end == ":restart":
            own.run(end)
        else:
            own.stop()
        assert path.read_text() == "a,b\n", end


def test_a_destructor_that_does_not_return_does_not_hold_a_restart(kernel):
    kernel.ok("struct Slow; impl Drop for Slow { fn drop(&mut self) { std::thread::sleep(std::time::Duration::from_secs(60)) } }\nlet slow = Slow;")
    begin = time.monotonic()
    assert kernel.run(":restart\n1", timeout=50).value == "1"
    assert time.monotonic() - begin < 30
