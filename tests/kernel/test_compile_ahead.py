"""Compilation ahead: cells are compiled while evcxr still analyses them."""

import time

import pytest
from conftest import Kernel, below, processes, session_of

NUMBER = time.time_ns()

# Each contains code that no session has compiled. The type of an expression form is known after its first
# use.
CELLS = [
    "let x$ = Tensor::zeros(($ % 7 + 1, 2), DType::F32, &device())?; // @",
    "let mut m$ = sequential![Input::new($), Dense::new(2)]?; // @",
    "#[derive(Clone)] struct S$ { a: u64 }\nlet s$: S$ = S$ { a: @ };",
    "fn pair(a: u64) -> (u64, f64) { (a, a as f64) }\nlet (a$, b$) = pair(@);",
    "println!(\"{} {} {@}\", x$.dims()[1], m$.name());",
    "m$.compile(Adam::new(0.@), BinaryCrossentropy, [Accuracy]);",
    "s$.clone().a + a$ + @",
    "let taken$ = s$; // @",
    "x$ // @",
    "if @ > 0 { \"a\".parse::<i32>()?; }",
    "missing + @",
    "panic!(\"@\")",
    "let again$ = Tensor::zeros(@ % 7 + 1, DType::F32, &device())?;",
]


@pytest.fixture
def kernel():
    kernel = Kernel()
    yield kernel
    kernel.stop()


def session(kernel):
    return session_of(kernel.manager.provisioner.pid)


def begun(kernel):
    """rustc's output folder for compilation ahead, until the result is handed over."""
    return next(session(kernel).glob("target/*/debug/ahead"), None)


def test_the_compiled_source_is_predicted_from_the_analysed_one(kernel):
    handed, predicted = [], []
    for round_ in (1, 2):
        for number, code in enumerate(CELLS):
            cell = code.replace("$", str(round_)).replace("@", str(NUMBER + 100 * round_ + number))
            if begun(kernel):
                # The file is deleted when rustc starts.
                (begun(kernel) / "mark").touch()
            kernel.run(cell)
            if round_ == 2 and not list(begun(kernel).iterdir()):
                handed.append(cell)
                # evcxr writes the source for rustc when it has found all types.
                at = [(session(kernel) / file).stat().st_mtime_ns for file in ("ahead/src/lib.rs", "src/lib.rs")]
                if at[0] < at[1]:
                    predicted.append(cell)
    # On a busy machine, some may be late.
    assert len(handed) >= len(CELLS) - 3, handed
    assert len([cell for cell in predicted if "let" in cell]) >= 3, predicted


def test_only_moved_variables_are_lost(kernel):
    kept = []
    # These sizes fill evcxr's hash table. With one more variable, evcxr lists them in another order.
    for size in (3, 7, 14, 28):
        names = [f"of{size}_{n}" for n in range(size - len(kept))]
        kernel.ok("".join(f"let {name}: String = \"{name}\".into();" for name in names) + f"// {NUMBER}")
        kernel.ok(f"let taken{size}: String = {names.pop()}; // {NUMBER}")
        kept += names
        kernel.ok("".join(f"assert_eq!({name}, \"{name}\");" for name in kept) + f"// {NUMBER}")
        kept.append(f"taken{size}")
        kernel.ok(f"let taken{size}: String = \"taken{size}\".into(); // {NUMBER}")


def test_a_wrong_prediction_only_costs_time(kernel):
    kernel.ok(f"fn f() -> i32 {{ 1 }} let a = f(); // {NUMBER}")
    kernel.ok(f"fn f() -> String {{ \"two\".into() }} let b = f(); // {NUMBER}")
    assert kernel.ok("format!(\"{a} {b}\")") == '"1 two"'


def test_a_path_is_relative_to_the_cells_source(kernel):
    (session(kernel) / "src" / "words.txt").write_text("words")
    assert kernel.ok(f"include_str!(\"words.txt\") /* {NUMBER} */") == '"words"'


def test_stop_ends_compilation(kernel):
    # rustc takes long for this constant.
    slow = f"const N: u64 = {{ let mut n = {NUMBER}; while n > 1000 {{ n -= 1; }} n }};"
    request = kernel.send(f"#[allow(long_running_const_eval)] {slow}\nprintln!(\"{{N}}\");")
    time.sleep(2)
    kernel.manager.interrupt_kernel()
    cell = kernel.result(request, timeout=60)
    assert cell.reply["ename"] == "Interrupted"
    deadline = time.monotonic() + 2
    known = processes()
    while any(b"rustc" in known[one][2] for one in all_below(kernel.manager.provisioner.pid)):
        assert time.monotonic() < deadline, "rustc still runs"
        time.sleep(0.05)
        known = processes()


def all_below(process):
    found = below(process)
    return found + [deeper for one in found for deeper in all_below(one)]
