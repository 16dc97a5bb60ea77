"""Error messages of cells: they show the cell's own text and positions, with a correct hint."""

import pytest

# Names in generated code around a cell, which no message may contain.
GENERATED = ["evcxr", "Evcxr", "src/lib.rs", "run_user_code", "self type */", "Note: note", "persist", "headstart_core"]


def failed(kernel, code):
    cell = kernel.run(code)
    assert cell.status == "error", code
    for name in GENERATED:
        assert name not in cell.traceback + cell.stderr, f"{code}\n{cell.traceback}"
    return cell


# A cell, and the labels and hints that its error must show even if the cell contains non-ASCII characters.
BEYOND_ASCII = {
    '// été\nlet a: u8 = "x";': ["cell:2:13", "expected `u8`, found `&str`", '2 │ let a: u8 = "x";'],
    "let n = 1; // 🦀\nlet b = n.foo();": ["cell:2:11", "method not found in `{integer}`"],
    'let é: u8 = "é";': ["cell:1:13", "expected due to this"],
    'println!("日本語"); 訳': ["run the cell that defines `訳` first", "not found in this scope"],
    '"é".len()?;': ["can only be applied to values that implement", "`\"é\".len()?;`"[2:5]],
}


@pytest.mark.parametrize("code", BEYOND_ASCII)
def test_errors_are_complete_in_cells_with_non_ascii_characters(kernel, code):
    cell = failed(kernel, code)
    for shown in BEYOND_ASCII[code]:
        assert shown in cell.traceback, cell.traceback


def test_an_unused_macro_does_not_hide_errors(kernel):
    kernel.ok("macro_rules! square { ($x:expr) => { $x * $x } }")
    for code, error in [
        ('let u: u8 = "x";', "mismatched types"),
        ("let f = |x: i32| x;", "the variable `f` is a closure, whose type has no name, so later cells cannot use it"),
        ("fn unused() { let a = 1; }\nmissing()", "cannot find function `missing` in this scope"),
    ]:
        cell = failed(kernel, code)
        assert cell.reply["evalue"] == error and "unused" not in cell.traceback.replace("fn unused", "")
    assert kernel.ok("square!(3)") == "9"


def test_an_unused_result_causes_a_warning(kernel):
    kernel.ok("let unsaved = sequential![Input::new(2), Dense::new(1)]?;")
    for _ in range(2):  # the second is not compiled again
        cell = kernel.run('// Saves.\nunsaved.save("/nowhere/x");\nlet after = 1;')
        assert cell.status == "ok"
        assert "unused `Result` that must be used" in cell.stderr and "put `?` after it" in cell.stderr
        assert '   2 │ unsaved.save("/nowhere/x");' in cell.stderr
    for code in ['let _ = unsaved.save("/nowhere/x");', "vec![1].sort();", "1 + 1"]:
        assert kernel.run(code).stderr == ""
    lazy = kernel.run("vec![1].iter().map(|x| x + 1);")
    assert "warning: unused `std::iter::Map` that must be used" in lazy.stderr


def test_a_failed_cell_restores_the_variables_that_it_redefines(kernel):
    note = "from before this cell"
    kernel.ok("let mut v = vec![1, 2, 3]; let n = 1; let name = String::from(\"old\");")
    panicked = failed(kernel, "let mut v = vec![4]; let z = v[7];")
    assert f"`v` has its value {note}" in panicked.traceback
    kernel.ok("v.push(4);")
    assert kernel.ok("v") == "[1, 2, 3, 4]"
    erred = failed(kernel, 'let v = v.len(); let n = n + 1; let name = "new"; "x".parse::<u8>()?;')
    assert f"`n`, `name`, `v` have their values {note}" in erred.traceback
    assert kernel.ok("format!(\"{v:?} {n} {name}\")") == '"[1, 2, 3, 4] 1 old"'
    moved = failed(kernel, 'let v = std::convert::identity(v); "x".parse::<u8>()?;')
    assert note not in moved.traceback
    assert "`v` was lost in a cell that failed" in failed(kernel, "v").traceback
    kernel.ok("let v = 5; let v = v + 1;")
    assert kernel.ok("v") == "6"


