"""Variables whose types are hard to write: trait objects, closures in boxes, references, nested generics.

Each must be usable in a later cell, with the type that it has. rust-analyzer writes traits without their path.
"""

import pytest

SETUP = """
use std::fmt::{self, Debug, Display}; use std::rc::Rc; use std::sync::{Arc, Mutex}; use std::cell::RefCell; use std::collections::HashMap;
trait Area { fn area(&self) -> f64; }
struct Square(f64);
impl Area for Square { fn area(&self) -> f64 { self.0 * self.0 } }
mod shapes { pub trait Shape { fn sides(&self) -> u8; } pub struct Triangle; impl Shape for Triangle { fn sides(&self) -> u8 { 3 } } pub fn all() -> Vec<Box<dyn Shape>> { vec![Box::new(Triangle)] } }
fn fails() -> Result<i32, Box<dyn std::error::Error>> { Ok(1) }
fn fails_in_a_thread() -> Result<i32, Box<dyn std::error::Error + Send + Sync>> { Ok(1) }
fn boxed_adder(n: i32) -> Box<dyn Fn(i32) -> i32> { Box::new(move |x| x + n) }
fn squares() -> Vec<Box<dyn Area>> { vec![Box::new(Square(2.0))] }
"""

# Expressions, each with an expression that uses its variable `v` in a later cell, and its value. The paths of
# these traits are not in scope.
WITHOUT_PATHS = {
    'Box::<dyn std::error::Error>::from("a")': ("v.to_string()", '"a"'),
    'Box::<dyn std::error::Error + Send + Sync>::from("a")': ("v.to_string()", '"a"'),
    '"x".parse::<i32>().map_err(|e| Box::new(e) as Box<dyn std::error::Error>)': ("v.is_err()", "true"),
    "Ok::<i32, Box<dyn std::error::Error>>(1)": ("v.is_ok()", "true"),
    "fails()": ("v.is_ok()", "true"),
    "fails_in_a_thread()": ("v.is_ok()", "true"),
    "Box::new(1) as Box<dyn std::any::Any>": ("v.is::<i32>()", "true"),
    "Box::new(1) as Box<dyn std::any::Any + Send>": ("v.is::<i32>()", "true"),
    "Box::new(Vec::new()) as Box<dyn std::io::Write>": ("{ let _ = &v; 1 }", "1"),
    "vec![Box::new(std::io::sink()) as Box<dyn std::io::Write + Send>]": ("v.len()", "1"),
    "Box::new(std::io::empty()) as Box<dyn std::io::Read>": ("{ let _ = &v; 1 }", "1"),
    "Box::new(String::from(\"a\")) as Box<dyn std::ops::Deref<Target = str>>": ("v.len()", "1"),
    "shapes::all()": ("{ use shapes::Shape; v[0].sides() }", "3"),
    "Some(Box::new(shapes::Triangle) as Box<dyn shapes::Shape>)": ("v.is_some()", "true"),
}

