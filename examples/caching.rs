//! Measures the speedup of cached features: the same training with and without the cache.
//!
//! ```sh
//! cargo run --release --example caching
//! ```

use std::time::Instant;

use headstart::prelude::*;

const EPOCHS: usize = 10;

fn main() -> headstart::Result<()> {
    let folder = std::env::temp_dir().join("headstart-caching");
    draw_demo_images(&folder, 200, 64, 1)?;
    let images = Images::from_directory(&folder, (64, 64))?;
    println!(
        "{} images of 64 by 64, {EPOCHS} epochs, all of the network frozen or all but its last block",
        images.len()
    );
    for (name, network, from) in [
        ("VGG16", Vgg16::new(Weights::Demo), "block5_conv1"),
        ("ResNet50", ResNet50::new(Weights::Demo), "conv5_block1_1_conv"),
    ] {
        for unfrozen in [None, Some(from)] {
            let run = |cache: bool| -> headstart::Result<(f64, Vec<f64>)> {
                set_random_seed(1);
                let base = network.clone().include_top(false).build()?;
                base.freeze();
                if let Some(layer) = unfrozen {
                    base.unfreeze_from(layer)?;
                }
                let x = base.preprocess(&images.x)?;
                let mut model = sequential![
                    base,
                    Flatten,
                    Dense::new(64).activation(Relu),
                    Dropout::new(0.5),
                    Dense::new(1).activation(Sigmoid)
                ]?;
                model.compile(Adam::new(1e-4), BinaryCrossentropy, [Accuracy]);
                let begin = Instant::now();
                let fit = Fit::epochs(EPOCHS).verbose(false).cache_features(cache).validation_split(0.2);
                let history = model.fit((&x, &images.y), fit)?;
                Ok((begin.elapsed().as_secs_f64(), history["loss"].to_vec()))
            };
            let ((without, plain), (with, cached)) = (run(false)?, run(true)?);
            println!(
                "{name:8} {:26} {without:6.2} s without, {with:6.2} s with: {:4.1} times; histories {}",
                unfrozen.map_or("frozen".into(), |layer| format!("from {layer}")),
                without / with,
                if plain == cached { "equal" } else { "DIFFER" }
            );
        }
    }
    Ok(())
}
