"""Fixtures of all kernel tests: the built command, installed for the tests' own Jupyter."""

import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager
from jupyter_kernel_test.msgspec_v5 import validate_message

ROOT = Path(__file__).resolve().parent.parent
RELEASE = Path(os.environ["CARGO_TARGET_DIR"]) / "release"
HEADSTART = RELEASE / "headstart"



def cache_folder():
    """Headstart's cache. Each process of pytest-xdist has its own, except for the compiled prelude."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "headstart"
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        shared = cache / "templates"
        shared.mkdir(parents=True, exist_ok=True)
        os.environ["XDG_CACHE_HOME"] = str(cache / "tests" / worker)
        cache = cache / "tests" / worker / "headstart"
        cache.mkdir(parents=True, exist_ok=True)
        if not (cache / "templates").is_symlink():
            (cache / "templates").symlink_to(shared)
    return cache


CACHE = cache_folder()
START_TIMEOUT = 300  # seconds until a kernel answers: a guard against a hang


def install_kernels(data):
    """Install Headstart's kernel and the stock one into a Jupyter data folder, and set it in the environment."""
    os.environ["JUPYTER_DATA_DIR"] = str(data)
    # Without standbys, so that each kernel loads by itself and nothing disturbs measurements. Tests of
    # standbys enable them.
    os.environ["HEADSTART_STANDBY"] = "0"
    # Compiles the prelude if necessary, so there is no timeout.
    subprocess.run([HEADSTART, "install"], check=True)
    stock = data / "kernels" / "stock"
    stock.mkdir()
    # The folder is reused by later runs: candle is compiled there.
    work = Path(tempfile.gettempdir()) / f"headstart-stock-{os.getuid()}"
    work.mkdir(exist_ok=True)
    specification = {
        "argv": [str(RELEASE / "examples" / "stock_evcxr"), "--control_file", "{connection_file}"],
        "display_name": "Rust (stock)",
        "language": "rust",
        "interrupt_mode": "message",
        "env": {"EVCXR_TMPDIR": str(work)},
    }
    (stock / "kernel.json").write_text(json.dumps(specification))


@pytest.fixture(scope="session", autouse=True)
def jupyter(tmp_path_factory):
    """Jupyter folders only for the tests; the user's files are not touched."""
    os.environ["XDG_DATA_HOME"] = str(tmp_path_factory.mktemp("data"))
    for variable in ("CONFIG", "RUNTIME"):
        os.environ[f"JUPYTER_{variable}_DIR"] = str(tmp_path_factory.mktemp(variable.lower()))
    install_kernels(tmp_path_factory.mktemp("jupyter"))


class Cell:
    """Result of a cell: its reply, and the messages of each type in order."""

    def __init__(self, reply, messages):
        self.reply = reply["content"]
        self.messages = messages

    def of_type(self, *types):
        return [m["content"] for m in self.messages if m["msg_type"] in types]

    @property
    def status(self):
        return self.reply["status"]

    @property
    def stdout(self):
        return self._stream("stdout")

    @property
    def stderr(self):
        return self._stream("stderr")

    def _stream(self, name):
        return "".join(c["text"] for c in self.of_type("stream") if c["name"] == name)

    @property
    def value(self):
        """The text of the last expression's value, or None."""
        results = self.of_type("execute_result")
        return results[0]["data"]["text/plain"] if results else None

    @property
    def traceback(self):
        """The error as shown to a user, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(self.reply["traceback"]))


class Kernel:
    """A running kernel and a client. Every message of a cell is checked against the protocol's schema.

    `waits=False`: the client does not wait until the kernel answers.
    """

    def __init__(self, name="headstart", manager=None, waits=True, **start):
        self.manager = KernelManager(kernel_name=name, **(manager or {}))
        self.manager.start_kernel(**start)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.allow_stdin = False
        if waits:
            self.client.wait_for_ready(timeout=START_TIMEOUT)

    def send(self, code, **options):
        return self.client.execute(code, **options)

    def result(self, request, timeout=120):
        """Wait for a sent cell to end."""
        messages = []
        while True:
            message = self.client.get_iopub_msg(timeout=timeout)
            if message["parent_header"].get("msg_id") != request:
                continue
            # The schema has no messages of comms.
            if not message["msg_type"].startswith("comm_"):
                validate_message(message, parent_id=request)
            messages.append(message)
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
        while True:
            reply = self.client.get_shell_msg(timeout=timeout)
            if reply["parent_header"]["msg_id"] == request:
                validate_message(reply, "execute_reply", request)
                return Cell(reply, messages)

    def run(self, code, timeout=120, **options):
        return self.result(self.send(code, **options), timeout)

    def ok(self, code, timeout=120):
        """Run a cell that must succeed, and return its value."""
        cell = self.run(code, timeout)
        assert cell.status == "ok", cell.traceback
        return cell.value

    def stop(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel()


def processes():
    """Parent, state and command line of each process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
                found[int(entry.name)] = (int(parent), state, (entry / "cmdline").read_bytes())
            except OSError:
                pass
    return found


def below(process):
    known = processes()
    return [number for number, (parent, state, _) in known.items() if parent == process and state != "Z"]


def sessions():
    """Folders in which kernels compile cells."""
    return {path for path in (CACHE / "sessions" / "target" / "package").glob("*") if path.is_dir()}


def session_of(process):
    """Folder in which a kernel's cells are compiled; waits until their process has started."""
    while True:
        for child in below(process):
            environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            for variable in environment:
                if variable.startswith(b"EVCXR_TMPDIR="):
                    return Path(variable.split(b"=", 1)[1].decode())
        time.sleep(0.05)


def wait_until_gone(numbers, seconds=5):
    for _ in range(10 * seconds):
        if not [number for number in numbers if processes().get(number, (0, "Z", b""))[1] != "Z"]:
            return
        time.sleep(0.1)
    raise AssertionError(f"still there: {[processes().get(number) for number in numbers]}")


@pytest.fixture(scope="module")
def kernel():
    kernel = Kernel()
    yield kernel
    kernel.stop()
