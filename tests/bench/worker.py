"""Measures one task with another framework, and prints the median seconds of a step and the peak memory in MB.

    worker.py KIND NETWORK TASK BATCH SIDE    a step of Keras, PyTorch or ONNX Runtime
    worker.py                                 runs the tutorial's program in Keras

`compare.py` starts it in the environment with all frameworks.
"""

import os
import statistics
import sys
import time
from pathlib import Path

THREADS = int(os.environ.get("HEADSTART_BENCH_THREADS", "2"))
DEVICE = "HEADSTART_DEVICE"
# First words of tasks.
IMAGES = "images"
FAMILIES = "families"
# Minimum duration, and minimum number of runs, of the measurement of a task.
MIN_SECONDS, MIN_RUNS = 4.0, 5


def measure(step, min_runs=MIN_RUNS):
    step()
    times, begin = [], time.perf_counter()
    while len(times) < min_runs or time.perf_counter() - begin < MIN_SECONDS:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    print(statistics.median(times), peak / 1e3)


def keras_step(name, task, batch, side):
    import keras
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    make = {"vgg16": keras.applications.VGG16, "resnet50": keras.applications.ResNet50}[name]
    model = make(weights=None, include_top=False, input_shape=(side, side, 3))
    x = tf.constant(np.random.default_rng(0).uniform(-1, 1, (batch, side, side, 3)).astype("float32"))
    if task == "forward":
        run = tf.function(lambda x: model(x, training=False))
        return lambda: run(x).numpy()
    if task != "all":
        # Keras's VGG16 and ResNet50 have the same layer names as Headstart's.
        begins = [layer.name for layer in model.layers].index(task)
        for layer in model.layers[:begins]:
            layer.trainable = False

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x, training=True) ** 2)
        return tape.gradient(loss, model.trainable_variables)

    return lambda: [g.numpy() for g in step(x)][0]


def pytorch_step(name, task, batch, side):
    import torch
    import torchvision

    torch.set_num_threads(THREADS)
    device = os.environ.get(DEVICE, "cpu")
    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    if name.startswith(FAMILIES):
        import timm

        features = timm.create_model(name.removeprefix(f"{FAMILIES} "))
        features.forward = features.forward_features
    else:
        model = getattr(torchvision.models, name)()
        features = model.features if name == "vgg16" else torch.nn.Sequential(*list(model.children())[:-2])
    features.to(device)
    x = (torch.rand(batch, 3, side, side) * 2 - 1).to(device)
    if task == "forward":
        features.eval()

        def forward():
            with torch.inference_mode():
                features(x)
            wait()

        return forward
    if task != "all":
        # In torchvision: the fifth block of VGG16, or the fourth layer of ResNet50.
        later = features[24:] if name == "vgg16" else features[7:]
        features.requires_grad_(False)
        later.requires_grad_(True)
        if name == "resnet50":
            features[:7].eval()

    def step():
        features.zero_grad(set_to_none=True)
        (features(x) ** 2).sum().backward()
        wait()

    return step


def keras_images(name, task, batch, side):
    import keras
    import numpy as np
    import tensorflow as tf
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    folder = os.environ.get("HEADSTART_BENCH_PHOTOGRAPHS")

    def read():
        return list(keras.utils.image_dataset_from_directory(folder, image_size=(side, side), verbose=False))

    datagen = ImageDataGenerator(
        rotation_range=20, width_shift_range=0.2, height_shift_range=0.2, horizontal_flip=True
    )
    if task == "decoding":
        return read
    if task == "augmentation":
        x = np.random.default_rng(0).uniform(0, 255, (64, side, side, 3)).astype("float32")
        flow = datagen.flow(x, np.zeros(64), batch_size=batch)
        return lambda: [flow[at] for at in range(len(flow))]
    x, y = (np.concatenate(parts) for parts in zip(*read()))
    x = keras.applications.vgg16.preprocess_input(x)
    base_model = keras.applications.VGG16(weights=None, include_top=False, input_shape=(side, side, 3))
    base_model.trainable = False
    layers = keras.layers
    dense = [layers.Dense(128, activation="relu"), layers.Dropout(0.5), layers.Dense(1, activation="sigmoid")]
    model = keras.Sequential([base_model, layers.Flatten(), *dense])
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    return lambda: model.fit(datagen.flow(x, y, batch_size=batch), epochs=1, verbose=0)


def onnxruntime_step(name, task, batch, side):
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    path = os.environ["HEADSTART_BENCH_ONNX"]
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).uniform(-1, 1, (batch, 3, side, side)).astype("float32")
    return lambda: session.run(None, {session.get_inputs()[0].name: x})


def keras_program():
    """The tutorial's own program, line for line."""
    import numpy as np
    from keras import Sequential
    from keras.applications import VGG16
    from keras.layers import Dense, Dropout, Flatten
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    x = np.random.rand(4, 224, 224, 3).astype("float32")
    y = np.array([0, 1, 0, 1])
    base_model = VGG16(weights=None, include_top=False, input_shape=(224, 224, 3))
    base_model.trainable = False
    model = Sequential(
        [base_model, Flatten(), Dense(128, activation="relu"), Dropout(0.5), Dense(1, activation="sigmoid")]
    )
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    datagen = ImageDataGenerator(
        rotation_range=20, width_shift_range=0.2, height_shift_range=0.2, horizontal_flip=True
    )
    datagen.fit(x)
    model.fit(datagen.flow(x, y, batch_size=4), epochs=10, verbose=1)
    pred = model.predict(x[:1])
    print(f"Prediction for first image: {pred[0][0]:.2f}")


def main():
    if len(sys.argv) == 1:
        keras_program()
        return
    steps = {"keras": keras_step, "pytorch": pytorch_step, "onnxruntime": onnxruntime_step}
    kind, name, task, batch, side = sys.argv[1:]
    step = keras_images if name == IMAGES else steps[kind]
    measure(step(name, task, int(batch), int(side)), min_runs=2 if task == "epoch" else MIN_RUNS)


if __name__ == "__main__":
    main()
