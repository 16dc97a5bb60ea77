"""Cells that were compiled in an earlier session are not compiled again."""

import time

import pytest
from conftest import CACHE, Kernel


@pytest.fixture
def session():
    """Runs cells in a kernel of their own; the values, and how many cells more are kept after it."""

    def run(*cells):
        before = kept()
        kernel = Kernel()
        try:
            return [kernel.ok(cell) for cell in cells], len(kept() - before)
        finally:
            kernel.stop()

    return run


def kept():
    return {cell.name for cell in CACHE.glob("state/*/cells/*") if (cell / "status").exists()}


def test_a_later_session_compiles_only_what_is_new(session):
    number = time.time_ns()
    # In another session evcxr lists the variables in another order.
    # A type of its own: an earlier run of this test has left its cells.
    variables = f"let point = Point{number} {{ x: {number} }}; let a = 1; let b = 2.0; let c = \"c\"; let d = 'd';"
    first = (f"#[derive(Clone)] struct Point{number} {{ x: u64 }}\n{variables}", "point.x")
    values, new = session(*first)
    assert (values[-1], new) == (str(number), 2)
    # What was remembered and what was compiled now mean the same types.
    values, new = session(*first, "let other = point.clone(); other.x + 1")
    assert (values[-1], new) == (str(number + 1), 1)


def test_what_reads_another_file_is_compiled_each_time(session, tmp_path):
    file = tmp_path / "words.txt"
    for words in ("one", "two"):
        file.write_text(words)
        values, new = session(f"include_str!({str(file)!r})".replace("'", '"'))
        assert (values[-1], new) == (f'"{words}"', 0)
