"""What cells can do and how they fail. The kernel continues after each failure."""

import json
import re
import time

import pytest
from conftest import Kernel


def test_the_first_cell_can_use_the_prelude(kernel):
    assert kernel.ok("let t = Tensor::zeros((2, 3), DType::F32, &device())?; t.dims()") == "[2, 3]"


def test_cells_share_one_copy_of_the_prelude_and_of_candle(kernel):
    counts = []
    for _ in range(3):
        kernel.ok("headstart::start();")
        counts.append(int(kernel.ok("headstart::cells_run()")))
    assert counts == [counts[0], counts[0] + 1, counts[0] + 2], "a static counter goes on counting"
    ids = [kernel.ok('format!("{:?}", Tensor::new(1f32, &device())?.id())') for _ in range(3)]
    assert len(set(ids)) == 3, ids


def test_a_gradient_over_three_cells_equals_that_of_one_cell(kernel):
    one = """
        let a = Var::new(&[1f32, 2.0, 3.0], &device())?;
        let b = a.as_tensor().sqr()?;
        let c = (&b * a.as_tensor())?.sum_all()?;
        c.backward()?.get(a.as_tensor()).map(|g| g.to_vec1::<f32>()).transpose()?
    """
    expected = kernel.ok(one)
    kernel.ok("let a = Var::new(&[1f32, 2.0, 3.0], &device())?;")
    kernel.ok("let b = a.as_tensor().sqr()?;")
    kernel.ok("let c = (&b * a.as_tensor())?.sum_all()?;")
    assert kernel.ok("c.backward()?.get(a.as_tensor()).map(|g| g.to_vec1::<f32>()).transpose()?") == expected
    assert expected == "Some([3.0, 12.0, 27.0])"


def test_displays_arrive_immediately_and_are_updated_in_place(kernel):
    request = kernel.send(
        'let shown = display(&Text::new("first")); let other = display(&Text::new("other"));'
        "std::thread::sleep(std::time::Duration::from_secs(2));"
        'shown.update(&Text::new("last"));'
    )
    arrivals = {}
    while "update_display_data" not in arrivals:
        message = kernel.client.get_iopub_msg(timeout=30)
        arrivals.setdefault(message["msg_type"], (time.monotonic(), message["content"]))
    (shown_at, shown), (updated_at, updated) = arrivals["display_data"], arrivals["update_display_data"]
    assert updated_at - shown_at > 1.5
    assert shown["transient"]["display_id"] == updated["transient"]["display_id"]
    assert updated["data"] == {"text/plain": "last"}
    cell = kernel.result(request)
    assert cell.status == "ok"


def test_text_and_displays_keep_their_order(kernel):
    cell = kernel.run('println!("a"); display(&Text::new("b")); println!("c"); display(&Text::new("d"));')
    kinds = [m["msg_type"] for m in cell.messages if m["msg_type"] != "status"][1:]
    assert kinds == ["stream", "display_data", "stream", "display_data"]


def test_fit_updates_a_progress_bar_and_a_chart(kernel):
    cell = kernel.run(
        """
        let mut small = sequential![Input::new(4), Dense::new(1).activation(Sigmoid)]?;
        small.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);
        let (x, y) = (random_uniform((8, 4), 0.0, 1.0)?, Tensor::new(&[0f32, 1., 0., 1., 0., 1., 0., 1.], &device())?);
        let history = small.fit((&x, &y), Fit::epochs(3))?;
        """
    )
    assert cell.status == "ok", cell.traceback
    ids = [d["transient"]["display_id"] for d in cell.of_type("display_data")]
    assert len(set(ids)) == 2
    charts = [u for u in cell.of_type("update_display_data") if "image/svg+xml" in u["data"]]
    assert len(charts) >= 3 and charts[-1]["data"]["image/svg+xml"] != charts[0]["data"]["image/svg+xml"]
    assert "loss" in charts[-1]["data"]["text/plain"]
    assert len(re.findall(r"Epoch \d/3", cell.stdout)) == 3
    assert kernel.ok("history.epochs()") == "3"


