//! Measures image processing: `cargo run --release --example images -- TASK BATCH SIDE [FOLDER]`.
//!
//! The task is `augmentation` (of 64 images, with the tutorial's rotation, shifts and flip), `decoding` (of all images
//! in a folder of classes) or `epoch` (one epoch of the tutorial's model on them, with augmentation). Prints the median
//! time in seconds and the peak memory in MB. `tests/bench/compare.py` compares them with Keras.

use headstart::prelude::*;

#[path = "measure/mod.rs"]
mod measure;

fn main() -> headstart::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, batch, side, folder) = match arguments.as_slice() {
        [task, batch, side] => (task, batch, side, ""),
        [task, batch, side, folder] => (task, batch, side, folder.as_str()),
        _ => {
            eprintln!("expected TASK BATCH SIDE [FOLDER], as in: augmentation 32 224");
            std::process::exit(2);
        }
    };
    let (batch, side): (usize, usize) = (batch.parse().expect("a number"), side.parse().expect("a number"));
    let datagen = ImageDataGenerator::new()
        .rotation_range(20.0)
        .width_shift_range(0.2)
        .height_shift_range(0.2)
        .horizontal_flip(true);
    let read = || Images::from_directory(folder, (side, side));
    let times = match task.as_str() {
        "augmentation" => {
            let x = random_uniform((64, 3, side, side), 0.0, 255.0)?;
            let y = Tensor::zeros(64, DType::F32, &device())?;
            let mut flow = datagen.flow(&x, &y, batch)?;
            measure::times(measure::MIN_RUNS, || flow.epoch()?.try_for_each(|batch| batch.map(drop)))?
        }
        "decoding" => measure::times(measure::MIN_RUNS, || read().map(drop))?,
        _ => {
            let images = read()?;
            let base_model =
                Vgg16::new(Weights::Random(0)).include_top(false).input_shape((3, side, side)).build()?;
            base_model.freeze();
            let mut model = sequential![
                base_model,
                Flatten,
                Dense::new(128).activation(Relu),
                Dropout::new(0.5),
                Dense::new(1).activation(Sigmoid)
            ]?;
            model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);
            let x = preprocess_input(&images.x)?;
            measure::times(2, || {
                let fit = Fit::epochs(1).verbose(false).chart(false).advice(false);
                model.fit(datagen.flow(&x, &images.y, batch)?, fit).map(drop)
            })?
        }
    };
    measure::print(times);
    Ok(())
}
