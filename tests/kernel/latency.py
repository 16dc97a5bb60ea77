"""How long one waits, beside the stock kernel, in one run: medians, in seconds.

    CARGO_TARGET_DIR=… python tests/kernel/latency.py [ROUNDS]

Cells that no session has compiled before, and the same again in the next session, which Headstart
remembers. It is a benchmark, not a test: run it on an idle machine, with both kernels installed as
tests/conftest.py installs them.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from string import Template

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from conftest import ROOT, install_kernels  # noqa: E402
from jupyter_client.manager import KernelManager  # noqa: E402

LATER = 15
LOAD = {"headstart": "", "stock": f':dep headstart = {{ path = "{ROOT}" }}\nuse headstart::prelude::*;\n'}

KERNELS = ["headstart", "headstart, known", "stock"]

# With a number of the cell's own, and one of the round's.
FIRST = "let first = Tensor::zeros((2, $round), DType::F32, &device())?;"
CELLS = {
    "an integer variable": "let n$cell = $cell + $round;",
    "an expression": "n0 + $cell + $round",
    "a tensor variable": "let t$cell = Tensor::zeros(($cell + 1, $round), DType::F32, &device())?;",
    "a model variable": "let mut m$cell = sequential![Input::new($cell + $round), Dense::new(1)]?;",
}


def seconds(kernel, code):
    begin = time.monotonic()
    reply = kernel.execute_interactive(code, timeout=1800, output_hook=lambda message: None, allow_stdin=False)
    assert reply["content"]["status"] == "ok", reply["content"]
    return time.monotonic() - begin


def measure(name, this_round):
    """One kernel from its start: what was measured, by its name."""

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
    # In turn, since each variable that is there already makes a cell a little longer.
    for i in range(LATER):
        for what, code in CELLS.items():
            found.setdefault(what, []).append(seconds(client, filled(code, i)))
    client.stop_channels()
    manager.shutdown_kernel()
    return found


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    install_kernels(Path(tempfile.mkdtemp()))
    begin = int(time.time()) % 100_000
    measure("stock", begin)  # compiles candle where that was not done yet
    found = {name: {} for name in KERNELS}
    for this_round in range(begin + 1, begin + 1 + rounds):
        for name in KERNELS:
            for what, values in measure(name.split(",")[0], this_round).items():
                found[name].setdefault(what, []).extend(values)
    print(f"{'seconds, medians':42}" + "".join(f"{name:>18}" for name in KERNELS) + f"{'ratio to stock':>18}")
    for what in found["headstart"]:
        ours, known, theirs = (statistics.median(found[name][what]) for name in KERNELS)
        print(f"{what:42}{ours:18.2f}{known:18.2f}{theirs:18.2f}{ours / theirs:18.2f}")


if __name__ == "__main__":
    main()
