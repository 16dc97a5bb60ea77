"""Benchmark of waiting times, compared with the stock kernel in the same run: medians, in seconds.

    CARGO_TARGET_DIR=… python tests/kernel/latency.py [ROUNDS]

Measures three kinds of cells: new cells, the same cells in the next session (Headstart's compile cache contains them),
and new cells in a standby kernel. It is a benchmark, not a test: run it on an idle machine, with both kernels
installed as in tests/conftest.py.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from string import Template

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from conftest import CACHE, ROOT, install_kernels  # noqa: E402
from jupyter_client.manager import KernelManager  # noqa: E402

# Number of repetitions of each cell after the first.
REPETITIONS = 15
LOAD = {"headstart": "", "stock": f':dep headstart = {{ path = "{ROOT}" }}\nuse headstart::prelude::*;\n'}

KERNELS = ["headstart", "headstart, known", "headstart, ready", "stock"]

READY = CACHE / "standby" / "socket"

# Each cell contains its own number and the round's.
FIRST = "let first = Tensor::zeros((2, $round), DType::F32, &device())?;"
CELLS = {
    "an integer variable": "let n$cell = $cell + $round;",
    "an integer variable, with ?": 'let q$cell = "$cell".parse::<i32>()? + $round;',
    "an expression": "n0 + $cell + $round",
    "a tensor variable": "let t$cell = Tensor::zeros(($cell + 1, $round), DType::F32, &device())?;",
    "a model variable": "let mut m$cell = sequential![Input::new(4), Dense::new($cell + 1)]?; // $round",
}

# Measured after the others, because all cells after the first that awaits run in tokio's runtime. That one adds tokio.
FIRST_AWAITING = "std::future::ready($round).await;"
AWAITING = "let a$cell = std::future::ready($cell + $round).await;"


def seconds(kernel, code):
    begin = time.monotonic()
    reply = kernel.execute_interactive(code, timeout=1800, output_hook=lambda message: None, allow_stdin=False)
    assert reply["content"]["status"] == "ok", reply["content"]
    return time.monotonic() - begin


def measure(name, this_round):
    """Measure one kernel from its start. Returns lists of seconds by name."""

    def filled(code, cell=0):
        return Template(code).substitute(cell=cell, round=this_round)

    begin = time.monotonic()
    manager = KernelManager(kernel_name=name)
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.kernel_info(reply=True, timeout=300)
    found = {"kernel_info, from start": [time.monotonic() - begin]}
    seconds(client, LOAD[name] + filled(FIRST))
    found["first cell with the prelude, from start"] = [time.monotonic() - begin]
    # Round robin, because each existing variable makes a cell slightly slower.
    for i in range(REPETITIONS):
        for what, code in CELLS.items():
            found.setdefault(what, []).append(seconds(client, filled(code, i)))
    found["the first awaiting cell"] = [seconds(client, filled(FIRST_AWAITING))]
    found["an awaiting cell"] = [seconds(client, filled(AWAITING, i)) for i in range(REPETITIONS)]
    client.stop_channels()
    manager.shutdown_kernel()
    return found


def measure_ready(this_round):
    """Like `measure`, for a kernel that an earlier kernel has prepared as a standby."""
    os.environ["HEADSTART_STANDBY"] = "60"
    before = KernelManager(kernel_name="headstart")
    before.start_kernel()
    while not READY.exists():
        time.sleep(0.1)
    found = measure("headstart", this_round)
    before.shutdown_kernel()
    os.environ["HEADSTART_STANDBY"] = "0"
    return found


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    install_kernels(Path(tempfile.mkdtemp()))
    begin = int(time.time()) % 100_000
    measure("stock", begin)  # compiles candle where that was not done yet
    found = {name: {} for name in KERNELS}
    for this_round in range(begin + 1, begin + 1 + rounds):
        for name in KERNELS:
            kernel, _, state = name.partition(", ")
            # "known" repeats cells that were compiled before; "ready" must compile new ones.
            measured = measure_ready(this_round + 100_000) if state == "ready" else measure(kernel, this_round)
            for what, values in measured.items():
                found[name].setdefault(what, []).extend(values)
    print(f"{'seconds, medians':42}" + "".join(f"{name:>18}" for name in KERNELS) + f"{'ratio to stock':>18}")
    for what in found["headstart"]:
        medians = [statistics.median(found[name][what]) for name in KERNELS]
        print(f"{what:42}" + "".join(f"{median:18.3f}" for median in medians) + f"{medians[0] / medians[-1]:18.2f}")


if __name__ == "__main__":
    main()
