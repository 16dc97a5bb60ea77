"""Benchmark of Headstart's speed and memory against Keras, PyTorch, ONNX Runtime and candle's own operations.

    python3 tests/bench/compare.py [ROUNDS] [--only PATTERN] [--photographs FOLDER] [--growth | --gpu]

Creates its own Python environment in ~/.cache/headstart, builds the programs, and prints a table of medians, with
their ratios and spread. Raw numbers go to tests/bench/results. Every program has its own process and two threads,
or HEADSTART_BENCH_THREADS. It is a benchmark, not a test: run it on an idle machine.

--photographs FOLDER   also measure decoding of and training on a folder of classes
--growth               only measure how a forward pass scales with batch size and image side
--gpu                  only measure Headstart and PyTorch, on the first NVIDIA GPU
--only PATTERN         only measure matching tasks; they replace their raw numbers if those are of the same machine
--only families        compare one network of each family with PyTorch (timm) and ONNX Runtime, at 224 pixels: forward
                       passes of 1, 4 and 16 images, and a forward and backward pass of 8
"""

import hashlib
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from worker import DEVICE, FAMILIES, IMAGES, THREADS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "headstart"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", CACHE / "target"))
# The packages of tests/all: with others, cargo would compile candle with other features.
PACKAGES = [part for name in ("", "-kernel", "-fetch", "-frame", "-gpu", "-hub") for part in ("-p", f"headstart{name}")]
SPEED = TARGET / "release" / "examples" / "speed"
# With this variable, the same program uses candle's own operations.
BY_CANDLE = {"HEADSTART_TEST_DEVICE_PATH": "1"}
# Runs the other frameworks, each in a process of its own. This program uses only the standard library.
WORKER = HERE / "worker.py"

NETWORKS = ("vgg16", "resnet50")
FORWARD = ((1, 224), (4, 224), (16, 224), (32, 64))
TRAINING = {"vgg16": ("all", "block5_conv1"), "resnet50": ("all", "conv5_block1_1_conv")}
TRAINING_SIZES = ((8, 64), (8, 224))
# Network, task, batch size and image side in pixels.
TASKS = [(n, "forward", b, s) for n in NETWORKS for b, s in FORWARD]
TASKS += [(n, task, b, s) for n in NETWORKS for task in TRAINING[n] for b, s in TRAINING_SIZES]
# First run: no cell was compiled before. Second run: all cells are in the compile cache.
PROGRAMS = tuple(("tutorial's program", f"from start to prediction, {which}", 4, 224) for which in ("first", "again"))
# Augmentation of 64 images; decoding of a folder of images, and one epoch of training on them.
AUGMENTATION = (IMAGES, "augmentation", 32, 224)
PHOTOGRAPHS = ((IMAGES, "decoding", 32, 224), (IMAGES, "epoch", 32, 224))
# One network of each family, by timm's name. They are measured only on request: `--only families`.
FAMILY_NETWORKS = (
    *("vgg16_bn", "resnet18", "resnet101", "densenet121", "mobilenetv2_100", "mobilenetv3_large_100"),
    *("efficientnet_b0", "tf_efficientnetv2_s", "regnety_016", "convnext_tiny", "convnextv2_tiny"),
    *("vit_tiny_patch16_224", "vit_small_patch16_224", "deit3_small_patch16_224"),
)
FAMILY_TASKS = [(f"{FAMILIES} {n}", "forward", b, 224) for n in FAMILY_NETWORKS for b in (1, 4, 16)]
FAMILY_TASKS += [(f"{FAMILIES} {n}", "all", 8, 224) for n in FAMILY_NETWORKS]
GROWTH = [(n, "forward", b, 64) for n in NETWORKS for b in (1, 4, 16, 64)]
GROWTH += [(n, "forward", 1, s) for n in NETWORKS for s in (128, 224, 320, 448)]


def environment():
    """Create the environment with all frameworks if it is missing, and return its interpreter."""
    requirements = HERE / "requirements.txt"
    folder = CACHE / f"bench-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "-q", "-r", requirements], check=True)
        (folder / "ready").touch()
    return folder / "bin" / "python"


def run(command, **more):
    # All frameworks get the same number of threads.
    threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")}
    threads |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CARGO_TARGET_DIR": str(TARGET)} | more
    done = subprocess.run(command, cwd=ROOT, env=os.environ | threads, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr}")
    return done.stdout


def measured(output):
    seconds, memory = output.split()[-2:]
    return float(seconds), float(memory)


