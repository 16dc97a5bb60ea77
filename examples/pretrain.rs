//! Trains the demo weights: VGG16 and ResNet50 at a quarter of their width, on images that the program draws.
//!
//! ```sh
//! cargo run --release --example pretrain -- vgg16 weights
//! cargo run --release --example pretrain -- resnet50 weights
//! ```
//!
//! Every step draws new images, so the model cannot overfit. An interrupted run continues from its last checkpoint,
//! with a new optimizer state. The result is one `.safetensors` file of half-precision values.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use headstart::candle_core::DType;
use headstart::data::SOURCES;
use headstart::prelude::*;
use headstart::random::seeded;
use rand::RngExt;
use rayon::prelude::*;

const SIDE: usize = 64;
const BATCH: usize = 64;
/// Number of steps in which the learning rate rises to its value.
const WARM_UP: usize = 200;
/// First seed of the validation images. Training uses smaller seeds.
const VALIDATION: u64 = 1 << 40;

/// Hyperparameters of a network.
struct Plan {
    network: fn(Weights) -> headstart::models::Network,
    steps: usize,
    learning_rate: f64,
    seed: u64,
}

fn plan(name: &str) -> Option<Plan> {
    match name {
        "vgg16" => Some(Plan { network: Vgg16::new, steps: 5000, learning_rate: 1e-3, seed: 16 }),
        "resnet50" => Some(Plan { network: ResNet50::new, steps: 6000, learning_rate: 2e-3, seed: 50 }),
        _ => None,
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: pretrain vgg16|resnet50 FOLDER";
    let [name, folder] = arguments.as_slice() else { return Err(usage.into()) };
    let plan = plan(name).ok_or(usage)?;
    std::fs::create_dir_all(folder)?;
    let checkpoint = PathBuf::from(folder).join(format!("{name}.part.safetensors"));
    let model = (plan.network)(Weights::Random(plan.seed))
        .alpha(0.25)
        .input_shape((3, SIDE, SIDE))
        .classes(SOURCES.len())
        .classifier_activation(Linear)
        .build()?;
    begin(&model, plan.seed)?;
    let first = resume(&model, &checkpoint)?;
    train(&model, &plan, first, &checkpoint)?;
    let path = Path::new(folder).join(format!("{name}-demo.safetensors"));
    write_half(&model, &path)?;
    println!("wrote {}; accuracy on new images {:.4}", path.display(), validate(&model, 64)?);
    Ok(())
}

/// Initialises the kernels as in He et al. (2015): a deep stack without normalisation does not learn from Keras's
/// initializer.
fn begin(model: &Model, seed: u64) -> headstart::Result<()> {
    let mut random = seeded(seed);
    for param in model.params().iter().filter(|param| param.var().rank() > 1) {
        param.set(&Initializer::HeUniform.draw(param.var().dims(), &mut random, &device())?)?;
    }
    Ok(())
}

fn resume(model: &Model, checkpoint: &Path) -> Result<usize, Box<dyn std::error::Error>> {
    let step = checkpoint.with_extension("step");
    if !checkpoint.exists() || !step.exists() {
        return Ok(0);
    }
    model.load_weights(checkpoint)?;
    let first = std::fs::read_to_string(step)?.trim().parse()?;
    println!("going on from step {first}");
    Ok(first)
}

fn train(model: &Model, plan: &Plan, first: usize, checkpoint: &Path) -> headstart::Result<()> {
    let mut adam = Adam::new(plan.learning_rate)
        .weight_decay(0.02)
        .exclude_from_weight_decay(&["bias", "gamma", "beta"])
        .global_clipnorm(2.0);
    let params = model.trainable_params();
    let (mut loss_sum, mut right, mut seen) = (0.0, 0.0, 0.0);
    let begin = Instant::now();
    for (step, (x, y)) in (first..plan.steps).zip(batches(plan.seed << 24, first)) {
        let done = step as f64 / plan.steps as f64;
        let warm = ((step - first) as f64 / WARM_UP as f64).min(1.0);
        adam.set_learning_rate(
            plan.learning_rate * warm * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        )?;
        let logits = model.forward(&preprocess_input(&x)?, Mode::Training)?;
        let loss = candle_nn::loss::cross_entropy(&logits, &y)?;
        adam.step(&params, &loss.backward()?)?;
        loss_sum += f64::from(loss.to_scalar::<f32>()?);
        right += hits(&logits, &y)?;
        seen += y.dims()[0] as f64;
        if (step + 1) % 100 == 0 {
            let speed = (step + 1 - first) as f64 * BATCH as f64 / begin.elapsed().as_secs_f64();
            println!(
                "step {}/{}: loss {:.4}, accuracy {:.4}, {speed:.0} images a second",
                step + 1,
                plan.steps,
                loss_sum / 100.0,
                right / seen
            );
            (loss_sum, right, seen) = (0.0, 0.0, 0.0);
        }
        if (step + 1) % 500 == 0 {
            model.save_weights(checkpoint)?;
            let _ = std::fs::write(checkpoint.with_extension("step"), (step + 1).to_string());
            println!("accuracy on new images: {:.4}", validate(model, 16)?);
        }
    }
    Ok(())
}

fn hits(logits: &Tensor, y: &Tensor) -> headstart::Result<f64> {
    let right = logits.argmax(1)?.eq(y)?.to_dtype(DType::F32)?.sum_all()?;
    Ok(f64::from(right.to_scalar::<f32>()?))
}

fn validate(model: &Model, count: usize) -> headstart::Result<f64> {
    let (mut right, mut seen) = (0.0, 0.0);
    for (x, y) in batches(VALIDATION, 0).into_iter().take(count) {
        right += hits(&model.forward(&preprocess_input(&x)?, Mode::Inference)?, &y)?;
        seen += y.dims()[0] as f64;
    }
    Ok(right / seen)
}

/// Endless batches, drawn in the background during training.
fn batches(seed: u64, first: usize) -> Receiver<(Tensor, Tensor)> {
    let (send, receive) = sync_channel(2);
    std::thread::spawn(move || {
        for step in first as u64.. {
            let images: Vec<(Vec<f32>, u32)> =
                (0..BATCH as u64).into_par_iter().map(|at| image(seed + step * BATCH as u64 + at)).collect();
            let (pixels, labels): (Vec<Vec<f32>>, Vec<u32>) = images.into_iter().unzip();
            let x = Tensor::from_vec(pixels.concat(), (BATCH, 3, SIDE, SIDE), &device());
            let y = Tensor::from_vec(labels, BATCH, &device());
            let (Ok(x), Ok(y)) = (x, y) else { return };
            if send.send((x, y)).is_err() {
                return;
            }
        }
    });
    receive
}

fn image(seed: u64) -> (Vec<f32>, u32) {
    let mut random = seeded(seed);
    let class = random.random_range(0..SOURCES.len());
    let drawn = SOURCES[class].draw(SIDE as u32, &mut random);
    let plane = |channel: usize| drawn.pixels().map(move |pixel| f32::from(pixel[channel]));
    (plane(0).chain(plane(1)).chain(plane(2)).collect(), class as u32)
}

/// Saves the model's tensors in half precision.
fn write_half(model: &Model, path: &Path) -> headstart::Result<()> {
    model.save_weights(path)?;
    let whole = headstart::candle_core::safetensors::load(path, &device())?;
    let half = whole.into_iter().map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F16)?)));
    let half: HashMap<String, Tensor> = half.collect::<headstart::Result<_>>()?;
    Ok(headstart::candle_core::safetensors::save(&half, path)?)
}
