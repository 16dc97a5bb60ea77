"""Standbys: kernels that are loaded before Jupyter requests them."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CACHE, HEADSTART, Kernel, below, processes, session_of, sessions, wait_until_gone

SOCKET = CACHE / "standby" / "socket"


@pytest.fixture(autouse=True)
def switched_on(monkeypatch):
    """Enable standbys with a lifetime shorter than a test."""
    monkeypatch.setenv("HEADSTART_STANDBY", "2")
    yield
    wait_until_gone(standbys(), seconds=20)


def standbys():
    """Standbys with the cache of these tests."""
    cache = f"XDG_CACHE_HOME={os.environ.get('XDG_CACHE_HOME', '')}".encode()
    found = [number for number, (_, state, command) in processes().items() if b"\0standby\0" in command + b"\0" and state != "Z"]
    return [number for number in found if "XDG_CACHE_HOME" not in os.environ or cache in environment_of(number)]


def environment_of(process):
    try:
        return Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def wait_for_standby():
    for _ in range(300):
        if SOCKET.exists():
            return standbys()
        time.sleep(0.1)
    raise AssertionError("no standby came")


def test_the_next_kernel_is_the_standby():
    first = Kernel()
    assert first.ok("1 + 1") == "2"
    (waiting,) = wait_for_standby()
    # Invalid questions do not harm it.
    for said in (b"", b"{}", b"\xff" * 100):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(SOCKET))
            stranger.sendall(said)
    begin = time.monotonic()
    second = Kernel()
    try:
        assert second.ok("Tensor::zeros(2, DType::F32, &device())?.dims()") == "[2]"
        assert time.monotonic() - begin < 2.5
        assert not SOCKET.exists() and not below(second.manager.provisioner.pid)
        # It is a normal kernel: it can be interrupted, outlives the kernel that started it, and starts
        # another standby.
        request = second.send("let mut n = 0; loop { check_interrupt()?; n += 1; }")
        time.sleep(1.5)
        second.manager.interrupt_kernel()
        assert second.result(request).reply["ename"] == "Interrupted"
        first.stop()
        time.sleep(3)
        assert second.ok("2 + 2") == "4"
        assert set(wait_for_standby()) - {waiting}
    finally:
        second.stop()
    assert second.manager.provisioner is None or not second.manager.is_alive()
    wait_until_gone([waiting])


def test_a_forced_restart_uses_the_standby():
    kernel = Kernel()
    try:
        for _ in range(3):
            kernel.ok("let here = 1;")
            wait_for_standby()
            kernel.manager.restart_kernel(now=True)
            kernel.client.wait_for_ready(timeout=60)
            assert kernel.run("here").status == "error", "it is another process"
    finally:
        kernel.stop()


def test_a_kernel_ends_when_its_proxy_is_killed():
    first = Kernel()
    first.ok("1 + 1")
    (serving,) = wait_for_standby()
    second = Kernel()
    second.ok("1 + 1")
    started = below(serving)
    assert started
    os.kill(second.manager.provisioner.pid, signal.SIGKILL)
    wait_until_gone([serving, *started])
    second.stop()
    first.stop()


def test_a_proxy_ends_when_its_kernel_ends():
    first = Kernel()
    first.ok("1 + 1")
    (serving,) = wait_for_standby()
    second = Kernel()
    second.ok("1 + 1")
    known, session = second.manager.provisioner.pid, session_of(serving)
    os.kill(known, signal.SIGTERM)
    wait_until_gone([known, serving])
    assert session not in sessions()
    second.stop()
    first.stop()


def test_a_kernel_of_another_kind_starts_its_own_standby(tmp_path):
    first = Kernel()
    first.ok("1 + 1")
    (waiting,) = wait_for_standby()
    elsewhere = Kernel(cwd=tmp_path)
    try:
        assert elsewhere.ok("std::env::current_dir()?.display().to_string()").strip('"') == str(tmp_path)
        wait_until_gone([waiting])
        assert wait_for_standby() != [waiting]
    finally:
        elsewhere.stop()
        first.stop()


def test_a_standby_ends_soon_after_the_last_kernel_and_removes_its_folder():
    kernel = Kernel()
    kernel.ok("1 + 1")
    waiting = wait_for_standby()
    session = session_of(waiting[0])
    assert session in sessions()
    kernel.stop()
    wait_until_gone(waiting)
    assert not SOCKET.exists() and session not in sessions()


def test_an_idle_standby_ends_when_the_cache_is_cleared(monkeypatch):
    monkeypatch.setenv("HEADSTART_STANDBY", "60")
    kernel = Kernel()
    kernel.ok("1 + 1")
    waiting = wait_for_standby()
    kernel.stop()
    begin = time.monotonic()
    # No other test has files of this kind.
    done = subprocess.run([HEADSTART, "cache", "clear", "jupyter"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begin < 15
    wait_until_gone(waiting, seconds=20)


def test_a_running_kernel_is_not_dismissed_with_its_standby(monkeypatch):
    kernel = Kernel()
    kernel.ok("let kept = 1;")
    wait_for_standby()
    done = subprocess.run([HEADSTART, "cache", "clear", "jupyter"], capture_output=True, text=True)
    assert done.returncode == 1 and "1 running kernels of Headstart" in done.stderr, done.stderr
    assert kernel.ok("kept") == "1"
    kernel.stop()


def test_no_standby_starts_if_disabled(monkeypatch):
    monkeypatch.setenv("HEADSTART_STANDBY", "0")
    kernel = Kernel()
    kernel.ok("1 + 1")
    time.sleep(7)
    assert not standbys()
    kernel.stop()


def test_kernels_and_standby_end_when_the_server_is_killed(monkeypatch):
    monkeypatch.setenv("HEADSTART_STANDBY", "60")
    # Starts kernels as Jupyter's server does. The second kernel was a standby.
    code = (
        "import sys; from jupyter_client.manager import KernelManager\n"
        "for line in sys.stdin:\n"
        "    manager = KernelManager(kernel_name='headstart'); manager.start_kernel()\n"
        "    client = manager.blocking_client(); client.start_channels(); client.wait_for_ready(timeout=300)\n"
        "    client.execute('1 + 1', reply=True, timeout=60)\n"
        "    print(manager.provisioner.pid, flush=True); globals().setdefault('kept', []).append(manager)"
    )
    server = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    started = []
    for _ in range(2):
        server.stdin.write("next\n")
        started.append(int(server.stdout.readline()))
        started += below(started[-1]) + wait_for_standby()
    started += [child for process in standbys() for child in below(process)]
    assert len(standbys()) == 2, "one serves, and one waits"
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    wait_until_gone(started)
