"""What is exported to ONNX gives the same numbers in onnxruntime."""

import subprocess

import numpy as np
import onnxruntime
import pytest
from conftest import RELEASE
from safetensors.numpy import load_file


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    subprocess.run([RELEASE / "examples" / "onnx", folder], check=True, timeout=120)
    return folder


@pytest.mark.parametrize(
    "name", ["transfer", "vgg16", "resnet50", "efficientnet_b0", "efficientnet_lite0", "pools"]
)
def test_onnxruntime_gives_the_same_numbers(exported, name):
    known = load_file(exported / f"{name}.safetensors")
    session = onnxruntime.InferenceSession(str(exported / f"{name}.onnx"))
    spread = known["y"].std()
    assert spread > 1e-3, "outputs that are all the same prove nothing"
    for count in (3, 1):
        (found,) = session.run(None, {"input": known["x"][:count]})
        expected = known["y"][:count]
        worst = np.abs(found - expected).max()
        print(name, count, "worst difference", worst, "of a spread of", spread)
        assert worst < 1e-4 * spread, worst
