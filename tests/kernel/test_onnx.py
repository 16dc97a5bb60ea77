"""Models exported to ONNX are valid and give the same numbers in onnxruntime."""

import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import RELEASE
from safetensors.numpy import load_file


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    subprocess.run([RELEASE / "examples" / "onnx", folder], check=True, timeout=120)
    return folder


NAMES = [
    *("transfer", "vgg16", "resnet50", "efficientnet_b0", "efficientnet_lite0"),
    *("pools", "tokens", "trunk", "names", "two_inputs"),
]


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_valid(exported, name):
    onnx.checker.check_model(str(exported / f"{name}.onnx"), full_check=True)
    model = onnx.load(exported / f"{name}.onnx")
    made = [tensor.name for tensor in model.graph.initializer] + [o for node in model.graph.node for o in node.output]
    assert len(made) == len(set(made)), "two tensors of one name"


def test_every_export_is_checked(exported):
    assert sorted(path.stem for path in exported.glob("*.onnx")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_onnxruntime_gives_the_same_numbers(exported, name):
    known = load_file(exported / f"{name}.safetensors")
    session = onnxruntime.InferenceSession(str(exported / f"{name}.onnx"))
    inputs = {key.removeprefix("in "): x for key, x in known.items() if key.startswith("in ")}
    outputs = {key.removeprefix("out "): y for key, y in known.items() if key.startswith("out ")}
    assert {tensor.name for tensor in session.get_inputs()} == set(inputs)
    assert {tensor.name for tensor in session.get_outputs()} == set(outputs)
    for output, expected in outputs.items():
        spread = expected.std()
        assert spread > 1e-3, "outputs that are all the same prove nothing"
        for count in (3, 1):
            (found,) = session.run([output], {key: x[:count] for key, x in inputs.items()})
            assert found.shape == expected[:count].shape
            worst = np.abs(found - expected[:count]).max()
            print(name, output, count, "worst difference", worst, "of a spread of", spread)
            assert worst < 1e-4 * spread, worst