FAILURES = {
    "a panic": ('let x = 1;\npanic!("boo");', "Panic", "boo", "2 │ panic!"),
    "an index out of range": ("let v: Vec<i32> = vec![];\nv[3]", "Panic", "index out of bounds", "2 │ v[3]"),
    "a compile error": ("let z: i32 = \"text\";", "CompileError", "mismatched types", "1 │ let z"),
    "an unknown name": ("no_such_thing(1)", "CompileError", "no_such_thing", "1 │ no_such_thing"),
    "a question mark": ('let x = 1;\nstd::fs::read("/no/such/file")?;', "Error", "No such file", "2 │ std::fs::read"),
    "an unknown layer": (
        'let net = Vgg16::new(Weights::Random(0)).include_top(false).input_shape((3, 32, 32)).build()?;\n'
        'net.unfreeze_from("block5_conv")?;',
        "Error",
        "block5_conv",
        "block5_conv1",
    ),
    "an error of candle's": (
        "Tensor::zeros((2, 3), DType::F32, &device())?.matmul(&Tensor::zeros((2, 3), DType::F32, &device())?)?;",
        "Error",
        "matmul",
        "[2, 3]",
    ),
    "labels out of range": (
        'let mut m = sequential![Input::new(2), Dense::new(2).activation(Softmax)]?;\n'
        "m.compile(Adam::default(), SparseCategoricalCrossentropy, []);\n"
        "m.fit((&random_uniform((1, 2), 0.0, 1.0)?, &Tensor::new(&[7u32], &device())?), Fit::epochs(1))?;",
        "Error",
        "7",
        "3 │ m.fit(",
    ),
}


@pytest.mark.parametrize("what", FAILURES)
def test_a_failing_cell_shows_the_cause_and_keeps_the_variables(kernel, what):
    code, name, value, line = FAILURES[what]
    kernel.ok("let kept = vec![1, 2, 3];")
    cell = kernel.run(code)
    assert cell.status == "error"
    assert cell.reply["ename"] == name
    assert value in cell.reply["evalue"]
    assert line in cell.traceback
    assert "run_user_code" not in cell.traceback, "no backtrace of the kernel"
    error = cell.of_type("error")[0]
    assert {key: error[key] for key in error} == {key: cell.reply[key] for key in error}
    assert kernel.ok("kept.len()") == "3"


def test_a_cell_that_ends_the_process_loses_variables_but_not_the_kernel(kernel):
    kernel.ok("let gone = 1;")
    cell = kernel.run("std::process::exit(3);")
    assert (cell.status, cell.reply["ename"]) == ("error", "ProcessEnded")
    assert "3" in cell.reply["evalue"] and "gone" in cell.traceback
    assert kernel.run("gone").status == "error"
    assert kernel.ok("Tensor::zeros(2, DType::F32, &device())?.dims()") == "[2]"
    panic = kernel.run('panic!("after");')
    assert (panic.reply["ename"], panic.reply["evalue"]) == ("Panic", "after")


