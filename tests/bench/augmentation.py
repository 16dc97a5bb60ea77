"""Augmentation beside Keras's ImageDataGenerator, in turn, in one run: pictures a second.

    python tests/bench/augmentation.py [ROUNDS]

Needs keras, tensorflow-cpu and scipy. A benchmark, not a test: run it on an idle machine.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np  # noqa: E402
from keras.src.legacy.preprocessing.image import ImageDataGenerator  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 8


def keras():
    x = np.random.default_rng(0).uniform(0, 255, (64, 224, 224, 3)).astype("float32")
    datagen = ImageDataGenerator(
        rotation_range=20, width_shift_range=0.2, height_shift_range=0.2, horizontal_flip=True
    )
    flow = datagen.flow(x, np.zeros(64), batch_size=32)
    begin, pictures = time.monotonic(), 0
    while time.monotonic() - begin < SECONDS:
        pictures += len(next(flow)[0])
    return pictures / (time.monotonic() - begin)


def ours():
    command = ["cargo", "run", "--release", "-q", "--example", "augmentation"]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    ours()  # compiles it
    found = [(ours(), keras()) for _ in range(rounds)]
    ratios = [a / b for a, b in found]
    for name, values in (("headstart", [a for a, _ in found]), ("keras", [b for _, b in found])):
        print(f"{name:10} {statistics.median(values):7.0f} pictures a second")
    print(f"ratio {statistics.median(ratios):.1f}, from {min(ratios):.1f} to {max(ratios):.1f}")


if __name__ == "__main__":
    main()
