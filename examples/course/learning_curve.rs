//! Accuracy against the number of training images: frozen demo weights with a new head, and training from scratch.
//!
//! Each seed draws new training, validation and test images. Both methods use the same images and augmentation.
//! Training from scratch starts from He initialisation with the settings of [`search`], and the best of eight
//! checkpoints by validation accuracy is tested. The head trains for a fixed number of steps.

use std::ops::Range;
use std::time::Instant;

use headstart::Result;
use headstart::models::Network;
use headstart::prelude::*;

use crate::table::Table;
use crate::task::{SIDE, Style, Task, augmentation, head, quietly, restore, snapshot};

const SIZES: [usize; 5] = [10, 30, 100, 300, 1000];
const VALIDATION: usize = 200;
const TEST: usize = 1000;
const CHECKPOINTS: usize = 8;
/// Number of augmented views of each training image for the frozen base.
const VIEWS: usize = 4;

/// Settings of training from scratch.
#[derive(Clone, Copy, Debug)]
struct Setting {
    normalised: bool,
    learning_rate: f64,
}

/// The best setting that [`search`] found at 300 images.
const CHOSEN: Setting = Setting { normalised: true, learning_rate: 1e-3 };

/// Number of epochs from scratch, a multiple of [`CHECKPOINTS`]: fewer for more images, to limit the time.
fn epochs(size: usize) -> usize {
    match size {
        0..=10 => 80,
        11..=30 => 64,
        31..=100 => 48,
        101..=300 => 24,
        _ => 16,
    }
}

/// Runs the experiment, small sizes first, so that a stopped experiment has all seeds for them.
pub fn run(seeds: Range<u64>) -> Result<()> {
    let mut table = Table::open("learning_curve", "way,images,seed,accuracy,seconds")?;
    for size in SIZES {
        for seed in seeds.clone() {
            for way in ["transfer", "scratch"] {
                let key = format!("{way},{size},{seed}");
                if table.has(&key) {
                    continue;
                }
                let training = Task::draw(Style::Colour, size, (seed << 24) + 3)?;
                let validation = Task::draw(Style::Colour, VALIDATION, (seed << 24) + 2)?;
                let clock = Instant::now();
                let model = match way {
                    "transfer" => transfer(seed, &training)?,
                    _ => from_scratch(CHOSEN, epochs(size), seed, &training, &validation)?.0,
                };
                let seconds = clock.elapsed().as_secs_f64();
                let test = Task::draw(Style::Colour, TEST, (seed << 24) + 1)?;
                table.push(&key, &format!("{:.4},{seconds:.1}", test.accuracy(&model)?))?;
            }
        }
    }
    Ok(())
}

/// Prints the validation accuracy of each setting at 300 images that no other run uses.
pub fn search() -> Result<()> {
    let training = Task::draw(Style::Colour, 300, (1 << 40) + 3)?;
    let validation = Task::draw(Style::Colour, 400, (1 << 40) + 2)?;
    for normalised in [true, false] {
        for learning_rate in [3e-4, 1e-3, 3e-3] {
            let setting = Setting { normalised, learning_rate };
            let (_, best) = from_scratch(setting, 16, 100, &training, &validation)?;
            println!("{setting:?}: {best:.3}");
        }
    }
    Ok(())
}

/// Trains a new head on the frozen demo weights.
fn transfer(seed: u64, training: &Task) -> Result<Model> {
    set_random_seed(seed);
    let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
    base.freeze();
    let mut head = head(base.output_shape())?;
    head.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);
    let size = training.y.dim(0)?;
    let mut flow = augmentation().flow(&training.x, &training.y, size)?;
    let (mut views, mut labels) = (vec![base.predict(&training.x)?.to_tensor()?], vec![training.y.clone()]);
    for _ in 1..VIEWS {
        let batch = flow.epoch()?.next().expect("an epoch has one batch")?;
        views.push(base.predict(&batch.x)?.to_tensor()?);
        labels.push(batch.y);
    }
    let steps_an_epoch = (VIEWS * size).div_ceil(16);
    let shape: Vec<usize> = [&[VIEWS * size], base.output_shape()].concat();
    let features = Tensor::cat(&views, 0)?.reshape(shape)?;
    head.fit((&features, &Tensor::cat(&labels, 0)?), quietly((1500 / steps_an_epoch).clamp(10, 100)))?;
    let mut model = sequential![&base, &head]?;
    model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);
    Ok(model)
}

/// Trains all layers from He initialisation. Returns the best checkpoint and its validation accuracy.
fn from_scratch(
    setting: Setting,
    epochs: usize,
    seed: u64,
    training: &Task,
    validation: &Task,
) -> Result<(Model, f64)> {
    set_random_seed(seed);
    let network: fn(Weights) -> Network = if setting.normalised { Vgg16Bn::new } else { Vgg16::new };
    let base = network(Weights::Random(seed)).initializer(Initializer::HeNormal).alpha(0.25);
    let base = base.input_shape((3, SIDE, SIDE)).include_top(false).build()?;
    let mut model = sequential![&base, &head(base.output_shape())?]?;
    model.compile(Adam::new(setting.learning_rate), BinaryCrossentropy, [Accuracy]);
    let datagen = augmentation();
    let (mut best, mut accuracy) = (snapshot(&model)?, 0.0);
    for _ in 0..CHECKPOINTS {
        model.fit(datagen.flow(&training.x, &training.y, 16)?, quietly(epochs / CHECKPOINTS))?;
        let now = validation.accuracy(&model)?;
        if now >= accuracy {
            (best, accuracy) = (snapshot(&model)?, now);
        }
    }
    restore(&model, &best)?;
    Ok((model, accuracy))
}