def test_weights_of_another_network_are_rejected_by_parameter_name(kernel, tmp_path):
    header = json.dumps({"conv1.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    file = tmp_path / "other.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    cell = kernel.run(f'Vgg16::new(Weights::File("{file}".into())).include_top(false).input_shape((3, 32, 32)).build()?;')
    assert cell.status == "error"
    assert "features.0.weight" in cell.traceback and str(file) in cell.traceback
    assert kernel.ok("1 + 1") == "2"


def test_invalid_image_files_are_named(kernel, tmp_path):
    (tmp_path / "cats").mkdir()
    empty = kernel.run(f'Images::from_directory("{tmp_path}", (32, 32))?;')
    assert "cats" in empty.reply["evalue"]
    (tmp_path / "cats" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    torn = kernel.run(f'Images::from_directory("{tmp_path}", (32, 32))?;')
    assert torn.status == "error" and "torn.jpg" in torn.traceback
    assert kernel.ok("1 + 1") == "2"


def test_evcxrs_commands_work(kernel):
    kernel.ok("let seen: u8 = 1;")
    assert "seen: u8" in kernel.ok(":vars")
    assert ":dep" in kernel.ok(":help")
    cleared = kernel.run(":clear")
    assert cleared.status == "ok"
    assert kernel.run("seen").status == "error"
    assert kernel.ok("Tensor::zeros(2, DType::F32, &device())?.dims()") == "[2]"


def test_a_crate_added_by_a_cell_is_built_with_the_systems_certificates(kernel, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "asked"\nversion = "1.0.0"\nedition = "2024"\n')
    tell = 'println!("cargo::rustc-env=FOUND={}", std::env::var("SSL_CERT_FILE").unwrap_or_default());'
    (tmp_path / "build.rs").write_text(f"fn main() {{ {tell} }}")
    (tmp_path / "src" / "lib.rs").write_text('pub const FOUND: &str = env!("FOUND");')
    kernel.ok(f':clear\n:dep asked = {{ path = "{tmp_path}" }}')
    assert kernel.ok("asked::FOUND") != '"/dev/null"'


def test_completion_and_inspection_show_the_preludes_signatures(kernel):
    kernel.ok("let t = Tensor::zeros((2, 3), DType::F32, &device())?;")
    matches = kernel.client.complete("t.su", 4, reply=True, timeout=30)["content"]["matches"]
    assert {"sum(", "sum_all()"} <= set(matches)
    shown = kernel.client.inspect("Fit::epochs", 11, reply=True, timeout=30)["content"]
    assert shown["found"] and "pub fn epochs(epochs: usize) -> Fit" in shown["data"]["text/plain"]


def test_a_cell_implements_a_layer_of_its_own(kernel):
    kernel.ok(
        """
        use headstart::nn::{Build, Context, Param};
        use std::sync::Arc;

        struct Scale;
        struct BuiltScale { scale: Param, shape: Vec<usize> }

        impl Build for Scale {
            fn stem(&self) -> &str { "scale" }
            fn build(&self, context: Context) -> HeadstartResult<Arc<dyn Layer>> {
                let shape = context.inputs[0].to_vec();
                let ones = Tensor::ones(shape.as_slice(), DType::F32, context.device)?;
                Ok(Arc::new(BuiltScale { scale: Param::weight("scale", &ones)?, shape }))
            }
        }

        impl Layer for BuiltScale {
            fn kind(&self) -> &'static str { "Scale" }
            fn forward(&self, inputs: &[&Tensor], mode: Mode) -> HeadstartResult<Tensor> {
                Ok(inputs[0].broadcast_mul(&self.scale.value(mode))?)
            }
            fn output_shape(&self) -> &[usize] { &self.shape }
            fn params(&self) -> Vec<Param> { vec![self.scale.clone()] }
        }
        """
    )
    kernel.ok(
        """
        let mut scaled = sequential![Input::new((1, 8, 8)), Conv2D::new(4, 3), Scale, Relu, Flatten, Dense::new(1)]?;
        scaled.compile(Adam::new(0.01), MeanSquaredError, []);
        let pixels = random_uniform((32, 1, 8, 8), 0.0, 1.0)?;
        let sums = pixels.flatten_from(1)?.mean_keepdim(1)?;
        let fitted = scaled.fit((&pixels, &sums), Fit::epochs(20).verbose(false).chart(false))?;
        """
    )
    assert kernel.ok('fitted["loss"][19] < fitted["loss"][0]') == "true"
    scale = 'scaled.layer("scale")?.params()[0].clone()'
    assert kernel.ok(f"{scale}.value(Mode::Inference).flatten_all()?.to_vec1::<f32>()?.iter().any(|v| *v != 1.0)") == "true"
    kernel.ok("scaled.freeze();")
    assert kernel.ok(f"{scale}.is_trainable()") == "false"
    assert "Scale" in kernel.ok("scaled.plan()?.to_string()")


def test_two_kernels_run_independently(kernel):
    other = Kernel()
    try:
        kernel.ok("let mine = 1;")
        other.ok("let theirs = 2;")
        assert other.run("mine").status == "error"
        assert (kernel.ok("mine"), other.ok("theirs")) == ("1", "2")
    finally:
        other.stop()


HINTS = {
    "a value used up by an earlier cell": (["let first_batch = vec![1];", "let taken = first_batch;"], "first_batch.len()", "`let taken = first_batch;`"),
    "a missing question mark": ([], "device_missing_mark(1).dims()", "put `?` after"),
    "a borrow that cannot outlive its cell": (["let owner = vec![1];"], "let first = owner.iter();", "must own its data"),
}


@pytest.mark.parametrize("what", HINTS)
def test_a_hint_explains_rust_in_a_notebook(kernel, what):
    before, code, hint = HINTS[what]
    kernel.ok("fn device_missing_mark(n: usize) -> HeadstartResult<Tensor> { Ok(Tensor::zeros(n, DType::F32, &device())?) }")
    for cell in before:
        kernel.ok(cell)
    cell = kernel.run(code)
    assert cell.status == "error" and hint in cell.traceback, cell.traceback


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
        "draw_demo_images(&folder, 100.0, 64, 11)?;": "a count is a number without a point",
        'Images::from_directory(&folder, 64)?': "height and width: `(224, 224)`",
        'Images::from_directory("nowhere", (64, 64))?': "there is no such folder",
        "train.split(84)?": "use a float literal",
        'Chart::steps(&["load", "freeze"])': "expected `(&str, &str)`",
        'base.layer("block1_conv")?': "did you mean `block1_conv1`?",
        "ImageGrid::of_maps(&x)?": "expected shape [C, height, width], found [4, 3, 64, 64]",
        'base.outputs_of("block3_conv3", &x)?': "a list of names",
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
        'Chart::bars("x", &[("a", 1.0)])?': "stand in brackets",
        "base.predict(&x.i((.., .., ..32, ..32))?)?": "expected shape [batch, 3, 64, 64]",
    }),
    "3 the workflow": (COMPILED, {
        "missing.summary()": "no cell that has run has made `missing`",
        "Vgg16::new(Weights::Imagenet).build()?": "`ImageNet`",
        'Vgg16::new("imagenet").build()?': "weights are a value: `Weights::ImageNet`",
        "base.trainable = false;": "`freeze()` and `unfreeze()`",
        "base.freeze()?;": "leave out the `?`",
        'base.unfreeze_from("block5")?': "block5_conv1",
        "model.compile(Adam::new(1e-5));": "two arguments are missing",
        "model.fit((&x, &y), 10)?": "`model.fit((&x, &y), Fit::epochs(10))`",
        "model.fit_generator(&x)": "`fit` takes generators too",
        "model.predict_classes(&x)": "`model.predict(&x)?.classes()`",
        "base.layers[0]": "a layer has a number or a name",
        "Fit::epochs(1).steps_per_epoch(2)": "an epoch is once over the data",
        'Fit::epochs(1).mode("max")': "`mode` is an option of the callback",
        'PictureFiles::from_directory("x", (8, 8))?': "the type is `ImageFiles`",
        "model.fit(&x, Fit::epochs(1))?": "as a pair, `(&x, &y)`",
        'Model::load("nowhere.safetensors")?': "nowhere.safetensors: No such file",
        "sequential![&base, Flatten, Dense::new(1)]?.fit((&x, &y), Fit::epochs(1))?": "the model is not compiled",
    }),
    "4 the program": (COMPILED + ["let datagen = ImageDataGenerator::new();", "let taken = base;"], {
        "base.freeze();": "`base` was used up by an earlier cell (`let taken = base;`)",
        "model.fit((&x, &[0, 1, 0, 1]), Fit::epochs(1))?": "inputs and targets, both tensors",
        "ImageDataGenerator::new().rotation_range(20)": "use a float literal",
        "random_uniform(4, 3, 224, 224)?": "3 arguments but 4",
        "datagen.flow(&x, &y)?": "argument #3 of type `usize` is missing",
        "datagen.flow(x, y, 4)?": "consider borrowing here",
        "model.fit(datagen.flow(&x, &y, 4)?, epochs=10)?": "arguments have no names in Rust",
        "datagen.flow(&x, &y, 0)?": "batch_size: expected at least 1, found 0",
        "model.predict(x[0])?": "`x.i(..1)?` a batch",
        "model.predict(&x.i(..1))?": "this is a Result: put `?`",
        "model.predict(&x.i(0)?)?": "add the batch dimension",
        'sequential![&model, Flatten, Dense::new(8).activation("relu")]?': "an activation is a value: `Relu`",
        'sequential![&model, Flatten, "dense"]?': "a layer is a value: `Flatten`",
    }),
    "5 fine-tuning": (COMPILED, {
        'Adam::new("1e-5")': "a learning rate is a number with a point",
        "model.compile(Adam::new(1), BinaryCrossentropy, [Accuracy]);": "a learning rate is a number with a point",
        "model.compile(Adam::new(-1.0), BinaryCrossentropy, [Accuracy]); model.fit((&x, &y), Fit::epochs(1))?": "expected a finite number of 0 or more, found -1",
        "model.fit((&x, &y), Fit::epochs(1).batch_size(0))?": "batch_size: expected at least 1",
        "model.fit((&x, &y), Fit::epochs(1).batchsize(4))?": "`batch_size`",
        "model.fit((&x, &y), Fit::epochs(1).validation_data(&x, &y))?": "as a pair, `(&x, &y)`",
        'model.fit((&x, &y), Fit::epochs(1).callbacks([EarlyStopping::new("loss")]))?': "`callback`",
        'model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]); model.fit((&x, &y), Fit::epochs(1).callback(EarlyStopping::new("val_acc")))?': "expected one of accuracy, loss, found val_acc",
        "base.unfreeze_from(99)?": "layer: expected a place from -",
        "base.unfreeze_from(0.5)?": "says no layer; give its name",
        "model.find_learning_rate((&x, &y))?": "argument #2 of type `usize` is missing",
        "Adam::new(1e-3).learning_rate_multiplier(base, 0.1)": "consider borrowing here",
        'model.fine_tune((&x, &y), "block5", Fit::epochs(1), Fit::epochs(1))?': "block5_conv1",
    }),
    "6 ResNet50 instead": (COMPILED, {
        "Resnet50::new(Weights::Demo)": "`ResNet50`",
        "Vgg16::new(Weights::Demo).input_shape((64, 64, 3)).build()?": "channels first",
        'ResNet50::new(Weights::Demo).pooling("avg").build()?': "`Pooling::Avg`",
        "sequential![&base, GlobalAveragePooling2D::new(), Dense::new(1)]?": "write `GlobalAveragePooling2D` alone",
        "sequential![&base, BatchNormalization::new(), Flatten]?": "`BatchNormalization::default()`",
        "sequential![&base, BatchNormalization, Flatten]?": "`BatchNormalization::default()`",
        "sequential![&base, Flatten, Dense(64)]?": "`::new`",
        "sequential![&base, Flatten Dense::new(1)]?": "missing comma",
        "sequential![&base, Dense::new(1)]?": "put `Flatten` or `GlobalAveragePooling2D` before",
        'sequential![&base, Flatten, Dropout::new(50.0)]?': "at least 0 and below 1, found 50",
        "model.compile(Adam::default(), BinaryCrossentropy, Accuracy);": "in brackets: `[Accuracy]`",
        "model.compile(Adam::default(), BinaryCrossEntropy, [Accuracy]);": "`BinaryCrossentropy`",
        'model.compile("adam", BinaryCrossentropy, [Accuracy]);': "an optimizer is a value: `Adam::default()`",
        'model.compile(Adam::default(), "mse", [Accuracy]);': "a loss is a value: `BinaryCrossentropy`",
        'model.compile(Adam::default(), BinaryCrossentropy, ["accuracy"]);': "metrics are values: `[Accuracy, AUC]`",
        'model.evaluate(&x, &y)?["auc"]': 'the scores are ["accuracy", "loss"]',
    }),
    "7 next steps": (IMAGES, {
        "model.grad_cam(&x.i(0)?, GradCam::new())?": "add the batch dimension",
        'model.grad_cam(&x, "block4_conv3")?': '`GradCam::new().layer("block4_conv3")`',
        'model.grad_cam(&x, GradCam::new().layer("conv4"))?': "block4_conv3",
        "val.confusion_matrix(predictions)?": "consider borrowing here",
        "val.confusion_matrix(&model.predict(&x.i(..1)?)?)?": "found 1",
        "model.save(folder)?; model.save(folder)?": "value used here after move",
        'model.save("/nowhere/at/all.safetensors")?': "there is no folder /nowhere/at: make it first",
        "Model::load(&folder)?": "is no .safetensors file",
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


def test_the_last_value_is_shown_according_to_its_type(kernel):
    def shown(code):
        cell = kernel.run(code)
        assert cell.status == "ok", cell.traceback
        return cell.of_type("execute_result")[0]["data"]

    assert "Tensor[[2, 3], f32]" in shown("Tensor::zeros((2, 3), DType::F32, &device())?")["text/plain"]
    assert "<image" in shown("random_uniform((3, 32, 32), 0.0, 1.0)?")["image/svg+xml"]
    assert shown("Tensor::zeros(1, DType::F32, &device()).map_err(headstart::Error::from)")["text/plain"].startswith("[0.]")
    assert "<table>" in shown("sequential![Input::new(2), Dense::new(1)]?")["text/html"]
    kernel.ok("struct Own; impl Show for Own { fn bundle(&self) -> Vec<(String, String)> { vec![(\"text/html\".into(), \"<b>own</b>\".into()), (\"text/plain\".into(), \"own\".into())] } }")
    assert shown("Own") == {"text/html": "<b>own</b>", "text/plain": "own"}
    # A type's own display, `Debug` for other types, and a hint if the last expression moves a variable.
    kernel.ok('struct Old; impl Old { fn evcxr_display(&self) { println!("EVCXR_BEGIN_CONTENT text/html\\n<i>old</i>\\nEVCXR_END_CONTENT"); } }')
    assert shown("Old") == {"text/html": "<i>old</i>"}
    kernel.ok("let list = vec![1, 2]; let point = (1.5, 'c');")
    assert [shown(code)["text/plain"] for code in ("list", "list[1] + 1", "point.0", "&list", "Some(&point)")] == [
        "[1, 2]",
        "3",
        "1.5",
        "[1, 2]",
        "Some((1.5, 'c'))",
    ]
    kernel.ok(":fmt {:#?}")
    assert shown("list.clone()")["text/plain"] == "[\n    1,\n    2,\n]" == shown("list")["text/plain"]
    kernel.ok(":fmt {:?}")
    kernel.ok("let chart = Chart::bars(\"moved\", &[(\"one\", [1.0])])?;")
    assert shown("std::convert::identity(chart)")["text/plain"].startswith("moved")