# Variables with expressions that are stored with the type that rust-analyzer writes.
WITH_NAMES = """
Box::new(1) as Box<dyn Debug>
Box::new(1) as Box<dyn fmt::Debug + Send + Sync>
Rc::new(1) as Rc<dyn Debug>
Arc::new(Mutex::new(1)) as Arc<Mutex<dyn Debug>>
Rc::new(RefCell::new(1)) as Rc<RefCell<dyn Debug>>
vec![Box::new(1) as Box<dyn Debug>, Box::new("a")]
[Box::new(1) as Box<dyn Debug>, Box::new("a")]
HashMap::from([("a", Box::new(1) as Box<dyn Debug>)])
Ok::<Box<dyn Display>, String>(Box::new(1))
squares()
Box::new(Square(1.0)) as Box<dyn Area>
Box::new(|x: i32| x + 1) as Box<dyn Fn(i32) -> i32>
Box::new(|x: i32| x + 1) as Box<dyn Fn(i32) -> i32 + Send + Sync + 'static>
Box::new(|| 1) as Box<dyn FnOnce() -> i32>
{ let mut n = 0; Box::new(move || { n += 1; n }) as Box<dyn FnMut() -> i32> }
Box::new(|x: &str| x.len()) as Box<dyn Fn(&str) -> usize>
Box::new(|x: &str| x.len()) as Box<dyn for<'a> Fn(&'a str) -> usize>
Box::new(|x: &Tensor| Ok(x.sqr()?)) as Box<dyn Fn(&Tensor) -> HeadstartResult<Tensor>>
Arc::new(|x: i32| x + 1) as Arc<dyn Fn(i32) -> i32 + Send + Sync>
HashMap::from([("a", Box::new(|x: f64| x + 1.0) as Box<dyn Fn(f64) -> f64>)])
HashMap::from([("a".to_string(), (|x| x + 1.0) as fn(f64) -> f64)])
[f64::sin as fn(f64) -> f64, f64::cos]
boxed_adder(1)
Box::new(0..3) as Box<dyn Iterator<Item = i32> + Send>
Box::new("a b".split(' ')) as Box<dyn Iterator<Item = &'static str>>
Box::new(|n: usize| Box::new(move |x: usize| x + n) as Box<dyn Fn(usize) -> usize>) as Box<dyn Fn(usize) -> Box<dyn Fn(usize) -> usize>>
Box::new(|x: Option<&str>| x.is_some()) as Box<dyn Fn(Option<&str>) -> bool>
&1 as &(dyn Debug + Send)
vec![&1 as &dyn Debug, &"a"]
Some(&1)
["a", "b"].iter().max()
"a=b".split_once('=')
HashMap::from([("a", ("b", &1))])
std::borrow::Cow::Borrowed("a")
&["a", "b"]
Some(std::path::Path::new("/a"))
"abc".chars().rev()
vec![1, 2].into_iter().enumerate()
std::iter::repeat(1).take(3)
std::sync::LazyLock::<i32>::new(|| 1)
std::thread::spawn(|| 1)
std::sync::mpsc::channel::<Box<dyn FnOnce() + Send>>()
Box::pin(async { 1 }) as std::pin::Pin<Box<dyn std::future::Future<Output = i32>>>
Rc::<str>::from("a")
"""

# Types without a name, with the hint.
UNWRITABLE = {
    "{ fn f() -> impl Fn(i32) -> i32 { |x| x } f() }": "Box<dyn Fn(i32) -> i32>",
    "{ fn f() -> impl Debug + Clone { 1 } f() }": "Box<dyn Debug>",
    "(1..4).map(|x| x * 2)": "Box<dyn Iterator<Item = u8>>",
}


@pytest.fixture(scope="module")
def prepared(kernel):
    kernel.ok(SETUP)
    return kernel


@pytest.mark.parametrize("code", WITHOUT_PATHS)
def test_a_trait_without_a_use_is_written_with_its_path(prepared, code):
    use, value = WITHOUT_PATHS[code]
    prepared.ok(f"let v = {code};")
    assert prepared.ok(use) == value


def test_several_such_variables_in_one_cell(prepared):
    prepared.ok("let first = fails();\nlet n = 1;\nlet second = Box::new(2) as Box<dyn std::any::Any>;")
    assert prepared.ok("(first.is_ok(), n, second.is::<i32>())") == "(true, 1, true)"
    found = dict(line.split(": ", 1) for line in prepared.ok(":vars").strip().splitlines())
    assert "dyn std::error::Error" in found["first"] and found["n"] == "i32" and "dyn std::any::Any" in found["second"]


def test_a_wrong_trait_is_an_error_of_the_cell(prepared):
    cell = prepared.run("let v = Box::new(1) as Box<dyn NoSuchTrait>;")
    assert cell.status == "error" and "NoSuchTrait" in cell.traceback and "1 │ let v" in cell.traceback


