"""Kernel, prelude, tests and examples share dependencies, and have no large ones that they do not use."""

import subprocess
import tomllib

from conftest import ROOT

OURS = "headstart"
TESTED = ["headstart", "headstart-kernel", "headstart-fetch", "headstart-frame", "headstart-hub"]
# An HTTP client of a hundred crates, a second TLS library with a minute of C compilation, and a linear
# algebra library.
UNNEEDED = ["aws-lc-sys", "criterion", "hf-xet", "nalgebra", "reqwest"]


def tree(*arguments):
    """Each crate with the features that it is compiled with."""
    command = ["cargo", "tree", "--offline", "--prefix", "none", "--format", "{p}|{f}", *arguments]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return {line.removesuffix(" (*)") for line in lines if line and not line.startswith(OURS)}


def names(tree):
    return {line.split()[0] for line in tree}


def test_tests_share_all_dependencies_with_the_kernel():
    kernel = tree("--package", "headstart-kernel", "--package", "headstart-cell", "--edges", "normal,build")
    tests = tree(*[word for name in TESTED for word in ("--package", name)], "--edges", "all")
    assert not kernel - tests, "compiled with other features for the tests"


def test_the_prelude_has_no_http_client():
    prelude = tree("--package", "headstart-prelude", "--edges", "normal")
    assert not names(prelude) & {"ureq", "rustls", "hf-hub", "ring"}


def test_no_large_unused_dependency_is_compiled():
    everything = tree("--package", "headstart-kernel", "--package", "headstart-cell", "--edges", "normal,build")
    assert "candle-core" in names(everything)
    assert not names(everything) & set(UNNEEDED)


def test_dependencies_of_cells_have_an_optimisation_level_without_shared_generics():
    profile = tomllib.loads((ROOT / "Cargo.toml").read_text())["profile"]["release"]["package"]
    low = {name for name, settings in profile.items() if settings.get("opt-level") in (0, 1, "s", "z")}
    assert low and not low & names(tree("--package", "headstart-prelude", "--edges", "normal"))
