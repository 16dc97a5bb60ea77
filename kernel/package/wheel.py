"""Fills the two wheels from the artefacts that `release` has gathered.

`headstart-kernel` gets the program and the kernelspec, `headstart-prelude` the compiled prelude.
"""

import os
import re
import subprocess
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

PRELUDE = "headstart-prelude"


def platform(program):
    """Returns the platform tag: the oldest glibc that has every function the program uses."""
    symbols = subprocess.run(["objdump", "-T", program], check=True, capture_output=True, text=True).stdout
    versions = [tuple(map(int, found)) for found in re.findall(r"GLIBC_(\d+)\.(\d+)", symbols)]
    machine = os.uname().machine
    return "manylinux_{}_{}_{}".format(*max(versions), machine)


class CustomMetadataHook(MetadataHookInterface):
    def update(self, metadata):
        metadata["dependencies"] = [f"{PRELUDE}=={metadata['version']}"]


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version, build_data):
        artefacts = Path(os.environ["HEADSTART_ARTEFACTS"])
        program = artefacts / "headstart"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform(program)}"
        if self.metadata.name == PRELUDE:
            [archive] = artefacts.glob("*.tar.zst")
            build_data["shared_data"][str(archive)] = f"share/headstart/{archive.name}"
            return
        here = Path(self.root)
        build_data["shared_scripts"][str(program)] = "headstart"
        build_data["shared_data"] |= {
            str(here / "nbgrader_config.py"): "share/headstart/nbgrader_config.py",
            str(here / "jupyterhub_config.py"): "share/headstart/jupyterhub_config.py",
            str(here / "kernel.json"): "share/jupyter/kernels/headstart/kernel.json",
            str(here.parent / "src" / "cli" / "logo.svg"): "share/jupyter/kernels/headstart/logo-svg.svg",
        }
