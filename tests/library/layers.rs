//! Outputs and gradients of every layer and loss match PyTorch in double precision (`tests/fixtures/gradients.py`).
//! With `-- --nocapture` the tests print a table.

use std::collections::HashMap;

use headstart::candle_core::Var;
use headstart::prelude::*;
use headstart::train::BuiltInLoss;

/// Maximum difference relative to the largest expected value: rounding of f32 in sums of some dozens of values.
const TOLERANCE: f32 = 1e-6;

fn fixture() -> HashMap<String, Tensor> {
    let bytes = include_bytes!("../fixtures/gradients.safetensors");
    headstart::candle_core::safetensors::load_buffer(bytes, &device()).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference, relative to the largest expected value.
fn difference(found: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let (found, expected) = (flat(found), flat(expected));
    let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
    let far = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    far.fold(0f32, |most, difference| if difference.is_nan() { f32::NAN } else { most.max(difference) })
        / largest
}

/// Compares the output and all gradients of a layer with the row `name` of the fixture.
pub(crate) fn check(known: &HashMap<String, Tensor>, name: &str, layer: impl Into<headstart::nn::LayerSpec>) {
    let part = |part: &str| &known[&format!("{name}.{part}")];
    let x = Var::from_tensor(part("x")).unwrap();
    let mut builder = ModelBuilder::new("one", &x.dims()[1..]).unwrap();
    let input = builder.input();
    let output = builder.add("layer", layer.into(), &[input]).unwrap();
    let model = builder.finish(output).unwrap();
    let params: Vec<_> =
        model.layer("layer").unwrap().params().into_iter().filter(|param| !param.is_statistic()).collect();
    for (at, param) in params.iter().enumerate() {
        param.set(part(&format!("p{at}"))).unwrap();
    }
    let y = model.forward(&x, Mode::Training).unwrap();
    let gradients = (&y * part("w")).unwrap().sum_all().unwrap().backward().unwrap();
    let mut worst = difference(gradients.get(&x).unwrap(), part("gx"));
    for (at, param) in params.iter().enumerate() {
        worst = worst.max(difference(gradients.get(param.var()).unwrap(), part(&format!("g{at}"))));
    }
    let of_output = difference(&y, part("y"));
    println!("{name:<28} output {of_output:>8.1e}   gradients {worst:>8.1e}   of the largest");
    assert!(of_output < TOLERANCE && worst < TOLERANCE, "{name}: {of_output} and {worst}");
}

#[test]
fn layers_match_pytorch_outputs_and_gradients() {
    let known = fixture();
    let explicit = Padding::Explicit;
    let max = |size| MaxPooling2D::new(size);
    check(&known, "max 2/2", max(2));
    check(&known, "max 2/2 of 7", max(2));
    check(&known, "max 3/2 padded", max(3).strides(2).padding(explicit(1)));
    check(&known, "max 3/1", max(3).strides(1));
    check(&known, "max 2/3", max(2).strides(3));
    let average = |size| AveragePooling2D::new(size);
    check(&known, "average 2/2", average(2));
    check(&known, "average 2/2 of 7", average(2));
    check(&known, "average 3/2 padded", average(3).strides(2).padding(explicit(1)));
    check(&known, "average 3/1", average(3).strides(1));
    check(&known, "global average", GlobalAveragePooling2D);
    check(&known, "global max", GlobalMaxPooling2D);
    let convolution = |size| Conv2D::new(6, size);
    check(&known, "convolution 3/1 padded", convolution(3).padding(explicit(1)));
    check(&known, "convolution 3/2", convolution(3).strides(2));
    check(&known, "convolution 7/2 padded", convolution(7).strides(2).padding(explicit(3)));
    check(&known, "convolution 1/1", convolution(1));
    check(&known, "convolution 1/2", convolution(1).strides(2));
    check(&known, "depthwise 3/1 padded", Conv2D::depthwise(3).padding(explicit(1)));
    check(&known, "depthwise 5/2 padded", Conv2D::depthwise(5).strides(2).padding(explicit(2)));
    check(&known, "batch norm of maps", BatchNormalization::default());
    check(&known, "batch norm of rows", BatchNormalization::default());
    check(&known, "dense", Dense::new(3));
    for (name, function) in [
        ("relu", Relu),
        ("relu6", Activation::Relu6),
        ("sigmoid", Sigmoid),
        ("silu", Activation::Silu),
        ("softmax", Softmax),
        ("tanh", Tanh),
    ] {
        check(&known, name, function);
    }
}

/// Checks the value and the gradient of a loss. A dense layer with the identity matrix as input outputs its transposed
/// kernel, so one step of SGD gives the gradient.
fn check_loss(known: &HashMap<String, Tensor>, name: &str, loss: BuiltInLoss, last: Activation) {
    const RATE: f64 = 1024.0;
    let part = |part: &str| &known[&format!("{name}.{part}")];
    let (samples, outputs) = part("x").dims2().unwrap();
    let mut model = sequential![Input::new(samples), Dense::new(outputs).activation(last)].unwrap();
    let kernel = model.params()[0].clone();
    kernel.set(&part("x").t().unwrap()).unwrap();
    model.compile(SGD::new(RATE), loss, []);
    let x = Tensor::eye(samples, DType::F32, &device()).unwrap();
    let fit = Fit::epochs(1).batch_size(samples).verbose(false).chart(false).advice(false);
    let history = model.fit((&x, part("t")), fit).unwrap();
    let value = history["loss"][0] as f32;
    let step = (part("x") - kernel.value(Mode::Inference).t().unwrap()).unwrap();
    let gradient = (step / RATE).unwrap();
    let worst = difference(&gradient, part("gx"));
    let of_value = (value / flat(part("y"))[0] - 1.0).abs();
    println!("{name:<28} value  {of_value:>8.1e}   gradients {worst:>8.1e}   of the largest ({last:?})");
    assert!(of_value < TOLERANCE && worst < TOLERANCE, "{name}: {of_value} and {worst}");
}

#[test]
fn losses_match_pytorch_values_and_gradients() {
    let known = fixture();
    for (name, loss, last) in [
        ("binary", BinaryCrossentropy, Sigmoid),
        ("binary far", BinaryCrossentropy, Sigmoid),
        ("binary smoothed", BinaryCrossentropy.label_smoothing(0.2), Sigmoid),
        ("categorical", CategoricalCrossentropy, Softmax),
        ("categorical smoothed", CategoricalCrossentropy.label_smoothing(0.1), Softmax),
        ("sparse categorical", SparseCategoricalCrossentropy, Softmax),
    ] {
        check_loss(&known, name, loss, last);
        check_loss(&known, name, loss.from_logits(true), Linear);
    }
    check_loss(&known, "mean squared", MeanSquaredError, Linear);
}

#[test]
fn dropout_masks_gradients_like_outputs() {
    let x = Var::ones((4, 100), DType::F32, &device()).unwrap();
    let model = sequential![Input::new(100), Dropout::new(0.25)].unwrap();
    let y = model.forward(&x, Mode::Training).unwrap();
    let gradients = y.sum_all().unwrap().backward().unwrap();
    let kept = flat(&y);
    assert_eq!(flat(gradients.get(&x).unwrap()), kept);
    assert!(kept.iter().all(|share| *share == 0.0 || (share - 1.0 / 0.75).abs() < 1e-6));
    let share = kept.iter().filter(|share| **share == 0.0).count() as f64 / 400.0;
    assert!((0.15..0.35).contains(&share), "{share} of the outputs were dropped");
}

/// candle's operations fail on the same rows, which is why the library has its own.
#[test]
fn candle_operations_are_wrong_or_missing() {
    let known = fixture();
    let gradient = |name: &str, function: &dyn Fn(&Tensor) -> headstart::candle_core::Result<Tensor>| {
        let x = Var::from_tensor(&known[&format!("{name}.x")])?;
        let y = function(&x)?;
        let gradients = (&y * &known[&format!("{name}.w")])?.sum_all()?.backward()?;
        let found = gradients.get(&x).cloned();
        found.ok_or_else(|| headstart::candle_core::Error::Msg("there is none".into()))
    };
    let is_right = |name: &str, found: headstart::candle_core::Result<Tensor>| {
        found.is_ok_and(|found| difference(&found, &known[&format!("{name}.gx")]) < 1e-3)
    };
    assert!(!is_right("max 2/2", gradient("max 2/2", &|x| x.max_pool2d(2))), "a quarter of it");
    assert!(!is_right("max 2/2 of 7", gradient("max 2/2 of 7", &|x| x.max_pool2d(2))));
    assert!(!is_right("max 3/1", gradient("max 3/1", &|x| x.max_pool2d_with_stride(3, 1))), "refused");
    assert!(
        !is_right("average 3/1", gradient("average 3/1", &|x| x.avg_pool2d_with_stride(3, 1))),
        "refused"
    );
    assert!(!is_right("relu", gradient("relu", &|x| x.relu())), "1 at 0");
    let softmax = |x: &Tensor| headstart::candle_nn::ops::softmax_last_dim(x);
    assert!(!is_right("softmax", gradient("softmax", &softmax)), "no gradient");
    let far = headstart::candle_nn::loss::binary_cross_entropy_with_logit(
        &known["binary far.x"],
        &known["binary far.t"],
    );
    let far = far.unwrap().to_scalar::<f32>().unwrap();
    assert!(!far.is_finite(), "a loss that is no number: {far}");
}

#[test]
fn global_max_pooling_has_one_maximum() -> headstart::Result<()> {
    let model = sequential![Input::new((1, 4, 4)), Conv2D::new(1, 1), GlobalMaxPooling2D]?;
    let x = Tensor::ones((1, 1, 4, 4), DType::F32, &device())?;
    let (_, gradients) = value_and_gradients(|| Ok(model.forward(&x, Mode::Training)?.sum_all()?))?;
    let bias = &model.params()[1];
    assert_eq!(gradients.get(bias.var()).unwrap().to_vec1::<f32>()?, [1.0]);
    Ok(())
}
