"""`headstart features`: shards, a killed shard that is resumed, and errors."""

import hashlib
import json
import os
import subprocess
import time

import pytest
from conftest import HEADSTART, Kernel, below, wait_until_gone
from safetensors import safe_open

IMAGES = 2000  # of each class, so that there are 8 parts
OPTIONS = ("--model", "resnet50", "--weights", "demo")


def features(folder, output, *more, network=OPTIONS):
    command = [HEADSTART, "features", folder, "--out", output, *network, *more]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features") / "images"
    kernel = Kernel()
    kernel.ok(f'draw_demo_images({json.dumps(str(folder))}, {IMAGES}, 64, 1)?;', timeout=300)
    kernel.stop()
    return folder


def content(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_killed_shards_are_resumed_and_equal_the_whole(images, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    done = features(images, whole)
    assert done.returncode == 0, done.stderr
    command = [HEADSTART, "features", images, "--out", parts, *OPTIONS, "--shard", "1/3"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("shard 1 of 3: features of 512 "):
            break
    children = below(process.pid)
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until_gone(children)
    [first] = [path for path in parts.iterdir() if path.suffix == ".safetensors"]
    time_of_first = first.stat().st_mtime_ns
    for shard in range(3):
        done = features(images, parts, "--shard", f"{shard}/3")
        assert done.returncode == 0, done.stderr
    assert first.stat().st_mtime_ns == time_of_first, "the finished part is not computed again"
    assert content(parts) == content(whole), "bit for bit"
    manifest = json.loads((whole / "manifest.json").read_text())
    assert manifest["images"] == 2 * IMAGES and manifest["class_names"] == ["cats", "dogs"]
    with safe_open(whole / "part-00007.safetensors", "numpy") as part:
        assert part.get_tensor("features").shape == (2 * IMAGES - 7 * 512, *manifest["shape"])
        assert part.get_tensor("labels").tolist() == [1] * (2 * IMAGES - 7 * 512)
        assert json.loads(part.metadata()["part"])["files"][-1].startswith("dogs/")
    # An image that was changed: its part is computed again.
    image = sorted((images / "cats").iterdir())[0]
    time.sleep(0.01)
    image.write_bytes(image.read_bytes())
    done = features(images, parts)
    assert done.returncode == 0 and content(parts) == content(whole)
    assert first.stat().st_mtime_ns == time_of_first
    # Cells read them.
    kernel = Kernel()
    shape = kernel.ok(f"let features = ImageFeatures::load({json.dumps(str(parts))})?; (features.len(), features.x.dims().to_vec())")
    assert shape == f"({2 * IMAGES}, {[2 * IMAGES, *manifest['shape']]})"
    kernel.stop()


def test_errors_of_features(images, tmp_path):
    done = features(images, tmp_path / "a", "--shard", "4/4")
    assert done.returncode == 2 and "such as 0/4" in done.stderr, done.stderr
    for model, weights, expected in [
        ("resnet51", "demo", "one of"),
        ("resnet50", "resnet50.unknown_in1k", "resnet50.unknown_in1k"),
        ("none.safetensors", "demo", "none.safetensors"),
    ]:
        done = features(images, tmp_path / "a", network=("--model", model, "--weights", weights))
        assert done.returncode == 1 and expected in done.stderr, done.stderr
    done = features(tmp_path / "none", tmp_path / "a")
    assert done.returncode == 1 and str(tmp_path / "none") in done.stderr
    few = tmp_path / "few"
    few.mkdir()
    for number, image in enumerate(sorted((images / "dogs").iterdir())[:3]):
        (few / f"{number}.png").write_bytes(image.read_bytes())
    assert features(few, tmp_path / "b").returncode == 0
    assert json.loads((tmp_path / "b/manifest.json").read_text())["class_names"] == ["few"]
    done = features(images, tmp_path / "b")
    assert done.returncode == 1 and "use another folder" in done.stderr, done.stderr
    (few / "0.png").write_bytes(b"no image")
    done = features(few, tmp_path / "c")
    assert done.returncode == 1 and "0.png" in done.stderr, done.stderr


def test_small_mixed_and_damaged_folders(images, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for number, image in enumerate(sorted((images / "dogs").iterdir())[:3]):
        (few / f"{number}.png").write_bytes(image.read_bytes())
    (few / "damaged.png").write_bytes(b"no image")
    output = tmp_path / "features"
    # The images are one part, which belongs to the last shard.
    for shard, expected in (("0/2", "no images, because 3 images in parts of 512"), ("1/2", "features of 3 of 3 images")):
        done = features(few, output, "--skip-damaged", "--shard", shard)
        assert done.returncode == 0 and expected in done.stdout, done.stderr
        assert "left out as damaged: " in done.stdout and "damaged.png" in done.stdout
    # The same images in a folder with another name, as on another machine.
    few.rename(tmp_path / "renamed")
    done = features(tmp_path / "renamed", output, "--skip-damaged")
    assert done.returncode == 0 and json.loads((output / "manifest.json").read_text())["class_names"] == ["few"], done.stderr
    (tmp_path / "renamed/thumbs").mkdir()
    done = features(tmp_path / "renamed", tmp_path / "mixed", "--skip-damaged")
    assert done.returncode == 1 and "found both" in done.stderr, done.stderr
    done = features(tmp_path / "renamed", tmp_path / "mixed", "--skip-damaged", "--no-classes")
    assert done.returncode == 0, done.stderr
