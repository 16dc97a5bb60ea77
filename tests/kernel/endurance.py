"""Survey of a long session: memory, open files and time of 500 cells, compared with the first 50.

    CARGO_TARGET_DIR=… python tests/kernel/endurance.py [CELLS]

It is a survey, not a test, and takes minutes.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from conftest import install_kernels  # noqa: E402
from jupyter_client.manager import KernelManager  # noqa: E402

# Number of cells of each median.
WINDOW = 50
CELLS = [
    "let n{i} = {i};",
    "let t{i} = Tensor::zeros(({i}, 3), DType::F32, &device())?;",
    'println!("{{}}", n0 + {i});',
    "{{ let mut m = sequential![Input::new(4), Dense::new(1)]?; m.predict(&Tensor::zeros((2, 4), DType::F32, &device())?)? }}",
    "fn f{i}(x: f32) -> f32 {{ x + {i} as f32 }}",
]


def processes(root):
    """A process and all its descendants."""
    tasks = Path(f"/proc/{root}/task").iterdir()
    children = {int(c) for task in tasks for c in (task / "children").read_text().split()}
    return [root] + [p for child in children for p in processes(child)]


def usage(root):
    found = []
    for process in processes(root):
        status = Path(f"/proc/{process}/status").read_text().splitlines()
        # A process that has just ended has no memory.
        memory = next((int(line.split()[1]) for line in status if line.startswith("VmRSS")), 0)
        found.append((memory // 1024, len(list(Path(f"/proc/{process}/fd").iterdir()))))
    return found


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    install_kernels(Path(tempfile.mkdtemp()))
    manager = KernelManager(kernel_name="headstart")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=300)
    waited = []
    for i in range(count):
        begin = time.monotonic()
        reply = client.execute_interactive(CELLS[i % len(CELLS)].format(i=i), timeout=600, output_hook=lambda m: None)
        assert reply["content"]["status"] == "ok", reply["content"]
        waited.append(time.monotonic() - begin)
        if i + 1 in (WINDOW, count):
            print(f"after {i + 1} cells, median of the last {WINDOW} {statistics.median(waited[-WINDOW:]):.2f} s")
            for memory, files in usage(manager.provisioner.pid):
                print(f"  a process with {memory} MB and {files} open files", flush=True)
    client.stop_channels()
    manager.shutdown_kernel()


if __name__ == "__main__":
    main()
