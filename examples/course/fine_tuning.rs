//! How much of the demo VGG16 to unfreeze, and at which learning rate, for drawings in another style.
//!
//! The task was chosen before any result: sketches of cats and dogs, dark contours on white, with 400 training images.
//! The demo weights were trained on coloured drawings only. Each run first trains a head on the frozen base, then
//! fine-tunes for the same number of epochs. The accuracy is that on 1,000 test images.

use std::ops::Range;
use std::time::Instant;

use headstart::Result;
use headstart::prelude::*;

use crate::table::Table;
use crate::task::{Style, Task, head, quietly};

const TRAINING: usize = 400;
const TEST: usize = 1000;
const HEAD_EPOCHS: usize = 30;
const EPOCHS: usize = 6;
const SPLIT_POINTS: [(&str, Option<&str>); 5] = [
    ("none", None),
    ("block 5", Some("block5_conv1")),
    ("blocks 4 and 5", Some("block4_conv1")),
    ("blocks 3 to 5", Some("block3_conv1")),
    ("all", Some("block1_conv1")),
];
const RATES: [f64; 4] = [1e-5, 1e-4, 1e-3, 1e-2];

pub fn run(seeds: Range<u64>) -> Result<()> {
    let mut table = Table::open("fine_tuning", "unfrozen,rate,seed,accuracy,seconds")?;
    let test = Task::draw(Style::Sketch, TEST, (1 << 41) + 1)?;
    for seed in seeds {
        let training = Task::draw(Style::Sketch, TRAINING, (1 << 41) + (seed << 24) + 2)?;
        for (name, layer) in SPLIT_POINTS {
            for rate in RATES {
                let key = format!("{name},{rate:.0e},{seed}");
                // With all layers unfrozen, all rates are compared; with fewer layers, only the rates that suit them.
                let is_wanted = match name {
                    "none" => rate == 1e-4,
                    "all" => true,
                    "block 5" => rate == 1e-4 || rate == 1e-3,
                    _ => rate == 1e-4,
                };
                if !is_wanted || table.has(&key) {
                    continue;
                }
                let clock = Instant::now();
                let model = tuned(layer, rate, seed, &training)?;
                let seconds = clock.elapsed().as_secs_f64();
                table.push(&key, &format!("{:.4},{seconds:.1}", test.accuracy(&model)?))?;
            }
        }
    }
    Ok(())
}

fn tuned(layer: Option<&str>, rate: f64, seed: u64, training: &Task) -> Result<Model> {
    set_random_seed(seed);
    let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
    base.freeze();
    let mut model = sequential![&base, &head(base.output_shape())?]?;
    model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);
    model.fit((&training.x, &training.y), quietly(HEAD_EPOCHS))?;
    if let Some(layer) = layer {
        base.unfreeze_from(layer)?;
    }
    model.compile(Adam::new(rate), BinaryCrossentropy, [Accuracy]);
    model.fit((&training.x, &training.y), quietly(EPOCHS))?;
    Ok(model)
}
