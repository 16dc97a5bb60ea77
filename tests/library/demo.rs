//! The bundled demo weights: their accuracy, and transfer learning with them.

use headstart::Result;
use headstart::data::{CATS_AND_DOGS, SOURCES, Subject};
use headstart::models::Network;
use headstart::prelude::*;
use headstart::random::seeded;

/// `count` images of the subjects in turn, preprocessed, and their class indices.
fn images(subjects: &[Subject], count: usize, seed: u64) -> Result<(Tensor, Tensor)> {
    let mut random = seeded(seed);
    let mut pixels = Vec::new();
    for at in 0..count {
        let drawn = subjects[at % subjects.len()].draw(64, &mut random);
        for channel in 0..3 {
            pixels.extend(drawn.pixels().map(|pixel| f32::from(pixel[channel])));
        }
    }
    let numbers: Vec<u32> = (0..count).map(|at| (at % subjects.len()) as u32).collect();
    let x = preprocess_input(&Tensor::from_vec(pixels, (count, 3, 64, 64), &device())?)?;
    Ok((x, Tensor::from_vec(numbers, count, &device())?))
}

const NETWORKS: [fn(Weights) -> Network; 2] = [Vgg16::new, ResNet50::new];

#[test]
fn demo_weights_classify_their_training_classes() -> Result<()> {
    let (x, y) = images(&SOURCES, 10 * SOURCES.len(), 1 << 50)?;
    for network in NETWORKS {
        let model = network(Weights::Demo).build()?;
        let decoded = model.decode_predictions(&model.predict(&x)?, 1)?;
        let truth = y.to_vec1::<u32>()?;
        let right = truth
            .iter()
            .enumerate()
            .filter(|(at, class)| decoded[*at][0].0 == SOURCES[**class as usize].name);
        let share = right.count() as f64 / truth.len() as f64;
        println!("{}: {share:.3}", model.name());
        assert!(share > 0.85, "{}: {share}", model.name());
    }
    Ok(())
}

#[test]
fn demo_weights_transfer_to_new_classes() -> Result<()> {
    let (x, y) = images(&CATS_AND_DOGS, 100, 2 << 50)?;
    let (x_val, y_val) = images(&CATS_AND_DOGS, 300, 3 << 50)?;
    for network in NETWORKS {
        let base = network(Weights::Demo).include_top(false).build()?;
        base.freeze();
        let (hidden, last) = (Dense::new(128).activation(Relu), Dense::new(2).activation(Softmax));
        let mut model = sequential![&base, Flatten, hidden, Dropout::new(0.5), last]?;
        model.compile(Adam::default(), SparseCategoricalCrossentropy, [Accuracy]);
        model.fit((&x, &y), Fit::epochs(40).batch_size(16).verbose(false))?;
        let accuracy = model.evaluate(&x_val, &y_val)?.get("accuracy").unwrap();
        println!("{}: {accuracy:.3}", base.name());
        assert!(accuracy > 0.8, "{}: {accuracy}", base.name());
    }
    Ok(())
}

#[test]
fn demo_weights_reject_another_width() {
    let wrong = Vgg16::new(Weights::Demo).alpha(0.5).build().unwrap_err().to_string();
    assert!(
        wrong.contains("the demo weights")
            && wrong.contains("expected shape [32, 3, 3, 3], found [16, 3, 3, 3]"),
        "{wrong}"
    );
    let none = EfficientNetLite0::new(Weights::Demo).build().unwrap_err().to_string();
    assert!(none.contains("vgg16, resnet50") && none.contains("efficientnet_lite0"), "{none}");
}
