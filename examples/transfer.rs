//! Transfer learning with the demo weights: cats against dogs, which are not among their classes, with few training
//! images.
//!
//! ```sh
//! cargo run --release --example transfer                 # 10 seeds
//! cargo run --release --example transfer -- 2            # 2 seeds
//! cargo run --release --example transfer -- 10 ResNet50  # one network
//! ```
//!
//! The head is the tutorial's: Flatten, Dense(128), Dropout(0.5), Dense(1). Each seed draws other
//! training images, half of each class; the 1,000 validation images are the same for all.
//! *Frozen* trains the head on the features of the frozen base; *fine-tuned* then unfreezes the last
//! block at a learning rate of 1e-4. Training from scratch: the example `course`, `learning-curve`.

use headstart::data::CATS_AND_DOGS;
use headstart::models::Network;
use headstart::prelude::*;
use headstart::random::seeded;

const SIDE: usize = 64;
const VALIDATION: usize = 1000;
const SIZES: [usize; 3] = [20, 40, 100];
type Images = (Tensor, Tensor);
type Make = fn(Weights) -> Network;

fn main() -> headstart::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seeds = arguments.first().and_then(|text| text.parse().ok()).unwrap_or(10u64);
    let validation = images(VALIDATION, 1 << 40)?;
    let networks: [(&str, Make, &str); 2] =
        [("VGG16", Vgg16::new, "block5_conv1"), ("ResNet50", ResNet50::new, "conv5_block1_1_conv")];
    let is_selected = |name: &str| arguments.get(1).is_none_or(|only| only == name);
    for (name, network, last_block) in networks.into_iter().filter(|(name, ..)| is_selected(name)) {
        for size in SIZES {
            let found: Vec<[f64; 2]> = (0..seeds)
                .map(|seed| transfer(network, last_block, seed, &images(size, seed << 20)?, &validation))
                .collect::<headstart::Result<_>>()?;
            let [frozen, tuned] = [0, 1].map(|at| found.iter().map(|both| both[at]).collect::<Vec<_>>());
            println!(
                "{name}, {size} images: frozen {}, fine-tuned {}",
                mean_and_spread(&frozen),
                mean_and_spread(&tuned)
            );
        }
    }
    Ok(())
}

/// Draws `count` images, cats and dogs in turn, with label 1 for dogs.
fn images(count: usize, seed: u64) -> headstart::Result<Images> {
    let mut random = seeded(seed);
    let mut pixels = Vec::with_capacity(count * 3 * SIDE * SIDE);
    for at in 0..count {
        let drawn = CATS_AND_DOGS[at % 2].draw(SIDE as u32, &mut random);
        for channel in 0..3 {
            pixels.extend(drawn.pixels().map(|pixel| f32::from(pixel[channel])));
        }
    }
    let x = preprocess_input(&Tensor::from_vec(pixels, (count, 3, SIDE, SIDE), &device())?)?;
    let labels: Vec<f32> = (0..count).map(|at| (at % 2) as f32).collect();
    Ok((x, Tensor::from_vec(labels, count, &device())?))
}

/// The tutorial's head for feature maps of the given shape.
fn head(maps: &[usize]) -> headstart::Result<Model> {
    let (hidden, last) = (Dense::new(128).activation(Relu), Dense::new(1).activation(Sigmoid));
    sequential![Input::new(maps), Flatten, hidden, Dropout::new(0.5), last]
}

fn accuracy(model: &Model, (x, y): &Images) -> headstart::Result<f64> {
    Ok(model.evaluate(x, y)?.get("accuracy").expect("it is measured"))
}

fn quietly(epochs: usize) -> Fit {
    Fit::epochs(epochs).batch_size(16).verbose(false).chart(false)
}

/// Accuracies with the frozen base, and after fine-tuning its last block.
fn transfer(
    network: Make,
    last_block: &str,
    seed: u64,
    (x, y): &Images,
    validation: &Images,
) -> headstart::Result<[f64; 2]> {
    set_random_seed(seed);
    let base = network(Weights::Demo).include_top(false).build()?;
    base.freeze();
    let mut head = head(base.output_shape())?;
    head.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);
    // Frozen features are the same in every epoch, so they are computed once.
    head.fit((&base.forward(x, Mode::Inference)?, y), quietly(60))?;
    let mut model = sequential![&base, &head]?;
    base.unfreeze_from(last_block)?;
    model.compile(Adam::new(1e-4), BinaryCrossentropy, [Accuracy]);
    let frozen = accuracy(&model, validation)?;
    model.fit((x, y), quietly(10))?;
    Ok([frozen, accuracy(&model, validation)?])
}

fn mean_and_spread(values: &[f64]) -> String {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len().max(2) - 1) as f64;
    format!("{mean:.3} ± {:.3}", variance.sqrt())
}
