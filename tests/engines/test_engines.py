"""The sweep in examples/sweep, run by real engines and read by real tools.

    tests/engines/run

installs Optuna, MLflow and TensorBoard into a separate environment, and Slurm as a Debian package.
"""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
HEADSTART = Path(os.environ["CARGO_TARGET_DIR"]) / "release" / "headstart"
SHORT = "-p epochs=4"
LONG = 300  # epochs: long enough to be killed before the end
# Lines of the grid.
FIRST, SECOND = f"-p rate=1e-2 {SHORT}", f"-p rate=1e-3 {SHORT}"
KILLED = f"-p rate=1e-2 -p epochs={LONG}"


@pytest.fixture
def sweep(tmp_path):
    """A copy of the example with two short trials."""
    folder = tmp_path / "sweep"
    shutil.copytree(ROOT / "examples/sweep", folder)
    (folder / "grid.txt").write_text(f"{FIRST}\n{SECOND}\n")
    return folder


def name(line):
    """The name of a line's trial."""
    return "trial-" + hashlib.sha256(line.encode()).hexdigest()[:8]


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory):
    os.environ["PATH"] = f"{HEADSTART.parent}:{os.environ['PATH']}"
    os.environ["HEADSTART_STANDBY"] = "0"
    # MLflow reads its file store only if this variable is set.
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    os.environ["JUPYTER_DATA_DIR"] = str(tmp_path_factory.mktemp("jupyter"))


