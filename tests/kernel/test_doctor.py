"""`headstart doctor`: what it finds, and its remedies."""

import os
import platform
import re
import shutil
import subprocess
import sys

from test_command import headstart


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
