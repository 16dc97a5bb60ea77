"""A parameter search with Optuna: each trial runs the notebook with parameters that Optuna chooses.

    pip install optuna
    python optuna_sweep.py --trials 20

Several processes, also on several machines with a shared folder, may run this program at once: they share the study
in `optuna.journal`. A process continues the unfinished trials of a killed process on the same machine: the notebook
resumes from its backup.
"""

import argparse
import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

SCRAP = "application/scrapbook.scrap.json+json"
MAX_FAILURES = 3  # failed trials in a row that end the search: the fault is probably in the notebook


def run(name, parameters):
    """Run the notebook and return its results by name."""
    Path("results").mkdir(exist_ok=True)
    target = Path("results") / f"{name}.ipynb"
    arguments = [word for key, value in parameters.items() for word in ("-p", f"{key}={value}")]
    subprocess.run(["headstart", "run", "trial.ipynb", "--output", target, "-p", f"trial={name}", *arguments], check=True)
    cells = json.loads(target.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    scraps = [output["data"][SCRAP] for output in outputs if SCRAP in output.get("data", {})]
    return {scrap["name"]: scrap["data"] for scrap in scraps}


def objective(trial):
    trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
    parameters = {
        "rate": trial.suggest_float("rate", 1e-4, 1e-1, log=True),
        "units": trial.suggest_categorical("units", [32, 128]),
    }
    # The hash keeps a trial from the backup that a trial of another study has left under the same number. A continued
    # trial has the name of its first attempt, so that it finds the backup.
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:8]
    name = trial.user_attrs.get("name", f"optuna-{trial.number}-{digest}")
    trial.set_user_attr("name", name)
    return run(name, parameters)["val_accuracy"]


def is_alive(worker):
    host, process = worker.rsplit(":", 1)
    if host != socket.gethostname():
        return True  # unknown
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def continue_lost_trials(study):
    """Enqueue the trials of killed processes again, with the same parameters and names."""
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        worker = trial.user_attrs.get("worker")
        if worker is None or "name" not in trial.user_attrs or is_alive(worker):
            continue
        try:
            study.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, UpdateFinishedTrialError):
            continue  # Another process has just enqueued it.
        study.enqueue_trial(trial.params, user_attrs={"name": trial.user_attrs["name"]})


def failure_limit():
    """A callback that ends the search after `MAX_FAILURES` failed trials in a row."""
    failures = 0

    def count(study, trial):
        nonlocal failures
        failures = failures + 1 if trial.state == TrialState.FAIL else 0
        if failures == MAX_FAILURES:
            study.stop()

    return count


def number_of_finished(study):
    return len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20, help="number of finished trials of the study, of all processes together")
    parser.add_argument("--seed", type=int, help="seed of the search; with a single process, the search is then reproducible")
    arguments = parser.parse_args()
    study = optuna.create_study(
        study_name="sweep",
        storage=JournalStorage(JournalFileBackend("optuna.journal")),
        sampler=optuna.samplers.TPESampler(seed=arguments.seed),
        direction="maximize",
        load_if_exists=True,
    )
    continue_lost_trials(study)
    limit = optuna.study.MaxTrialsCallback(arguments.trials, states=(TrialState.COMPLETE,))
    if number_of_finished(study) < arguments.trials:
        study.optimize(objective, callbacks=[limit, failure_limit()], catch=(subprocess.CalledProcessError,))
    finished = number_of_finished(study)
    if not finished:
        sys.exit(f"no trial has finished: {MAX_FAILURES} failed in a row, with the errors above")
    print(f"best: {study.best_value:.4f} with {study.best_params}")
    command = ["headstart", "results", "results", "--output", "results.csv", "--chart", "results.svg"]
    subprocess.run([*command, "--metric", "val_accuracy"], check=True)
    if finished < arguments.trials:
        sys.exit(f"{finished} of {arguments.trials} trials have finished: the last {MAX_FAILURES} failed, with the errors above")


if __name__ == "__main__":
    main()
