"""Hints for lines of Python, IPython and the shell, and for files beside the notebook."""

import pytest

# A cell, and the hint of its error.
SLIPS = {
    "import numpy as np": ":dep name",
    "from math import pi": ":dep name",
    "def f(x):\n    return x": "`fn name(",
    "for i in range(3):\n    i": "put blocks in braces",
    "# a comment\nlet a = 1;": "write comments with `//`",
    "let a = 1;\n%time a": "`:timing`",
    "let a = 1;\n?a": "Shift+Tab",
    "len(vec![1])": "`x.len()`",
    "print(1)": "`println!",
    'let name = f"{1}";': "`format!",
    "let power = 2 ** 3;": "`x.powi(2)`",
    "mod shapes;": "`mod name { … }`",
    'let text = include_str!("data.txt");': "absolute path",
}


@pytest.mark.parametrize("code", SLIPS)
def test_a_slip_gets_a_hint(kernel, code):
    cell = kernel.run(code)
    assert cell.status == "error" and SLIPS[code] in cell.traceback
