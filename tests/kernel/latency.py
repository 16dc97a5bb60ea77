"""How long one waits, beside the stock kernel, in one run: medians, in seconds.

    CARGO_TARGET_DIR=… python tests/kernel/latency.py [ROUNDS]

It is a benchmark, not a test: run it on an idle machine, with both kernels installed as
tests/conftest.py installs them.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from conftest import ROOT, install_kernels  # noqa: E402
from jupyter_client.manager import KernelManager  # noqa: E402

LATER = 15
LOAD = {"headstart": "", "stock": f':dep headstart = {{ path = "{ROOT}" }}\nuse headstart::prelude::*;\n'}

CELLS = {
    "an integer variable": "let n# = #;",
    "an expression": "n0 + #",
    "a tensor variable": "let t# = Tensor::zeros((# + 1, 3), DType::F32, &device())?;",
    "a model variable": "let mut m# = sequential![Input::new(# + 1), Dense::new(1)]?;",
}


def seconds(kernel, code):
    begin = time.monotonic()
    reply = kernel.execute_interactive(code, timeout=1800, output_hook=lambda message: None, allow_stdin=False)
    assert reply["content"]["status"] == "ok", reply["content"]
    return time.monotonic() - begin


def measure(name):
    """One kernel from its start: what was measured, by its name."""
    begin = time.monotonic()
    manager = KernelManager(kernel_name=name)
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.kernel_info(reply=True, timeout=300)
    found = {"kernel_info, from start": [time.monotonic() - begin]}
    seconds(client, LOAD[name] + "let first = Tensor::zeros((2, 3), DType::F32, &device())?;")
    found["first cell with the prelude, from start"] = [time.monotonic() - begin]
    # In turn, since each variable that is there already makes a cell a little longer.
    for i in range(LATER):
        for what, code in CELLS.items():
            found.setdefault(what, []).append(seconds(client, code.replace("#", str(i))))
    client.stop_channels()
    manager.shutdown_kernel()
    return found


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    install_kernels(Path(tempfile.mkdtemp()))
    measure("stock")  # compiles candle where that was not done yet
    found = {name: {} for name in LOAD}
    for _ in range(rounds):
        for name in LOAD:
            for what, values in measure(name).items():
                found[name].setdefault(what, []).extend(values)
    print(f"{'seconds, medians':42}{'headstart':>10}{'stock':>10}{'ratio':>8}")
    for what in found["headstart"]:
        ours, theirs = (statistics.median(found[name][what]) for name in LOAD)
        print(f"{what:42}{ours:10.2f}{theirs:10.2f}{ours / theirs:8.2f}")


if __name__ == "__main__":
    main()
