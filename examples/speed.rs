//! Measures the time of a network: `cargo run --release --example speed -- NETWORK TASK BATCH SIDE`.
//!
//! The network is one of `models()`, by timm's name.
//! The task is `forward` (inference without top), `all` (forward and backward, all layers trainable), or the name of
//! the first trainable layer. Prints the median time of a batch in seconds and the peak memory in MB. A task that ends
//! in `.onnx` is a file to which the network is exported.

use headstart::prelude::*;

#[path = "measure/mod.rs"]
mod measure;

fn main() -> headstart::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [network, task, batch, side] = arguments.as_slice() else {
        eprintln!("expected NETWORK TASK BATCH SIDE, as in: vgg16 forward 4 224");
        std::process::exit(2);
    };
    let (batch, side): (usize, usize) = (batch.parse().expect("a number"), side.parse().expect("a number"));
    let network = match network.as_str() {
        "vgg16" => Vgg16::new(Weights::Random(0)),
        "resnet50" => ResNet50::new(Weights::Random(0)),
        name => Network::named(name.trim_start_matches("families "), Weights::Random(0))?,
    };
    let base = network.include_top(false).input_shape((3, side, side)).build()?;
    if task.ends_with(".onnx") {
        return base.export_onnx(task);
    }
    let x = random_uniform((batch, 3, side, side), -1.0, 1.0)?;
    let mode = match task.as_str() {
        "forward" => Mode::Inference,
        "all" => Mode::Training,
        layer => {
            base.freeze();
            base.unfreeze_from(layer)?;
            Mode::Training
        }
    };
    let times = measure::times(measure::MIN_RUNS, || {
        if mode == Mode::Training {
            value_and_gradients(|| Ok(base.forward(&x, mode)?.sqr()?.sum_all()?))?;
        } else {
            base.forward(&x, mode)?;
        }
        Ok(device().synchronize()?)
    })?;
    measure::print(times);
    Ok(())
}