def run(folder, *command, **options):
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def table(folder):
    with open(folder / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def losses(notebook):
    outputs = [output for cell in json.loads(notebook.read_text())["cells"] for output in cell.get("outputs", [])]
    scraps = [output["data"]["application/scrapbook.scrap.json+json"] for output in outputs if "application/scrapbook.scrap.json+json" in output.get("data", {})]
    return {scrap["name"]: scrap["data"] for scrap in scraps}["val_losses"]


def start_until(folder, file, *command):
    """Start a program in a process group of its own, and kill the group when it has written a file."""
    process = subprocess.Popen(list(map(str, command)), cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while not list(folder.glob(file)):
        assert process.poll() is None and time.monotonic() < end, f"{file} was not written"
        time.sleep(0.02)
    os.killpg(process.pid, 9)
    process.wait()


def test_a_grid_whose_first_trial_was_killed(sweep, tmp_path):
    # Without a final newline.
    (sweep / "grid.txt").write_text(f"{KILLED}\n{SECOND}")
    whole = tmp_path / "whole"
    shutil.copytree(sweep, whole)
    output = run(whole, "./grid.sh")
    assert output.count("features cached in features") == 1 and output.count("features read from features") == 1
    start_until(sweep, f"work/{name(KILLED)}/training.backup", "./grid.sh")
    assert not (sweep / f"results/{name(KILLED)}.ipynb").exists()
    run(sweep, "./grid.sh")
    rows = table(sweep)
    found = {(row["notebook"], row["status"], row["rate"]) for row in rows}
    assert found == {(name(KILLED), "ok", "0.01"), (name(SECOND), "ok", "0.001")} and len(rows) == 2
    assert rows == table(whole), "the results of the killed trial are those of an uninterrupted one"
    for trial in (name(KILLED), name(SECOND)):
        assert losses(sweep / f"results/{trial}.ipynb") == losses(whole / f"results/{trial}.ipynb")
    assert "circle" in (sweep / "results.svg").read_text()
    run(sweep, "./grid.sh", timeout=20)  # nothing to do


def test_a_failing_trial_does_not_end_the_grid(sweep):
    failing = "-p units=0"
    (sweep / "grid.txt").write_text(f"{failing}\n\n{SECOND}\n{SECOND}\n")
    for _ in range(2):
        done = subprocess.run(["./grid.sh"], cwd=sweep, capture_output=True, text=True)
        assert done.returncode == 1 and f"{name(failing)} failed" in done.stderr, done.stderr
        assert "line 2 is empty" in done.stdout and "line 4 is the same as line 3" in done.stdout
        rows = {row["notebook"]: row["status"] for row in table(sweep)}
        assert rows == {f"failed-{name(failing)}": "failed", name(SECOND): "ok"}
    # Other parameters are another trial.
    (sweep / "grid.txt").write_text(f"{SECOND}\n{FIRST}\n")
    (sweep / f"results/failed-{name(failing)}.ipynb").unlink()
    run(sweep, "./grid.sh")
    assert {row["rate"] for row in table(sweep)} == {"0.001", "0.01"}


def test_mlflow_reads_the_runs(sweep):
    import mlflow

    run(sweep, "./grid.sh")
    client = mlflow.MlflowClient(tracking_uri=str(sweep / "mlruns"))
    experiment = client.get_experiment_by_name("sweep")
    runs = client.search_runs([experiment.experiment_id])
    assert {one.info.run_name for one in runs} == {name(FIRST), name(SECOND)}
    for one in runs:
        assert one.info.status == "FINISHED" and one.info.end_time > one.info.start_time
        assert one.data.params["units"] == "32" and float(one.data.params["rate"]) in (1e-2, 1e-3)
        history = client.get_metric_history(one.info.run_id, "val_loss")
        assert [metric.step for metric in history] == [0, 1, 2, 3]
        assert [metric.value for metric in history] == losses(sweep / f"results/{one.info.run_name}.ipynb")
    # MLflow writes into the same folder.
    mlflow.set_tracking_uri(str(sweep / "mlruns"))
    mlflow.set_experiment("sweep")
    with mlflow.start_run():
        mlflow.log_metric("val_loss", 1.0)
    assert len(client.search_runs([experiment.experiment_id])) == 3


def test_tensorboard_reads_the_events(sweep):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(sweep, "./grid.sh")
    events = EventAccumulator(str(sweep / f"tensorboard/{name(FIRST)}/validation")).Reload()
    assert "epoch_loss" in events.Tags()["scalars"]
    found = [event.value for event in events.Scalars("epoch_loss")]
    assert found == pytest.approx(losses(sweep / f"results/{name(FIRST)}.ipynb"), rel=1e-6)


def test_two_optuna_processes_share_a_study_and_a_killed_trial_resumes(sweep):
    notebook = json.loads((sweep / "trial.ipynb").read_text())
    source = notebook["cells"][1]["source"]
    notebook["cells"][1]["source"] = [line.replace("epochs: usize = 20", f"epochs: usize = {LONG}") for line in source]
    (sweep / "trial.ipynb").write_text(json.dumps(notebook))
    program = [sys.executable, "optuna_sweep.py", "--trials", "3"]
    start_until(sweep, "work/optuna-0-*/training.backup", *program)
    first, second = (subprocess.Popen(program, cwd=sweep, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2))
    outputs = [process.communicate(timeout=600)[0] for process in (first, second)]
    assert first.returncode == second.returncode == 0, outputs
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    study = optuna.load_study(study_name="sweep", storage=JournalStorage(JournalFileBackend(str(sweep / "optuna.journal"))))
    states = [trial.state.name for trial in study.trials]
    assert states[0] == "FAIL" and states.count("COMPLETE") >= 3 and "RUNNING" not in states
    again = [trial for trial in study.trials[1:] if trial.user_attrs["name"] == study.trials[0].user_attrs["name"]]
    assert len(again) == 1 and again[0].params == study.trials[0].params
    assert not list(sweep.glob("work/optuna-0-*/training.backup")), "the training ended"
    assert any("best: " in output for output in outputs)
    assert len(table(sweep)) == states.count("COMPLETE")


def test_optuna_ends_if_every_trial_fails(sweep):
    notebook = json.loads((sweep / "trial.ipynb").read_text())
    notebook["cells"][2]["source"] = "this_name_is_not_defined"
    (sweep / "trial.ipynb").write_text(json.dumps(notebook))
    program = [sys.executable, "optuna_sweep.py", "--trials", "5"]
    done = subprocess.run(program, cwd=sweep, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "no trial has finished: 3 failed in a row" in done.stderr, done.stderr
    assert len(list((sweep / "results").iterdir())) == 3


def test_two_processes_enqueue_a_lost_trial_once(sweep, monkeypatch):
    monkeypatch.syspath_prepend(str(sweep))
    import optuna
    import optuna_sweep

    def load():
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(sweep / "optuna.journal")))
        return optuna.create_study(study_name="sweep", storage=storage, load_if_exists=True)

    first, second = load(), load()
    lost = first.ask()
    lost.suggest_float("rate", 0.1, 1.0)
    process = subprocess.Popen(["true"])
    process.wait()
    lost.set_user_attr("worker", f"{os.uname().nodename}:{process.pid}")
    lost.set_user_attr("name", "optuna-0")

    class Late:
        """The second process, which has read the trials before the first one changes them."""

        trials = second.get_trials(states=[optuna.trial.TrialState.RUNNING])

        def get_trials(self, **_):
            optuna_sweep.continue_lost_trials(first)
            return self.trials

        tell, enqueue_trial = second.tell, second.enqueue_trial

    optuna_sweep.continue_lost_trials(Late())
    assert [trial.state.name for trial in first.trials] == ["FAIL", "WAITING"]


def test_kubernetes_manifest_is_valid_and_its_command_runs_a_trial(sweep):
    import yaml

    job = yaml.safe_load((sweep / "kubernetes.yaml").read_text())
    assert job["spec"]["completionMode"] == "Indexed"
    original = (ROOT / "examples/sweep/grid.txt").read_text().splitlines()
    assert job["spec"]["completions"] == len(original)
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    # Kubernetes reduces `$$` to `$`.
    command = [word.replace("$$", "$") for word in command]
    run(sweep, *command, env=os.environ | {"JOB_COMPLETION_INDEX": "1"})
    assert [path.name for path in (sweep / "results").iterdir()] == [f"{name(SECOND)}.ipynb"]
    # The image exists on the node only, and its user writes to the volume.
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["imagePullPolicy"] == "IfNotPresent" and pod["securityContext"]["fsGroup"] == 1000


def test_slurm_runs_the_array_and_requeues_a_killed_task(sweep, slurm):
    (sweep / "grid.txt").write_text(f"{KILLED}\n{SECOND}\n")
    job = run(sweep, "sbatch", "--parsable", "--array=1-2", "slurm.sh").strip()
    end = time.monotonic() + 300
    while not (sweep / f"work/{name(KILLED)}/training.backup").exists():
        assert time.monotonic() < end, (sweep / f"slurm-{job}-1.txt").read_text()
        time.sleep(0.05)
    run(sweep, "scontrol", "requeue", f"{job}_1")
    while run(sweep, "squeue", "--noheader", "--jobs", job, "--states=all", "--format=%T").strip():
        states = run(sweep, "squeue", "--noheader", "--array", "--jobs", job, "--states=all", "--format=%T").split()
        if states and set(states) <= {"COMPLETED"}:
            break
        assert "FAILED" not in states and time.monotonic() < end + 300, states
        time.sleep(1)
    output = (sweep / f"slurm-{job}-1.txt").read_text()
    assert output.count("[1/") == 2, "the task began twice"
    run(sweep, "./grid.sh")
    assert [row["status"] for row in table(sweep)] == ["ok", "ok"]


@pytest.fixture
def slurm(tmp_path):
    """Slurm with one node, this machine, as the user of the tests."""
    configuration = tmp_path / "slurm.conf"
    host = os.uname().nodename
    for name in ("state", "spool", "log"):
        (tmp_path / name).mkdir()
    configuration.write_text(
        f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmUser=root
SlurmdUser=root
StateSaveLocation={tmp_path}/state
SlurmdSpoolDir={tmp_path}/spool
SlurmctldLogFile={tmp_path}/log/slurmctld
SlurmdLogFile={tmp_path}/log/slurmd
SlurmctldPidFile={tmp_path}/slurmctld.pid
SlurmdPidFile={tmp_path}/slurmd.pid
SelectType=select/cons_tres
JobRequeue=1
SchedulerParameters=batch_sched_delay=1,sched_min_interval=1000000
NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
    )
    os.environ["SLURM_CONF"] = str(configuration)
    key = tmp_path / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    socket = Path("/run/munge/munge.socket.2")
    socket.parent.mkdir(exist_ok=True, parents=True)
    programs = [
        ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket}", f"--pid-file={tmp_path}/munge.pid",
         f"--log-file={tmp_path}/log/munge", f"--seed-file={tmp_path}/munge.seed"],
        ["slurmctld", "-D", "-i"],
        ["slurmd", "-D", "-N", host],
    ]
    running = []
    for program in programs:
        log = open(tmp_path / "log" / f"{program[0]}.out", "w")
        running.append(subprocess.Popen(program, stdout=log, stderr=log))
        time.sleep(1)
    end = time.monotonic() + 60
    while "idle" not in subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True).stdout:
        assert time.monotonic() < end, "".join(path.read_text()[-2000:] for path in (tmp_path / "log").iterdir())
        time.sleep(0.5)
    yield
    for program in reversed(running):
        program.terminate()
        program.wait(30)
