//! Exports networks to ONNX with inputs and expected outputs. `tests/kernel/test_onnx.py` compares onnxruntime with
//! them.
//!
//! ```sh
//! cargo run --release --example onnx -- FOLDER
//! ```
//!
//! With `import`, it imports ONNX files and compares their outputs with those in a `.safetensors` file of the same name.
//! The model has one input and one output, and the file has the tensors `in INPUT` and `out OUTPUT`:
//!
//! ```sh
//! cargo run --release --example onnx -- import FILE.onnx…
//! ```

use std::collections::HashMap;
use std::path::Path;

use headstart::prelude::*;

fn main() -> headstart::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| ".".into());
    if folder == "import" {
        arguments.for_each(|file| match compare(Path::new(&file)) {
            Ok(difference) => println!("{file}: {difference:.1e} of the largest value"),
            Err(error) => println!("{file}: {error}"),
        });
        return Ok(());
    }
    let export = |name: &str, model: &Model, tensors: HashMap<String, Tensor>| -> headstart::Result<()> {
        let path = Path::new(&folder).join(name);
        model.export_onnx(path.with_extension("onnx"))?;
        candle_core::safetensors::save(&tensors, path.with_extension("safetensors"))?;
        println!("{name}");
        Ok(())
    };
    let write = |name: &str, model: &Model| -> headstart::Result<()> {
        let shape = [&[3], model.input_shape()].concat();
        let x = random_uniform(shape, -2.0, 2.0)?;
        let y = model.forward(&x, Mode::Inference)?;
        export(name, model, HashMap::from([("in input".to_owned(), x), ("out output".to_owned(), y)]))
    };
    let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
    let head = Dense::new(1).activation(Sigmoid);
    write(
        "transfer",
        &sequential![&base, Rescaling::new(0.5).offset(0.1), Flatten, Dropout::new(0.5), head]?,
    )?;
    write("vgg16", &Vgg16::new(Weights::Demo).build()?)?;
    write("resnet50", &ResNet50::new(Weights::Demo).build()?)?;
    let small = |network: headstart::models::Network| -> headstart::Result<Model> {
        let model =
            network.alpha(0.25).input_shape((3, 64, 64)).classes(10).classifier_activation(Linear).build()?;
        // Small moving variances amplify the signal, which would fade through random weights otherwise.
        let variances = model.params().into_iter().filter(|param| param.name() == "moving_variance");
        variances.into_iter().try_for_each(|param| param.set(&(param.var().ones_like()? * 0.12)?))?;
        Ok(model)
    };
    write("efficientnet_b0", &small(EfficientNetB0::new(Weights::Random(1)))?)?;
    write("efficientnet_lite0", &small(EfficientNetLite0::new(Weights::Random(1)))?)?;
    let pools = sequential![
        Input::new((3, 21, 18)),
        Conv2D::new(4, 3).strides(2).padding(Padding::Same).activation(Activation::Silu),
        AveragePooling2D::new(3).strides(2).padding(Padding::Same),
        MaxPooling2D::new(2).padding(Padding::Same),
        GlobalMaxPooling2D,
        Dense::new(5).activation(Tanh)
    ]?;
    write("pools", &pools)?;
    write("tokens", &tokens()?)?;
    write("trunk", &ResNet50::new(Weights::Demo).build()?.up_to("conv3_block2_2_conv")?)?;
    write("names", &odd_names()?)?;
    let (model, image, age) =
        (two_inputs()?, random_uniform((3, 3, 9, 9), -2.0, 2.0)?, random_uniform((3, 4), -2.0, 2.0)?);
    let outputs = model.forward_many(&[("image", &image), ("output", &age)], Mode::Inference)?;
    // In the file, the output `output` gets another name than the input.
    let of_file =
        |name: &str| if name == "output" { "out output_1".to_owned() } else { format!("out {name}") };
    let mut tensors: HashMap<String, Tensor> =
        outputs.into_iter().map(|(name, values)| (of_file(&name), values)).collect();
    tensors.extend([("in image".to_owned(), image), ("in output".to_owned(), age)]);
    export("two_inputs", &model, tensors)
}

/// The largest difference between an imported file's output and the expected one, relative to the largest value.
fn compare(path: &Path) -> headstart::Result<f32> {
    let known = candle_core::safetensors::load(path.with_extension("safetensors"), &device())?;
    let part = |start: &str| known.iter().find(|(name, _)| name.starts_with(start)).map(|(_, value)| value);
    let (Some(x), Some(y)) = (part("in "), part("out ")) else {
        return Err(candle_core::Error::Msg("expected tensors `in NAME` and `out NAME`".into()).into());
    };
    let found = Model::from_onnx(path)?.forward(x, Mode::Inference)?;
    let largest = |tensor: &Tensor| tensor.abs()?.max_all()?.to_scalar::<f32>();
    Ok(largest(&(found - y)?)? / largest(y)?)
}

