"""Build hook: adds the program, the compiled prelude and the kernelspec, which `release` has gathered, to the wheel."""

import os
import re
import subprocess
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent


def platform(program):
    """The platform tag, with the oldest glibc that has every function that the program uses."""
    symbols = subprocess.run(["objdump", "-T", program], check=True, capture_output=True, text=True).stdout
    versions = [tuple(map(int, found)) for found in re.findall(r"GLIBC_(\d+)\.(\d+)", symbols)]
    machine = os.uname().machine
    return "manylinux_{}_{}_{}".format(*max(versions), machine)


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version, build_data):
        artefacts = Path(os.environ["HEADSTART_ARTEFACTS"])
        program = artefacts / "headstart"
        [archive] = artefacts.glob("*.tar.zst")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform(program)}"
        build_data["shared_scripts"][str(program)] = "headstart"
        build_data["shared_data"] |= {
            str(archive): f"share/headstart/{archive.name}",
            str(HERE / "nbgrader_config.py"): "share/headstart/nbgrader_config.py",
            str(HERE / "kernel.json"): "share/jupyter/kernels/headstart/kernel.json",
            str(HERE.parent / "src" / "cli" / "logo.svg"): "share/jupyter/kernels/headstart/logo-svg.svg",
        }
