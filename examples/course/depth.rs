//! Plain and residual towers of 8, 24 and 56 convolutions: training loss, and gradients by depth before training.
//!
//! As in He et al. (2015): 3x3 convolutions without bias, each with batch normalisation and ReLU, from He
//! initialisation. A residual block holds two of them. The task is to classify drawings into sixteen classes. Every
//! step draws new images, so the training loss does not reflect overfitting.

use std::ops::Range;

use headstart::Result;
use headstart::data::SOURCES;
use headstart::prelude::*;
use headstart::random::seeded;

use crate::table::Table;

const CLASSES: usize = 16;
const BATCH: usize = 32;
const STEPS: usize = 300;
const LEARNING_RATE: f64 = 0.05;
/// Number of steps in which the learning rate rises to its value.
const WARM_UP: usize = 60;
/// Number of steps between two points of the curve.
const STEPS_PER_POINT: usize = 20;
/// Side of the images, in pixels.
const SIDE: usize = 32;
const CHANNELS: usize = 16;

pub fn run(seeds: Range<u64>) -> Result<()> {
    let mut losses = Table::open("depth_losses", "tower,layers,seed,step,loss")?;
    let mut gradients = Table::open("depth_gradients", "tower,layers,seed,layer,gradient")?;
    for seed in seeds {
        for layers in [8, 24, 56] {
            for (name, residual) in [("plain", false), ("residual", true)] {
                let key = format!("{name},{layers},{seed}");
                if losses.has(&format!("{key},{STEPS}")) {
                    continue;
                }
                let model = tower(layers, residual, seed)?;
                let (x, y) = batch(seed << 32)?;
                for (layer, gradient) in (1..).zip(gradients_of(&model, layers, &x, &y)?) {
                    gradients.push(&key, &format!("{layer},{gradient:.3e}"))?;
                }
                train(&model, seed, |step, loss| losses.push(&key, &format!("{step},{loss:.4}")))?;
            }
        }
    }
    Ok(())
}

fn tower(layers: usize, residual: bool, seed: u64) -> Result<Model> {
    let mut builder = ModelBuilder::with_random("tower", &[3, SIDE, SIDE], seeded(seed))?;
    let convolution = |strides| {
        let convolution = Conv2D::new(CHANNELS, 3).padding(Padding::Explicit(1)).strides(strides);
        convolution.use_bias(false).kernel_initializer(Initializer::HeNormal)
    };
    let input = builder.input();
    let mut last = builder.add("first", convolution(2), &[input])?;
    last = builder.add("", BatchNormalization::default().momentum(0.9), &[last])?;
    last = builder.add("", Activation::Relu, &[last])?;
    for block in 0..layers / 2 {
        let shortcut = last;
        for layer in [2 * block + 1, 2 * block + 2] {
            last = builder.add(&format!("layer{layer}"), convolution(1), &[last])?;
            last = builder.add("", BatchNormalization::default().momentum(0.9), &[last])?;
            if layer % 2 == 0 && residual {
                last = builder.add("", Add, &[shortcut, last])?;
            }
            last = builder.add("", Activation::Relu, &[last])?;
        }
    }
    last = builder.add("", GlobalAveragePooling2D, &[last])?;
    let output = builder.add("", Dense::new(CLASSES), &[last])?;
    builder.finish(output)
}

/// New drawings and their classes.
fn batch(seed: u64) -> Result<(Tensor, Tensor)> {
    let mut random = seeded(seed);
    let mut pixels = Vec::with_capacity(BATCH * 3 * SIDE * SIDE);
    for at in 0..BATCH {
        let drawn = SOURCES[SOURCES.len() - CLASSES + at % CLASSES].draw(SIDE as u32, &mut random);
        for channel in 0..3 {
            pixels.extend(drawn.pixels().map(|pixel| f32::from(pixel[channel])));
        }
    }
    let x = preprocess_input(&Tensor::from_vec(pixels, (BATCH, 3, SIDE, SIDE), &device())?)?;
    let y: Vec<u32> = (0..BATCH).map(|at| (at % CLASSES) as u32).collect();
    Ok((x, Tensor::from_vec(y, BATCH, &device())?))
}

fn loss(model: &Model, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    Ok(headstart::candle_nn::loss::cross_entropy(&model.forward(x, Mode::Training)?, y)?)
}

/// Root mean square of the gradient of each layer's kernel.
fn gradients_of(model: &Model, layers: usize, x: &Tensor, y: &Tensor) -> Result<Vec<f64>> {
    let gradients = loss(model, x, y)?.backward()?;
    let size = |layer: usize| {
        let kernel = &model.layer(&format!("layer{layer}"))?.params()[0];
        let gradient = gradients.get(kernel.var()).expect("a trainable kernel has a gradient");
        Ok(f64::from(gradient.sqr()?.mean_all()?.sqrt()?.to_scalar::<f32>()?))
    };
    (1..=layers).map(size).collect()
}

/// Trains with SGD, momentum 0.9 and a warm-up, as for the paper's deepest networks. Reports the mean loss of every
/// twenty steps.
fn train(model: &Model, seed: u64, mut report: impl FnMut(usize, f64) -> Result<()>) -> Result<()> {
    let mut sgd = SGD::new(LEARNING_RATE).momentum(0.9);
    let params = model.trainable_params();
    let mut sum = 0.0;
    for step in 1..=STEPS {
        sgd.set_learning_rate(LEARNING_RATE * (step as f64 / WARM_UP as f64).min(1.0))?;
        let (x, y) = batch((seed << 32) + step as u64)?;
        let loss = loss(model, &x, &y)?;
        sgd.step(&params, &loss.backward()?)?;
        sum += f64::from(loss.to_scalar::<f32>()?) / STEPS_PER_POINT as f64;
        if step % STEPS_PER_POINT == 0 {
            report(step, sum)?;
            sum = 0.0;
        }
    }
    Ok(())
}
