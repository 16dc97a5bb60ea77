"""Typical mistakes in each lesson's cells, and what their errors say."""

import re

import pytest

# Typical mistakes of users who know Keras or another Rust library, for each lesson, and the text that the
# error must have.
MODEL = [
    "let base = Vgg16::new(Weights::Demo).include_top(false).build()?;",
    "let mut model = sequential![&base, Flatten, Dense::new(1).activation(Sigmoid)]?;",
    "let (x, y) = (random_uniform((4, 3, 64, 64), 0.0, 1.0)?, Tensor::new(&[0u32, 1, 0, 1], &device())?);",
]
COMPILED = MODEL + [
    "model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);",
    "let history = model.fit((&x, &y), Fit::epochs(1).chart(false).verbose(false).advice(false))?;",
]
IMAGES = COMPILED + [
    'let folder = std::env::temp_dir().join("headstart-slips"); draw_demo_images(&folder, 4, 64, 1)?;',
    "let (train, val) = Images::from_directory(&folder, (64, 64))?.split(0.5)?;",
    "let predictions = model.predict(&model.preprocess(&val.x)?)?;",
]
MISTAKES = {
    "1 what is transfer learning": (IMAGES, {
        "draw_demo_images(&folder, 100.0, 64, 11)?;": "write the count as an integer",
        'Images::from_directory(&folder, 64)?': "height and width, `(224, 224)`",
        'Images::from_directory("nowhere", (64, 64))?': "there is no such folder",
        "train.split(84)?": "use a float literal",
        'Chart::steps(&["load", "freeze"])': "expected `(&str, &str)`",
        'base.layer("block1_conv")?': "did you mean `block1_conv1`?",
        "ImageGrid::of_maps(&x)?": "expected shape [C, height, width], found [4, 3, 64, 64]",
        'base.outputs_of("block3_conv3", &x)?': "pass a list of names",
        'history["accurracy"].last()': 'the history has ["accuracy", "loss"]',
        "model.fit((&x, &y.i(..2)?), Fit::epochs(1))?": "found 4 inputs and 2 targets",
        'Chart::comparison("acc", &[("a", &history)])?': "expected one of accuracy, loss",
    }),
    "2 VGG16 and ResNet50": (MODEL, {
        "model.summry()": "summary",
        "base.plot": "use parentheses",
        'base.plot_block("conv2")?': "block1_conv1",
        "Vgg19::new(Weights::Demo)": "Vgg16",
        "Vgg16::new(Weights::Random).build()?": "`(/* u64 */)`",
        "Vgg16::new().build()?": "Weights` is missing",
        "Vgg16::new(Weights::Demo).include_top(False).build()?": "`false`",
        "Vgg16::new(Weights::Random(0)).input_shape((3, 16, 16)).build()?": "sides of at least 32",
        'Chart::bars("x", &[("a", 1.0)])?': "put the values of a bar in brackets",
        "base.predict(&x.i((.., .., ..32, ..32))?)?": "expected shape [batch, 3, 64, 64]",
    }),
    "3 the workflow": (COMPILED, {
        "missing.summary()": "run the cell that defines `missing` first",
        "Vgg16::new(Weights::Imagenet).build()?": "`ImageNet`",
        'Vgg16::new("imagenet").build()?': "pass a value: `Weights::ImageNet`",
        "base.trainable = false;": "`freeze()` or `unfreeze()`",
        "base.freeze()?;": "remove the `?`",
        'base.unfreeze_from("block5")?': "block5_conv1",
        "model.compile(Adam::new(1e-5));": "two arguments are missing",
        "model.fit((&x, &y), 10)?": "`model.fit((&x, &y), Fit::epochs(10))`",
        "model.fit_generator(&x)": "call `fit`, which takes generators",
        "model.predict_classes(&x)": "`model.predict(&x)?.classes()`",
        "base.layers[0]": "select a layer by number or name",
        "Fit::epochs(1).steps_per_epoch(2)": "pass fewer samples for a shorter epoch",
        'Fit::epochs(1).mode("max")': "set `mode` of the callback",
        'PictureFiles::from_directory("x", (8, 8))?': "write `ImageFiles`",
        "model.fit(&x, Fit::epochs(1))?": "as a pair, `(&x, &y)`",
        'Model::load("nowhere.safetensors")?': "nowhere.safetensors: No such file",
        "sequential![&base, Flatten, Dense::new(1)]?.fit((&x, &y), Fit::epochs(1))?": "the model is not compiled",
    }),
    "4 the program": (COMPILED + ["let datagen = ImageDataGenerator::new();", "let taken = base;"], {
        "base.freeze();": "`base` was moved by an earlier cell (`let taken = base;`)",
        "model.fit((&x, &[0, 1, 0, 1]), Fit::epochs(1))?": "inputs and targets, both tensors",
        "ImageDataGenerator::new().rotation_range(20)": "use a float literal",
        "random_uniform(4, 3, 224, 224)?": "3 arguments but 4",
        "datagen.flow(&x, &y)?": "argument #3 of type `usize` is missing",
        "datagen.flow(x, y, 4)?": "consider borrowing here",
        "model.fit(datagen.flow(&x, &y, 4)?, epochs=10)?": "set options with methods",
        "datagen.flow(&x, &y, 0)?": "batch_size: expected at least 1, found 0",
        "model.predict(x[0])?": "`x.i(..1)?` for a batch",
        "model.predict(&x.i(..1))?": "put `?` after a call that returns",
        "model.predict(&x.i(0)?)?": "add the batch dimension",
        'sequential![&model, Flatten, Dense::new(8).activation("relu")]?': "pass a value: `Relu`",
        'sequential![&model, Flatten, "dense"]?': "is not a layer; pass a value: `Flatten`",
    }),
    "5 fine-tuning": (COMPILED, {
        'Adam::new("1e-5")': "write the learning rate as a float",
        "model.compile(Adam::new(1), BinaryCrossentropy, [Accuracy]);": "write the learning rate as a float",
        "model.compile(Adam::new(-1.0), BinaryCrossentropy, [Accuracy]); model.fit((&x, &y), Fit::epochs(1))?": "expected a finite number of 0 or more, found -1",
        "model.fit((&x, &y), Fit::epochs(1).batch_size(0))?": "batch_size: expected at least 1",
        "model.fit((&x, &y), Fit::epochs(1).batchsize(4))?": "`batch_size`",
        "model.fit((&x, &y), Fit::epochs(1).validation_data(&x, &y))?": "as a pair, `(&x, &y)`",
        'model.fit((&x, &y), Fit::epochs(1).callbacks([EarlyStopping::new("loss")]))?': "`callback`",
        'model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]); model.fit((&x, &y), Fit::epochs(1).callback(EarlyStopping::new("val_acc")))?': "expected one of accuracy, loss, found val_acc",
        "base.unfreeze_from(99)?": "layer: expected an index from -",
        "base.unfreeze_from(0.5)?": "does not name a layer; pass a name",
        "model.find_learning_rate((&x, &y))?": "argument #2 of type `usize` is missing",
        "Adam::new(1e-3).learning_rate_multiplier(base, 0.1)": "consider borrowing here",
        'model.fine_tune((&x, &y), "block5", Fit::epochs(1), Fit::epochs(1))?': "block5_conv1",
    }),
    "6 ResNet50 instead": (COMPILED, {
        "Resnet50::new(Weights::Demo)": "`ResNet50`",
        "Vgg16::new(Weights::Demo).input_shape((64, 64, 3)).build()?": "channels first",
        'ResNet50::new(Weights::Demo).pooling("avg").build()?': "`Pooling::Avg`",
        "sequential![&base, GlobalAveragePooling2D::new(), Dense::new(1)]?": "write `GlobalAveragePooling2D` only",
        "sequential![&base, BatchNormalization::new(), Flatten]?": "`BatchNormalization::default()`",
        "sequential![&base, BatchNormalization, Flatten]?": "`BatchNormalization::default()`",
        "sequential![&base, Flatten, Dense(64)]?": "`::new`",
        "sequential![&base, Flatten Dense::new(1)]?": "missing comma",
        "sequential![&base, Dense::new(1)]?": "put `Flatten` or `GlobalAveragePooling2D` before",
        'sequential![&base, Flatten, Dropout::new(50.0)]?': "at least 0 and below 1, found 50",
        "model.compile(Adam::default(), BinaryCrossentropy, Accuracy);": "in brackets: `[Accuracy]`",
        "model.compile(Adam::default(), BinaryCrossEntropy, [Accuracy]);": "`BinaryCrossentropy`",
        'model.compile("adam", BinaryCrossentropy, [Accuracy]);': "is not an optimizer; pass a value: `Adam::default()`",
        'model.compile(Adam::default(), "mse", [Accuracy]);': "is not a loss; pass a value: `BinaryCrossentropy`",
        'model.compile(Adam::default(), BinaryCrossentropy, ["accuracy"]);': "pass values: `[Accuracy, AUC]`",
        'model.evaluate(&x, &y)?["auc"]': 'the scores are ["accuracy", "loss"]',
    }),
    "7 next steps": (IMAGES, {
        "model.grad_cam(&x.i(0)?, GradCam::new())?": "add the batch dimension",
        'model.grad_cam(&x, "block4_conv3")?': '`GradCam::new().layer("block4_conv3")`',
        'model.grad_cam(&x, GradCam::new().layer("conv4"))?': "block4_conv3",
        "val.confusion_matrix(predictions)?": "consider borrowing here",
        "val.confusion_matrix(&model.predict(&x.i(..1)?)?)?": "found 1",
        "model.save(folder)?; model.save(folder)?": "value used here after move",
        'model.save("/nowhere/at/all.safetensors")?': "the folder /nowhere/at does not exist: create it first",
        "Model::load(&folder)?": "this is a folder: pass the path of a file",
        'model.export_onnx("")?': "an empty path",
        "EfficientNet::new(Weights::Random(0))": "`EfficientNetB0`",
        "EfficientNetB0::new(Weights::Demo).build()?": "expected one of vgg16, resnet50",
    }),
}


@pytest.mark.parametrize("lesson", MISTAKES)
def test_a_typical_mistake_gets_a_hint(kernel, lesson):
    before, mistakes = MISTAKES[lesson]
    for cell in before:
        kernel.ok(cell)
    for mistake, answer in mistakes.items():
        cell = kernel.run(mistake)
        error = re.sub(r"\x1b\[[\d;]*m", "", cell.traceback)
        assert cell.status == "error" and answer in error, f"{mistake}\n{error}"
