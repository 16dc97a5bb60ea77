//! Constant rate, one cycle, and discriminative rates for fine-tuning.
//!
//! The task is that of the fine-tuning experiment: sketches of cats and dogs. A head is trained on the frozen demo
//! weights first. Then the last two blocks are trained for a few epochs. All ways of a seed share their training images
//! and the head. The accuracy is that on 500 test images.

use std::ops::Range;

use headstart::Result;
use headstart::prelude::*;

use crate::table::Table;
use crate::task::{Style, Task, head, quietly, restore, snapshot};

const TRAINING: usize = 200;
const TEST: usize = 500;
const HEAD_EPOCHS: usize = 30;
const EPOCHS: usize = 5;
const BATCH: usize = 16;
/// Way of setting the rate, and the highest rate.
const WAYS: [(&str, f64); 8] = [
    ("constant", 1e-4),
    ("constant", 1e-3),
    ("constant", 3e-3),
    ("one cycle", 1e-3),
    ("one cycle", 3e-3),
    ("base at a tenth", 1e-3),
    ("layer-wise decay", 1e-3),
    ("layer-wise decay", 3e-3),
];

pub fn run(seeds: Range<u64>) -> Result<()> {
    let mut table = Table::open("rates", "way,rate,seed,accuracy")?;
    let test = Task::draw(Style::Sketch, TEST, (1 << 43) + 1)?;
    for seed in seeds {
        let training = Task::draw(Style::Sketch, TRAINING, (1 << 43) + (seed << 24) + 2)?;
        set_random_seed(seed);
        let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
        base.freeze();
        let mut model = sequential![&base, &head(base.output_shape())?]?;
        model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);
        model.fit((&training.x, &training.y), quietly(HEAD_EPOCHS))?;
        let begin = snapshot(&model)?;
        let frozen = format!("frozen,0,{seed}");
        if !table.has(&frozen) {
            table.push(&frozen, &format!("{:.4}", test.accuracy(&model)?))?;
        }
        base.unfreeze_from("block4_conv1")?;
        for (way, rate) in WAYS {
            let key = format!("{way},{rate:.0e},{seed}");
            if table.has(&key) {
                continue;
            }
            restore(&model, &begin)?;
            set_random_seed(seed);
            let steps = EPOCHS * TRAINING.div_ceil(BATCH);
            let adam = match way {
                "one cycle" => Adam::new(Schedule::one_cycle(rate, steps)),
                "base at a tenth" => Adam::new(rate).learning_rate_multiplier(&base, 0.1),
                "layer-wise decay" => Adam::new(rate).layerwise_decay(&base, 0.7),
                _ => Adam::new(rate),
            };
            model.compile(adam, BinaryCrossentropy, [Accuracy]);
            model.fit((&training.x, &training.y), quietly(EPOCHS))?;
            table.push(&key, &format!("{:.4}", test.accuracy(&model)?))?;
        }
    }
    Ok(())
}
