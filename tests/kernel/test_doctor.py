"""`headstart doctor`: what it finds, and its remedies."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys

from test_command import HEADSTART, headstart


def test_doctor_reports_every_component_as_ok():
    done = headstart("doctor")
    assert done.returncode == 0, done.stdout
    for thing in ("toolchain", "library sources", "cache", "prelude", "kernelspec", "jupyter", "device"):
        assert re.search(rf"^ok +{thing} ", done.stdout, re.M), f"{thing} is not ok in\n{done.stdout}"
    own = (sys.platform, platform.machine()) == ("linux", "x86_64")
    quick = own or shutil.which("mold") or shutil.which("lld")
    assert re.search(r"^ok +linker " if quick else r"^note +linker .*\n +→ apt install mold", done.stdout, re.M), done.stdout


def test_doctor_prints_remedies_for_missing_components(tmp_path):
    environment = os.environ | {"JUPYTER_DATA_DIR": str(tmp_path), "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    done = headstart("doctor", env=environment | {"PATH": "/nowhere", "CARGO_HOME": str(tmp_path)})
    assert done.returncode == 1
    assert re.search(r"FAIL +toolchain .*\n +→ install Rust from https://rustup.rs", done.stdout), done.stdout
    assert re.search(r"note +kernelspec .*\n +→ headstart install", done.stdout)


def test_lab_installs_the_front_end_of_widgets_or_names_it(tmp_path):
    extension = "share/jupyter/labextensions/@jupyter-widgets/jupyterlab-manager"
    log, programs, own = tmp_path / "log", tmp_path / "programs", tmp_path / "cache/headstart/jupyter"
    environment = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": str(programs)}
    environment["JUPYTER_DATA_DIR"] = str(tmp_path / "data")
    specification = tmp_path / "data/kernels/headstart/kernel.json"
    specification.parent.mkdir(parents=True)
    specification.write_text(json.dumps({"argv": [str(HEADSTART)], "display_name": "a", "language": "rust"}))
    programs.mkdir()

    def program(path, text):
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    # Stand for Python, whose new environment has a pip, and for that pip, which installs a JupyterLab.
    program(tmp_path / "lab", "")
    program(tmp_path / "pip", f'echo "$@" >>{log}\n/bin/cp {tmp_path}/lab "${{0%/*}}/jupyter-lab"')
    program(programs / "python3", f'/bin/mkdir -p "$4/bin"\n/bin/cp {tmp_path}/pip "$4/bin/pip"')

    def opened():
        """What is printed, and what is installed."""
        log.write_text("")
        done = headstart("lab", tmp_path / "lessons", env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout, log.read_text().splitlines()

    assert opened()[1] == ["install --quiet jupyterlab jupyterlab_widgets"]
    # The environment of an earlier version.
    assert opened()[1] == ["install --quiet jupyterlab_widgets"]
    (own / extension).mkdir(parents=True)
    shown, installed = opened()
    assert not installed and "cannot show widgets" not in shown
    # The user's own JupyterLab.
    program(programs / "jupyter-lab", "")
    shown, installed = opened()
    assert not installed and "install the Python package jupyterlab_widgets" in shown
    (tmp_path / extension).mkdir(parents=True)
    assert "cannot show widgets" not in opened()[0]


# Functions that return the versions of CUDA 13.0 and cuDNN 9.10.
CUDA_VERSIONS = """
int cuDriverGetVersion(int *version) { return *version = 13000, 0; }
int nvrtcVersion(int *major, int *minor) { return *major = 13, *minor = 0, 0; }
int cublasGetProperty(int property, int *value) { return *value = property ? 0 : 13, 0; }
unsigned long cudnnGetVersion(void) { return 91000; }
unsigned long cudnnGetCudartVersion(void) { return 13000; }
"""


def test_doctor_reports_the_libraries_of_cuda(tmp_path):
    environment = os.environ | {"HEADSTART_CUDA_LIBRARIES": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    environment = {name: value for name, value in environment.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    (tmp_path / "versions.c").write_text(CUDA_VERSIONS)
    for name in ("libcuda.so.1", "libnvrtc.so.13", "libcublas.so.13", "libcudnn.so.9"):
        subprocess.run(["cc", "-shared", "-o", tmp_path / name, tmp_path / "versions.c"], check=True)
    done = headstart("doctor", env=environment)
    assert re.search(rf"^ok +CUDA libraries +{tmp_path}/libcuda.so.1, .*{tmp_path}/libcudnn.so.9", done.stdout, re.M), done.stdout
    assert "convolutions in TensorFloat-32 from compute capability 8.0 on" in done.stdout, done.stdout
    done = headstart("doctor", env=environment | {"HEADSTART_PRECISION": "bfloat16"})
    assert "convolutions in BFloat16 (HEADSTART_PRECISION)" in done.stdout, done.stdout
    done = headstart("doctor", env=environment | {"HEADSTART_PRECISION": "half"})
    assert re.search(r"^note +CUDA libraries +HEADSTART_PRECISION=half: expected float32, tf32 or bfloat16", done.stdout, re.M), done.stdout
    (tmp_path / "libcudnn.so.9").unlink()
    done = headstart("doctor", env=environment)
    assert re.search(r"^note +CUDA libraries +cuDNN 9 not found.*\n +→ .*pip install nvidia-cudnn-cu13", done.stdout, re.M), done.stdout
