//! Which regularisation helps with 20 to 100 training images: augmentation, MixUp, label smoothing, test-time
//! augmentation.
//!
//! The task is cats against dogs in colour, with a new head on the frozen demo weights. All ways of a seed share their
//! training images, the first weights of the head and the number of epochs. Each accuracy is measured on 500 test
//! images, which differ from seed to seed.

use std::ops::Range;
use std::time::Instant;

use headstart::Result;
use headstart::prelude::*;

use crate::table::Table;
use crate::task::{Style, Task, augmentation, head, quietly};

const SIZES: [usize; 3] = [20, 50, 100];
const TEST: usize = 500;
const EPOCHS: usize = 40;
/// Number of augmented views of each test image.
const VIEWS: usize = 4;
const WAYS: [&str; 5] = ["plain", "augmented", "mixup", "smoothing", "all three"];

pub fn run(seeds: Range<u64>) -> Result<()> {
    let mut table =
        Table::open("little_data", "way,images,seed,accuracy,loss,accuracy_views,loss_views,seconds")?;
    for seed in seeds {
        let test = Task::draw(Style::Colour, TEST, (1 << 42) + (seed << 24) + 1)?;
        for size in SIZES {
            let training = Task::draw(Style::Colour, size, (1 << 42) + (seed << 24) + 2)?;
            for way in WAYS {
                let key = format!("{way},{size},{seed}");
                if table.has(&key) {
                    continue;
                }
                let clock = Instant::now();
                let model = trained(way, seed, &training)?;
                let seconds = clock.elapsed().as_secs_f64();
                let plain = scores(&test, &model.predict(&test.x)?)?;
                let views = match way {
                    "plain" | "augmented" => {
                        let predictions = model.predict_augmented(&test.x, &augmentation(), VIEWS)?;
                        let (accuracy, loss) = scores(&test, &predictions)?;
                        format!("{accuracy:.4},{loss:.4}")
                    }
                    _ => ",".to_owned(),
                };
                table.push(&key, &format!("{:.4},{:.4},{views},{seconds:.1}", plain.0, plain.1))?;
            }
        }
    }
    Ok(())
}

fn trained(way: &str, seed: u64, training: &Task) -> Result<Model> {
    set_random_seed(seed);
    let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
    base.freeze();
    let mut model = sequential![&base, &head(base.output_shape())?]?;
    let smoothing = if matches!(way, "smoothing" | "all three") { 0.1 } else { 0.0 };
    model.compile(Adam::default(), BinaryCrossentropy.label_smoothing(smoothing), [Accuracy]);
    let generator = match way {
        "augmented" => augmentation(),
        "mixup" => ImageDataGenerator::new().mixup(0.2),
        "all three" => augmentation().mixup(0.2),
        _ => {
            model.fit((&training.x, &training.y), quietly(EPOCHS).batch_size(10))?;
            return Ok(model);
        }
    };
    model.fit(generator.flow(&training.x, &training.y, 10)?, quietly(EPOCHS))?;
    Ok(model)
}

/// Accuracy and mean cross-entropy with the true labels.
fn scores(test: &Task, predictions: &headstart::train::Predictions) -> Result<(f64, f64)> {
    let matrix = ConfusionMatrix::new(&test.y, predictions, &["cats", "dogs"])?;
    Ok((matrix.accuracy(), predictions.losses(&test.y)?.iter().sum::<f64>() / TEST as f64))
}