def timed(command):
    """Seconds from the start of a command to its end, and the peak memory of its largest process, in MB."""
    begin = time.perf_counter()
    child = os.fork()
    if not child:
        try:
            run(command)
        except SystemExit as stop:
            print(stop, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    if status:
        sys.exit(f"{command[0]} failed")
    return time.perf_counter() - begin, used.ru_maxrss / 1e3


def our_program(known):
    """The notebook's own lines, without figures, up to the prediction."""
    program = json.loads((ROOT / "notebooks" / "4_the_program.ipynb").read_text())
    cells = [cell for cell in program["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    last = next(at for at, source in enumerate(sources) if "Prediction" in source)
    is_own = ["plot()" not in source and "ImageGrid" not in source for source in sources[: last + 1]]
    program["cells"] = list(itertools.compress(cells, is_own))
    if not known:
        for cell in program["cells"]:
            cell["source"] = ["".join(cell["source"]) + f"\n// {time.time_ns()}"]
    target = Path(tempfile.gettempdir()) / "headstart-bench.ipynb"
    target.write_text(json.dumps(program))
    return timed([TARGET / "release" / "headstart", "run", target])


def contenders(python, task):
    name, what, batch, side = task
    if task in PROGRAMS:
        return {
            "headstart": lambda: our_program(known=task != PROGRAMS[0]),
            "keras": lambda: timed([python, WORKER]),
        }
    parts = [str(part) for part in task]

    def worker(kind, **more):
        return lambda: measured(run([python, WORKER, kind, *parts], **more))

    if name == IMAGES:
        folder = os.environ.get("HEADSTART_BENCH_PHOTOGRAPHS", "")
        own = [TARGET / "release" / "examples" / "images", *parts[1:], folder]
        return {"headstart": lambda: measured(run(own)), "keras": worker("keras")}
    found = {"headstart": lambda: measured(run([SPEED, *parts]))}
    if name.startswith(FAMILIES):
        found["pytorch"] = worker("pytorch")
        if what == "forward":
            found["onnxruntime"] = onnxruntime_worker(worker, name, side)
        return found
    found |= {"keras": worker("keras"), "pytorch": worker("pytorch")}
    if DEVICE in os.environ:
        del found["keras"]
        return found
    # candle's gradients of larger images would take minutes per round.
    if what == "forward" or side < 100:
        found["candle"] = lambda: measured(run([SPEED, *parts], **BY_CANDLE))
    if what == "forward":
        found["onnxruntime"] = onnxruntime_worker(worker, name, side)
    return found


def onnxruntime_worker(worker, name, side):
    """A worker for a network that Headstart exports first."""
    model = Path(tempfile.gettempdir()) / f"headstart-bench-{name.replace(' ', '-')}-{side}.onnx"
    if not model.exists():
        run([SPEED, name, model, "1", str(side)])
    return worker("onnxruntime", HEADSTART_BENCH_ONNX=str(model))


def processor():
    """Name of the processor, and its widest vector extension, if Linux reports it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    known = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    features = (known.get("flags") or known.get("Features", "")).split()
    vectors = [name for name in ("avx512f", "avx2", "asimd") if name in features]
    return " ".join([known.get("model name") or platform.processor() or platform.machine(), *vectors[:1]])


def main():
    arguments = sys.argv[1:]
    only = arguments[arguments.index("--only") + 1] if "--only" in arguments else ""
    rounds = int(arguments[0]) if arguments and arguments[0].isdigit() else 3
    tasks, features, result = [*TASKS, *PROGRAMS, AUGMENTATION], [], "compare.json"
    if "--photographs" in arguments:
        folder = Path(arguments[arguments.index("--photographs") + 1]).resolve()
        os.environ["HEADSTART_BENCH_PHOTOGRAPHS"] = str(folder)
        tasks += PHOTOGRAPHS
    if FAMILIES in only:
        tasks, result = FAMILY_TASKS, "families.json"
    if "--growth" in arguments:
        tasks, result = GROWTH, f"growth-{THREADS}.json"
    if "--gpu" in arguments:
        os.environ[DEVICE] = "cuda:0"
        tasks, features, result = TASKS, ["--features", "cuda"], "gpu.json"
    python = environment()
    build = ["cargo", "build", "--release", *PACKAGES]
    run([*build, "--example", "speed", "--example", "images", *features])
    run([*build, "--bins"])
    machine = {"processor": processor(), "threads": THREADS}
    target = HERE / "results" / result
    results = {"machine": machine, "seconds and MB": {}}
    if only and target.exists():
        results = json.loads(target.read_text())
    print(f"{'median seconds':46}{'headstart':>10}  and of it, others' (lowest to highest ratio); peak MB")
    for task in tasks:
        title = " ".join(str(part) for part in task[:2]) + f", {task[2]} at {task[3]}"
        if not re.search(only, title):
            continue
        of = contenders(python, task)
        rows = {kind: [] for kind in of}
        if task in PROGRAMS:
            # A warm-up run, so that all files are in the page cache.
            for once in of.values():
                once()
        for _ in range(rounds):
            for kind, once in of.items():
                rows[kind].append(once())
        results["seconds and MB"][title] = rows
        own = [seconds for seconds, _ in rows["headstart"]]
        line = f"{title:46}{statistics.median(own):10.3f}"
        for kind in list(rows)[1:]:
            other = [seconds for seconds, _ in rows[kind]]
            ratios = [a / b for a, b in zip(own, other)]
            line += f"  {kind} {statistics.median(other):.3f} = {statistics.median(ratios):.2f}"
            line += f" ({min(ratios):.2f}-{max(ratios):.2f})"
        memory = {kind: max(peak for _, peak in values) for kind, values in rows.items()}
        print(line + "; " + ", ".join(f"{peak:.0f}" for peak in memory.values()), flush=True)
        # Saved after each task, because a full run takes an hour.
        if results["machine"] == machine:
            target.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
