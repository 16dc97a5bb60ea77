"""Cells that define a thing again, or end early: what is kept, what is lost, and what is said."""

import pytest


@pytest.mark.parametrize(
    "before, after, use",
    [
        ("struct P { x: i32 }\nlet p = P { x: 5 };", "struct P { x: String }", "p.x"),
        ("struct In { a: i32 }\nstruct Out { i: In }\nlet p = Out { i: In { a: 1 } };", "struct In { a: i32, b: String }", "p.i.b"),
        ("enum E { A(u8) }\nlet p = vec![E::A(1)];", "enum E { A(String) }", "p.len()"),
        ("trait T { fn f(&self) -> u8; }\nimpl T for u8 { fn f(&self) -> u8 { *self } }\nlet p: Box<dyn T> = Box::new(1u8);",
         "trait T { fn g(&self) -> u8 { 3 }\nfn f(&self) -> u8; }", "p.f()"),
        ("type Id = u32;\nstruct Tag(Id);\nlet p = Tag(1);", "type Id = u64;", "p.0"),
        ("const N: usize = 3;\nstruct M([f64; N]);\nlet p = M([0.0; N]);", "const N: usize = 4;", "p.0[3]"),
        ("mod shapes { pub struct S(pub u8); }\nlet p = shapes::S(1);", "mod shapes { pub struct S(pub String); }", "p.0.len()"),
    ],
)
def test_a_variable_of_a_redefined_type_is_lost_and_no_other(kernel, before, after, use):
    kernel.ok(":clear")
    kernel.ok(before + "\nlet other = vec![1];")
    cell = kernel.run(after)
    assert cell.status == "ok" and "The type of the variable p was redefined, so was lost." in cell.stderr
    cell = kernel.run(use)
    assert cell.status == "error" and "`p`" in cell.traceback, cell.traceback
    assert kernel.ok("other") == "[1]"


def test_a_derive_and_a_method_keep_the_variables_of_a_type(kernel):
    kernel.ok(":clear")
    kernel.ok("struct P { x: i32 }\nlet p = P { x: 5 };")
    kernel.ok("/// A point.\n#[derive(Debug)]\nstruct P { x: i32 }\nimpl P { fn y(&self) -> i32 { self.x } }")
    assert kernel.ok("p.y()") == "5" and kernel.ok("p") == "P { x: 5 }"


def test_an_early_return_loses_only_the_variables_of_its_cell(kernel):
    kernel.ok("let kept = vec![1];")
    cell = kernel.run("let a = 1;\nif a > 0 { return Ok(()); }\nlet b = 2;")
    assert cell.status == "ok" and "its variables are not stored" in cell.stderr
    cell = kernel.run("a")
    assert cell.status == "error" and "returned before its end" in cell.stderr, cell.traceback
    assert kernel.ok("kept") == "[1]"
    for code, hint in (("return;", "return Ok(());"), ('return Err(std::io::Error::other("x"));', "Err(error)?")):
        cell = kernel.run(code)
        assert cell.status == "error" and hint in cell.traceback


def test_an_early_return_of_an_awaiting_cell_loses_only_its_variables(kernel):
    kernel.ok("let kept = vec![1];")
    cell = kernel.run("std::future::ready(1).await; let a = 1; if a > 0 { return Ok(()); } let b = 2;", timeout=300)
    assert cell.status == "ok" and "its variables are not stored" in cell.stderr, cell.traceback
    assert kernel.run("a").status == "error"
    assert kernel.ok("kept") == "[1]"


def test_items_without_a_name_run_twice(kernel):
    for _ in range(2):
        assert kernel.ok('unsafe extern "C" { fn labs(x: i64) -> i64; }\nunsafe { labs(-1) }') == "1"
    assert kernel.ok('unsafe extern "C" { fn labs(x: i64) -> i64; fn abs(x: i32) -> i32; }\nunsafe { abs(-2) }') == "2"
    kernel.ok("struct Own(u8);")
    for _ in range(2):
        kernel.ok("impl Own { fn get(&self) -> u8 { self.0 } }")
        kernel.ok("impl From<u8> for Own { fn from(n: u8) -> Own { Own(n) } }")
    assert kernel.ok("Own::from(7).get()") == "7"


def test_inner_attributes_change_no_service_of_the_kernel(kernel):
    assert kernel.ok("#![allow(dead_code)]\nlet f = |x: i32| x + 1;\nf(1)") == "2"
    kernel.ok("let a = 1; let b = 2;")
    kernel.ok("#![allow(unused)]\nlet [a, b] = [10, 20];")
    assert kernel.ok("a + b") == "30"


def test_deeply_nested_code_ends_no_kernel(kernel):
    kernel.ok("let kept = 1;")
    deep = "(" * 500 + "1" + ")" * 500
    kernel.client.is_complete(deep)
    assert kernel.client.get_shell_msg(timeout=60)["content"]["status"] == "complete"
    kernel.run(f"let x = {deep};")
    assert kernel.ok("kept") == "1"


def test_completion_in_a_command_runs_no_other_command(kernel):
    kernel.ok("let kept = 7;")
    for code in (":restart\n!ls da", ":restart\nlet v = 1;\n:va"):
        kernel.client.complete(code, len(code))
        content = kernel.client.get_shell_msg(timeout=60)["content"]
        assert [":vars"] == content["matches"] if code.endswith(":va") else not content["matches"]
    assert kernel.ok("kept") == "7"


def test_a_cell_that_redefines_a_type_and_its_variable_keeps_the_new_one(kernel):
    kernel.ok(":clear")
    for field, value in (("x: i32", "x: 1"), ("x: f32", "x: 2.5"), ("y: String", 'y: "c".into()')):
        cell = kernel.run(f"struct P {{ {field} }}\nlet p = P {{ {value} }};\nlet other = vec![1];")
        assert cell.status == "ok" and cell.stderr == ""
    assert kernel.ok("p.y.as_str()") == '"c"'
    cell = kernel.run("struct P { z: u8 }\nlet p = P { z: [1][other.len()] };")
    assert cell.status == "error"
    kernel.ok("let other = 2;\nlet other = other + 1;")
    assert kernel.ok("other") == "3"