def test_a_model_is_restored_when_the_fit_of_its_replacement_fails(kernel):
    kernel.ok("let mut model = sequential![Input::new(2), Dense::new(1)]?;")
    failed(kernel, "let mut model = sequential![Input::new(3), Dense::new(1)]?; model.fit((&random_uniform((4, 3), 0.0, 1.0)?, &random_uniform((4, 1), 0.0, 1.0)?), Fit::epochs(1))?;")
    assert kernel.ok("model.input_shape()") == "[2]"


# Successful cells, then a cell that fails, and its hint.
HINTS = {
    "moved": (["let first_batch = vec![1];", "let taken = first_batch;"], "first_batch.len()", "`first_batch` was moved by an earlier cell (`let taken = first_batch;`)"),
    "not defined": ([], "never_made", "run the cell that defines `never_made` first"),
    "cleared": (["let cleared = 1;", ":clear"], "cleared", "`cleared` was cleared (`:clear`)"),
    "restarted": (["let restarted = 1;", ":restart"], "restarted", "`restarted` was cleared (`:restart`)"),
    "retyped": (["struct Point { x: u8 }\nlet point = Point { x: 1 };", "struct Point { x: u8, y: u8 }", "1 + 1"], "point.x", "compiled the type of `point` again"),
    "a second impl": (["struct Twice; impl Twice { fn new() -> Twice { Twice } }", "impl Twice { fn b() {} }"], "impl Twice { fn b() -> u8 { 1 } }", "put the type and its `impl` in one cell"),
    "an error without Display": ([], "#[derive(Debug)] struct Bare; fn bare() -> Result<(), Bare> { Err(Bare) }\nbare()?;", "implement `std::fmt::Display` for the error"),
    "not mutable": (["let fixed = vec![1];"], "fixed.push(2);", "`let mut fixed = fixed;`"),
    "no bracket at the end": ([], "let v = vec![1, 2", "the cell ends before a bracket is closed"),
    "no semicolon at the end": ([], "let a = 1", "expected `;`, found the end of the cell"),
    "a reference": (["let owner = String::from(\"a\");"], "let part = owner.as_str();", "must own their data"),
    "a type without a name": ([], "let mapped = vec![1].into_iter().map(|x| x + 1);", "`mapped` in this cell only"),
    "a type that is not known": ([], "trait Make { fn make() -> Self; } impl Make for u8 { fn make() -> u8 { 1 } }\nlet made = Make::make();", "cannot call associated function on trait"),
    "a recursion without end": ([], "fn deep(n: u64) -> u64 { if n == 0 { 0 } else { 1 + deep(n - 1) } }\ndeep(1_000_000_000)", "a stack overflow"),
    "an ended process": (["let ended = 1;", ], "std::process::abort();", "Lost with it: ended"),
    "after an ended process": ([], "ended", "`ended` was lost when the cells' process ended"),
}


@pytest.mark.parametrize("what", HINTS)
def test_a_hint_names_the_cause(kernel, what):
    before, code, hint = HINTS[what]
    for cell in before:
        kernel.ok(cell)
    assert hint in failed(kernel, code).traceback


# Code that behaves differently in a notebook and in a program, and the note about it.
NOTES = {
    "static N: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);": "each cell has its own `N`",
    'fn main() { println!("hi"); }': "write `main()`",
    "thread_local! { static LOCAL: u8 = 1; }\nLOCAL.with(|value| *value);": "later cells cannot use what `thread_local!` defines",
    "macro_rules! define { ($n:ident) => { fn $n() -> u8 { 1 } } }\ndefine!(defined);\ndefined()": "later cells cannot use what `define!` defines",
    "define!(later);\nlater()": "later cells cannot use what `define!` defines",
    "macro_rules! twice { ($e:expr) => { 2 * $e } }\nlet four = twice!(2);": "",
    'static NAMES: [&str; 1] = ["a"];': "",
}


@pytest.mark.parametrize("code", NOTES)
def test_differences_from_a_program_are_noted(kernel, code):
    cell = kernel.run(code)
    assert cell.status == "ok" and NOTES[code] in cell.stderr and bool(cell.stderr) == bool(NOTES[code])


