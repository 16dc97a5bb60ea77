"""Cells that were compiled in an earlier session are not compiled again."""

import time

import pytest
from conftest import CACHE, Kernel


@pytest.fixture
def session():
    """Run cells in a new kernel. Returns their values, and the number of entries that the compile cache has gained."""

    def run(*cells):
        before = entries()
        kernel = Kernel()
        try:
            return [kernel.ok(cell) for cell in cells], len(entries() - before)
        finally:
            kernel.stop()

    return run


def entries():
    return {cell.name for cell in CACHE.glob("state/*/cells/*") if (cell / "status").exists()}


def test_a_later_session_compiles_only_what_is_new(session):
    number = time.time_ns()
    # evcxr's order of variables differs between sessions. The type is new, because the cells of an earlier
    # run of this test are in the compile cache.
    variables = f"let point = Point{number} {{ x: {number} }}; let a = 1; let b = 2.0; let c = \"c\"; let d = 'd';"
    first = (f"#[derive(Clone)] struct Point{number} {{ x: u64 }}\n{variables}", "point.x")
    values, new = session(*first)
    assert (values[-1], new) == (str(number), 2)
    # The types in cached and new cells are the same.
    values, new = session(*first, "let other = point.clone(); other.x + 1")
    assert (values[-1], new) == (str(number + 1), 1)


def test_a_cell_that_reads_a_file_is_compiled_each_time(session, tmp_path):
    file = tmp_path / "words.txt"
    for words in ("one", "two"):
        file.write_text(words)
        values, new = session(f"include_str!({str(file)!r})".replace("'", '"'))
        assert (values[-1], new) == (f'"{words}"', 0)
