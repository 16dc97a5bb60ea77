//! Times of forward passes and of training steps at 224 pixels, on the device that `HEADSTART_DEVICE` selects. Prints
//! JSON: the median seconds of each. `tests/gpu` compares them with those of `step.py`.

use std::time::Instant;

use headstart::models::Network;
use headstart::prelude::*;

/// Images of a forward pass, and of a training step.
const FORWARD: usize = 16;
const TRAINING: usize = 8;
/// Steps of an epoch. The weights are copied back at its end.
const STEPS: usize = 20;
const ROUNDS: usize = 5;

fn main() -> headstart::Result<()> {
    let mut times = serde_json::Map::new();
    let networks: [(&str, Network); 2] =
        [("vgg16", Vgg16::new(Weights::Random(1))), ("resnet50", ResNet50::new(Weights::Random(1)))];
    for (name, network) in networks {
        let base = network.include_top(false).input_shape((3, 224, 224)).build()?;
        let x = random_uniform((FORWARD, 3, 224, 224), 0.0, 1.0)?;
        let forward = median(|| base.predict_in_batches(&x, FORWARD).map(drop))?;
        times.insert(format!("{name} forward {FORWARD}"), forward.into());

        let mut model = sequential![base, GlobalAveragePooling2D, Dense::new(2).activation(Softmax)]?;
        model.compile(SGD::new(1e-4), SparseCategoricalCrossentropy, []);
        let x = random_uniform((STEPS * TRAINING, 3, 224, 224), 0.0, 1.0)?;
        let classes = Tensor::zeros(STEPS * TRAINING, DType::U32, &device())?;
        let fit = || Fit::epochs(1).batch_size(TRAINING).verbose(false).advice(false).chart(false);
        let epoch = median(|| model.fit((&x, &classes), fit()).map(drop))?;
        times.insert(format!("{name} training step {TRAINING}"), (epoch / STEPS as f64).into());
    }
    println!("{}", serde_json::Value::from(times));
    Ok(())
}

/// The median seconds of a computation, after one that does not count.
fn median(mut compute: impl FnMut() -> headstart::Result<()>) -> headstart::Result<f64> {
    compute()?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        compute()?;
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[ROUNDS / 2])
}