def test_code_after_a_restart_cannot_name_the_variables_before_it(kernel):
    for command in (":restart", ":clear"):
        kernel.ok("let before = vec![1]; let other = 2;")
        cell = failed(kernel, f"{command}\nbefore.len()")
        assert cell.reply["ename"] == "CompileError" and "`before` was cleared" in cell.traceback, cell.traceback
        assert kernel.ok(f"{command}\nlet after = 3;\nafter") == "3"
        assert kernel.ok("after + 1") == "4"
        assert failed(kernel, "other").reply["ename"] == "CompileError"
    kernel.ok("let last = 1;\n:restart")
    assert failed(kernel, "last").reply["ename"] == "CompileError"


# A cell that panics, and the line that is shown.
PANICS = {
    'let x = 1; {\npanic!("no")\n}': '2 │ panic!("no")',
    "let x = Vec::<u8>::new();\nif x.is_empty() {\n    let y = 1;\n}\nx[3]": "5 │ x[3]",
    "fn deep() {\n    panic!()\n}\n\ndeep();": "2 │     panic!()",
    "fn one() {\n}\nlet a = [1];\nlet b = a[a.len()];\nlet c = 1;": "4 │ let b = a[a.len()];",
    'let e = "é"; e.parse::<u8>().unwrap();': '1 │ let e = "é"; e.parse::<u8>().unwrap();',
}


@pytest.mark.parametrize("code", PANICS)
def test_a_panic_is_shown_with_its_line(kernel, code):
    cell = kernel.run(code)
    assert cell.reply["ename"] == "Panic" and PANICS[code] in cell.traceback


def test_a_panic_in_an_earlier_cells_function_shows_no_line_of_this_cell(kernel):
    kernel.ok("fn far() {\n    let a: Option<u8> = None;\n    a.unwrap();\n}")
    cell = kernel.run("{\nfar();\n}")
    assert cell.reply["ename"] == "Panic" and "│" not in cell.traceback


def test_dbg_does_not_show_positions_in_generated_code(kernel):
    assert kernel.run("let twice = dbg!(1 + 1) * 2;").stderr == "[cell] 1 + 1 = 2\n"
    assert kernel.run("dbg!(twice, \"a\");").stderr == '[cell] twice = 4\n[cell] "a" = "a"\n'


def test_variables_that_a_dependency_loses_are_announced(kernel, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "asked_late"\nversion = "1.0.0"\nedition = "2024"\n')
    (tmp_path / "src" / "lib.rs").write_text("pub const ONE: u8 = 1;")
    kernel.ok("struct Mine(u8);\nlet mine = Mine(1);\nlet plain = 5;")
    cell = kernel.run(f':dep asked_late = {{ path = "{tmp_path}" }}\nasked_late::ONE')
    assert cell.value == "1" and "`mine` will be lost" in cell.stderr and "`plain`" not in cell.stderr
    assert kernel.ok("plain") == "5"
    assert "compiled the type of `mine` again" in failed(kernel, "mine.0").traceback


def test_a_question_mark_shows_the_causes_of_an_error(kernel):
    kernel.ok(
        "struct Failure;\n"
        "impl std::fmt::Display for Failure {\n"
        "    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {\n"
        '        f.write_str(if f.alternate() { "reading the settings: no such file" } else { "reading the settings" })\n'
        "    }\n"
        "}\n"
        "fn fail() -> Result<u8, Failure> { Err(Failure) }"
    )
    assert "reading the settings: no such file" in failed(kernel, "fail()?;").traceback


def test_an_error_in_an_earlier_cell_shows_its_line(kernel):
    kernel.ok(":clear")
    kernel.ok("struct P { x: i32 }")
    kernel.ok("fn get(p: &P) -> i32 { p.x }")
    cell = kernel.run("struct P { y: i32 }")
    assert cell.status == "error" and "in an earlier cell: `fn get(p: &P) -> i32 { p.x }`" in cell.traceback, cell.traceback


def test_a_borrow_that_ends_inside_the_cell_gets_no_advice_about_later_cells(kernel):
    cell = kernel.run('{ let r; { let x = 5; r = &x; } println!("{r}"); }')
    assert cell.status == "error" and "does not live long enough" in cell.traceback and "make the value owned" not in cell.traceback