/// A model with two inputs and three outputs, of which one is nested and one has the name of an input.
fn two_inputs() -> headstart::Result<Model> {
    let mut inner = ModelBuilder::new("inner", &[4])?;
    let other = inner.add_input("other", &[4])?;
    let product = inner.add("multiply", Multiply, &[inner.input(), other])?;
    let inner = inner.finish(product)?;
    let mut builder = ModelBuilder::new("two", &[3, 9, 9])?.input_name("image")?;
    let maps = builder.add("maps", Conv2D::new(4, 3).activation(Relu), &[builder.input()])?;
    let pooled = builder.add("pooled", GlobalAveragePooling2D, &[maps])?;
    let age = builder.add_input("output", &[4])?;
    let product = builder.add("product", inner, &[pooled, age])?;
    let class = builder.add("dense", Dense::new(3).activation(Softmax), &[product])?;
    builder.finish_many(&[("output", class), ("product", product), ("maps", maps)])
}

/// A model with the layers of transformers and ConvNeXts, and with convolutions of all kinds.
fn tokens() -> headstart::Result<Model> {
    let mut builder = ModelBuilder::new("tokens", &[4, 12, 10])?;
    let input = builder.input();
    let left = builder.add("", Conv2D::new(6, (3, 2)).groups(2).dilation_rate(2), &[input])?;
    let left = builder.add("", ZeroPadding2D::sides((2, 2), (1, 1)), &[left])?;
    let right = builder.add("", SeparableConv2D::new(2, 3).strides(1).padding(Padding::Same), &[input])?;
    let maps = builder.add("", Concatenate::default(), &[left, right])?;
    let maps = builder.add("", LayerNormalization::default().axis(1), &[maps])?;
    let pixels = builder.add("", Permute::new(&[2, 3, 1]), &[maps])?;
    let pixels =
        builder.add("", Dense::new(8).channels_last(true).activation(Activation::Gelu), &[pixels])?;
    let tokens = builder.add("", Reshape::new((120, 8)), &[pixels])?;
    let tokens = builder.add("", ClassToken, &[tokens])?;
    let tokens = builder.add("", PositionEmbedding, &[tokens])?;
    let branch = builder.add("", LayerNormalization::default(), &[tokens])?;
    let branch = builder.add("", MultiHeadAttention::new(2).key_dim(3), &[branch])?;
    let branch = builder.add("", LayerScale::new(0.5), &[branch])?;
    let branch = builder.add("", StochasticDepth::new(0.5), &[branch])?;
    let tokens = builder.add("", Add, &[tokens, branch])?;
    let class = builder.add("", FirstToken, &[tokens])?;
    let mean = builder.add("", GlobalAveragePooling1D, &[tokens])?;
    let both = builder.add("", Concatenate::default().axis(-1), &[class, mean])?;
    let both = builder.add("", Activation::HardSwish, &[both])?;
    let both = builder.add("", Dense::new(6).activation(Activation::GeluTanh), &[both])?;
    let last = builder.add("", Dense::new(3).activation(Activation::HardSigmoid), &[both])?;
    builder.finish(last)
}

/// A model whose layer names collide with names in the file or are not identifiers. It also has the layers that the
/// other models lack.
fn odd_names() -> headstart::Result<Model> {
    let inner = sequential![
        Input::new((2, 6, 6)),
        Conv2D::new(3, 3).padding(Padding::Same).activation(Activation::Relu6)
    ]?;
    let mut builder = ModelBuilder::new("", &[2, 6, 6])?;
    let input = builder.input();
    let first = builder.add("input_1", Conv2D::new(3, 1).activation(Activation::Silu), &[input])?;
    let second = builder.add("output", inner, &[input])?;
    let one = builder.add("output/conv2d", Add, &[first])?;
    let sum = builder.add("output/conv2d/linear", Add, &[one, second, first])?;
    let product = builder.add("sum of \"Ärger\" & <b>\n", Multiply, &[sum, second])?;
    let norm = builder.add("output/conv2d/kernel", BatchNormalization::default(), &[product])?;
    let reshaped = builder.add("pads", Reshape::new((3, 36)), &[norm])?;
    let flat = builder.add("pads/shape", Flatten, &[reshaped])?;
    let rescaled = builder.add("batch", Rescaling::new(0.5).offset(0.1), &[flat])?;
    let last = builder.add("batch/scale", Dense::new(4).activation(Softmax), &[rescaled])?;
    builder.finish(last)
}
