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
        use std::sync::Arc;

        struct Scale;
        struct BuiltScale { scale: Param, shape: Vec<usize> }

        impl Build for Scale {
            fn default_name(&self) -> &str { "scale" }
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
    "a value moved by an earlier cell": (["let first_batch = vec![1];", "let taken = first_batch;"], "first_batch.len()", "`let taken = first_batch;`"),
    "a missing question mark": ([], "device_missing_mark(1).dims()", "put `?` after"),
    "a borrow that cannot outlive its cell": (["let owner = vec![1];"], "let first = owner.iter();", "must own their data"),
}


@pytest.mark.parametrize("what", HINTS)
def test_a_hint_explains_rust_in_a_notebook(kernel, what):
    before, code, hint = HINTS[what]
    kernel.ok("fn device_missing_mark(n: usize) -> HeadstartResult<Tensor> { Ok(Tensor::zeros(n, DType::F32, &device())?) }")
    for cell in before:
        kernel.ok(cell)
    cell = kernel.run(code)
    assert cell.status == "error" and hint in cell.traceback, cell.traceback


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
