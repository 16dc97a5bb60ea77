"""The wheel's configuration of nbgrader and JupyterHub: assignments in Rust, created, submitted and graded by unmodified
nbgrader, and a hub's own settings.
"""

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
# A healthy cell with notes: of the kernel, of the library, and on a panic that the cell expects.
NOTED = """\
let scores = vec![accuracy(&[1], &[1])];
let first = &scores[0];
set_gpu_precision(GpuPrecision::BFloat16)?;
assert!(std::panic::catch_unwind(|| -> f64 { panic!("expected") }).is_err());
assert_eq!(*first, 1.0);"""
NOTES = ["later cells cannot use `first`", "the precision does not change", "a panic was caught: expected"]
# A cell whose value is its points.
PARTIAL = "accuracy(&[1, 0], &[1, 1]) * 2.0"
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
        # Only for the endless submission: the others take less.
        "c.ExecutePreprocessor.timeout = 20\n"
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
        cell(NOTED, "accuracy-noted", grade=True, locked=True, points=2),
        cell(PARTIAL, "accuracy-partial", grade=True, locked=True, points=3),
    ]
    metadata = {"kernelspec": KERNELSPEC}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), source / "exercises.ipynb")
    nbgrader("generate_assignment", "week1")
    released = nbformat.read(tmp_path / "release/week1/exercises.ipynb", 4)
    assert "todo!()" in released.cells[0].source and "correct" not in released.cells[0].source
    assert "0.0" not in released.cells[1].source

    stub = "    // YOUR CODE HERE\n    todo!()\n"
    right = "    predicted.iter().zip(expected).filter(|(a, b)| a == b).count() as f64 / expected.len() as f64\n"
    for student, answer in [("right", right), ("half", HALF), ("nothing", stub), ("endless", "    loop {}\n")]:
        content = nbformat.from_dict(released)
        content.cells[0].source = released.cells[0].source.replace(stub, answer)
        folder = tmp_path / "submitted" / student / "week1"
        folder.mkdir(parents=True)
        nbformat.write(content, folder / "exercises.ipynb")
    nbgrader("autograde", "week1")
    nbgrader("export")
    with open(tmp_path / "grades.csv") as file:
        scores = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert scores == {"right": 7, "half": 1, "nothing": 0, "endless": 0}
    assert (tmp_path / "autograded/endless/week1/exercises.ipynb").is_file(), "the others of its cells are graded"
    graded = nbformat.read(tmp_path / "autograded/right/week1/exercises.ipynb", 4)
    said = "".join(output.text for output in graded.cells[2].outputs if output.output_type == "stream")
    assert all(note in said for note in NOTES), said


def test_the_hubs_own_settings_stay(tmp_path):
    from traitlets.config.loader import PyFileConfigLoader

    (tmp_path / "jupyterhub_config.py").write_text(
        'c = get_config()\nc.Spawner.environment = {"TOKEN": "a", "RAYON_NUM_THREADS": "8"}\n'
        'c.Spawner.args = ["--allow-root"]\n'
        f'load_subconfig("{ROOT / "kernel/package/jupyterhub_config.py"}")\n'
        'c.Spawner.environment.update({"HEADSTART_STANDBY": "1"})\n'
    )
    spawner = PyFileConfigLoader("jupyterhub_config.py", str(tmp_path)).load_config().Spawner
    environment = spawner.environment
    assert environment["TOKEN"] == "a" and environment["HEADSTART_STANDBY"] == "1"
    assert environment["RAYON_NUM_THREADS"] == "2"
    # Rust, which is in no learner's home folder.
    assert environment["RUSTUP_HOME"] == "/usr/local/rustup"
    assert environment["PATH"].startswith("/usr/local/cargo/bin:")
    assert spawner.args[0] == "--allow-root" and "--MappingKernelManager.cull_interval=60" in spawner.args


def test_other_languages_keep_their_code_stubs(monkeypatch):
    from traitlets.config.loader import PyFileConfigLoader

    # Restores the variable, which the configuration changes.
    monkeypatch.setenv("HEADSTART_NOTES", "stderr")
    config = PyFileConfigLoader("nbgrader_config.py", str(ROOT / "kernel/package")).load_config()
    stubs = config.ClearSolutions.code_stub
    assert "todo!()" in stubs["rust"] and "fail()" in stubs["R"] and "NotImplementedError" in stubs["python"]
