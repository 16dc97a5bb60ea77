"""Assignments in Rust, created, submitted and graded by unmodified nbgrader with the wheel's configuration."""

import csv
import subprocess
import sys

import nbformat
from conftest import ROOT
from test_clients import KERNELSPEC

SOLUTION = """\
/// The accuracy of predictions, as a fraction.
fn accuracy(predicted: &[i32], expected: &[i32]) -> f64 {
    // BEGIN SOLUTION
    let correct = predicted.iter().zip(expected).filter(|(a, b)| a == b).count();
    correct as f64 / expected.len() as f64
    // END SOLUTION
}"""
TESTS = """\
assert_eq!(accuracy(&[1, 0], &[1, 1]), 0.5);
// BEGIN HIDDEN TESTS
assert_eq!(accuracy(&[0, 0, 0], &[1, 1, 1]), 0.0);
// END HIDDEN TESTS"""
HALF = "    0.5\n"


def cell(source, name, **options):
    defaults = {"grade": False, "locked": False, "schema_version": 3, "solution": False, "task": False}
    found = nbformat.v4.new_code_cell(source)
    found.metadata["nbgrader"] = defaults | {"grade_id": name} | options
    return found


def test_an_assignment_in_rust_is_created_and_graded(tmp_path):
    (tmp_path / "nbgrader_config.py").write_text(
        f'load_subconfig("{ROOT / "kernel/package/nbgrader_config.py"}")\nc = get_config()\n'
        'c.CourseDirectory.course_id = "transfer-learning"\n'
    )

    def nbgrader(command, *arguments):
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", command, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    source = tmp_path / "source/week1"
    source.mkdir(parents=True)
    cells = [
        cell(SOLUTION, "accuracy", solution=True),
        cell(TESTS, "accuracy-tests", grade=True, locked=True, points=4),
    ]
    metadata = {"kernelspec": KERNELSPEC}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), source / "exercises.ipynb")
    nbgrader("generate_assignment", "week1")
    released = nbformat.read(tmp_path / "release/week1/exercises.ipynb", 4)
    assert "todo!()" in released.cells[0].source and "correct" not in released.cells[0].source
    assert "0.0" not in released.cells[1].source

    stub = "    // YOUR CODE HERE\n    todo!()\n"
    right = "    predicted.iter().zip(expected).filter(|(a, b)| a == b).count() as f64 / expected.len() as f64\n"
    for student, answer in [("right", right), ("half", HALF), ("nothing", stub)]:
        content = nbformat.from_dict(released)
        content.cells[0].source = released.cells[0].source.replace(stub, answer)
        folder = tmp_path / "submitted" / student / "week1"
        folder.mkdir(parents=True)
        nbformat.write(content, folder / "exercises.ipynb")
    nbgrader("autograde", "week1")
    nbgrader("export")
    with open(tmp_path / "grades.csv") as file:
        scores = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert scores == {"right": 4, "half": 0, "nothing": 0}
