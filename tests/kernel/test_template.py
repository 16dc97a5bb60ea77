"""The compiled prelude survives what may befall its making."""

import os
import resource
import signal
import subprocess
import time

import pytest
from conftest import HEADSTART, Kernel


@pytest.fixture
def empty_cache(tmp_path):
    """A cache without a template. cargo's folder stays, so that nothing need be compiled anew."""
    return os.environ | {"XDG_CACHE_HOME": str(tmp_path), "JUPYTER_DATA_DIR": str(tmp_path / "jupyter")}


def parts(cache):
    return list((cache / "headstart" / "parts").glob("*"))


def whole(cache):
    return list((cache / "headstart" / "templates").glob("*/whole"))


def test_a_killed_build_leaves_nothing_in_the_way(empty_cache, tmp_path):
    building = subprocess.Popen([HEADSTART, "install"], env=empty_cache, start_new_session=True)
    end = time.monotonic() + 300
    while not parts(tmp_path):
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(building.pid, signal.SIGKILL)
    building.wait()
    assert parts(tmp_path) and not whole(tmp_path)
    kernel = Kernel(env=empty_cache)
    try:
        cell = kernel.run("Tensor::zeros(2, DType::F32, &device())?.dims()", timeout=300)
        assert cell.value == "[2]"
        assert whole(tmp_path) and not parts(tmp_path)
    finally:
        kernel.stop()


def test_who_waits_for_the_prelude_is_told_so(empty_cache):
    kernel = Kernel(env=empty_cache)
    try:
        cell = kernel.run("1 + 1", timeout=300)
        assert cell.value == "2"
        assert "compiling the prelude" in cell.stderr
        assert kernel.run("2").stderr == ""
    finally:
        kernel.stop()


def test_a_full_disk_is_named_and_leaves_nothing(empty_cache, tmp_path):
    def full():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    done = subprocess.run(
        [HEADSTART, "install"], env=empty_cache, capture_output=True, text=True, timeout=300, preexec_fn=full
    )
    assert done.returncode == 1
    assert "File too large" in done.stderr and str(tmp_path) in done.stderr, done.stderr
    assert not whole(tmp_path) and not parts(tmp_path)
