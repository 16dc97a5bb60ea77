//! How many pictures a second the augmentation makes: 224 by 224, rotation, shifts and flip, as in the
//! tutorial. `tests/bench/augmentation.py` sets it beside Keras's.

use std::time::{Duration, Instant};

use headstart::prelude::*;

const TIME: Duration = Duration::from_secs(8);

fn main() -> headstart::Result<()> {
    let x = random_uniform((64, 3, 224, 224), 0.0, 255.0)?;
    let y = Tensor::zeros(64, DType::F32, &device())?;
    let datagen = ImageDataGenerator::new()
        .rotation_range(20.0)
        .width_shift_range(0.2)
        .height_shift_range(0.2)
        .horizontal_flip(true);
    let mut flow = datagen.flow(&x, &y, 32)?;
    let (begin, mut pictures) = (Instant::now(), 0);
    while begin.elapsed() < TIME {
        for batch in flow.epoch()? {
            pictures += batch?.x.dim(0)?;
        }
    }
    println!("{:.0}", pictures as f64 / begin.elapsed().as_secs_f64());
    Ok(())
}