def test_everyday_types_are_stored(prepared):
    lines = WITH_NAMES.strip().splitlines()
    prepared.ok("\n".join(f"let kept{at} = {line};" for at, line in enumerate(lines)))
    prepared.ok("{ " + " ".join(f"let _ = &kept{at};" for at in range(len(lines))) + " }")


@pytest.mark.parametrize("code", UNWRITABLE)
def test_a_hint_names_the_trait_of_a_value_without_a_type(prepared, code):
    cell = prepared.run(f"let unwritable = {code};")
    assert cell.status == "error" and UNWRITABLE[code] in cell.traceback, cell.traceback


def test_functions_may_use_macros_of_the_session(kernel):
    names = ["alpha", "beta", "gamma", "delta", "epsilon"]
    pairs = [f"macro_rules! {name} {{ ($x:expr) => {{ $x * {at} }}; }}\nfn use_{name}(x: i32) -> i32 {{ {name}!(x) }}" for at, name in enumerate(names)]
    # evcxr's order of items is random: without the kernel's order, one of these fails almost certainly.
    for _ in range(3):
        kernel.ok(":clear")
        kernel.ok("\n".join(pairs))
        assert kernel.ok(" + ".join(f"use_{name}(1)" for name in names)) == "10"


def test_functions_may_use_exported_macros_and_macros_with_text_over_several_lines(kernel):
    names = ["alpha", "beta", "gamma", "delta", "epsilon"]
    pairs = [f'#[macro_export]\nmacro_rules! {name} {{ () => {{ "<b>\n{at}</b>" }}; }}\nfn use_{name}() -> &\'static str {{ {name}!() }}' for at, name in enumerate(names)]
    for _ in range(3):
        kernel.ok(":clear")
        kernel.ok("\n".join(pairs))
        assert kernel.ok("[" + ", ".join(f"use_{name}().len()" for name in names) + "]") == "[9, 9, 9, 9, 9]"


# A cell that defines a variable, an item that changes the meaning of its type or name, and the variable.
CHANGED_MEANINGS = [
    ("struct Stack { items: Vec<i32> }\nlet s = Stack { items: vec![1] };", "struct Stack<T> { items: Vec<T> }", "s"),
    ('let r = "12".parse::<i32>();', "type Result<T> = std::result::Result<T, String>;", "r"),
    ('let r = "12".parse::<i32>();', "use std::io::Result;", "r"),
    ("trait Shape {}\nimpl Shape for u8 {}\nlet b: Box<dyn Shape> = Box::new(1u8);", "trait Shape<T> {}", "b"),
    ("let N = 10;", "const N: usize = 3;\nfn f() -> usize { N }", "N"),
    ("let N = 10;", "static N: usize = 3;", "N"),
    ('let t = Text::new("a");', "struct Text<T>(T);", "t"),
]


@pytest.mark.parametrize("defined, item, name", CHANGED_MEANINGS)
def test_an_item_that_changes_the_meaning_of_a_variable_loses_only_that_variable(kernel, defined, item, name):
    kernel.ok(":clear")
    kernel.ok("let other = vec![1, 2];")
    kernel.ok(defined)
    printed = kernel.run(item).stderr
    cell = kernel.run("other.len()")
    assert cell.value == "2", cell.reply
    # A name that no cell uses hides no variable.
    printed += cell.stderr + kernel.run(name).stderr
    assert f"The variable {name} is lost" in printed
    cell = kernel.run("other.len()")
    assert (cell.value, cell.stderr) == ("2", "")


def test_a_variable_can_be_redefined_after_its_type_became_generic(kernel):
    kernel.ok(":clear")
    kernel.ok("struct Stack { items: Vec<i32> }\nlet s = Stack { items: vec![1] };")
    kernel.ok("struct Stack<T> { items: Vec<T> }\nlet s = Stack { items: vec![1.5, 2.5] };")
    assert kernel.ok("s.items.len()") == "2"
    kernel.ok("let LIMIT = 10;")
    assert kernel.ok("const LIMIT: usize = 3;\nvec![0; LIMIT].len()") == "3"
    kernel.ok(":clear")
