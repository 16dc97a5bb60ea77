//! The tutorial's program: parameter counts, training, freezing.

use headstart::Result;
use headstart::prelude::*;

fn tutorial_model(side: usize) -> Result<Model> {
    let base_model =
        Vgg16::new(Weights::Random(0)).include_top(false).input_shape((3, side, side)).build()?;
    base_model.freeze();
    sequential![
        base_model,
        Flatten,
        Dense::new(128).activation(Relu),
        Dropout::new(0.5),
        Dense::new(1).activation(Sigmoid)
    ]
}

#[test]
fn tutorial_model_has_keras_parameter_counts() -> Result<()> {
    let summary = tutorial_model(224)?.summary();
    assert_eq!((summary.trainable, summary.total), (3_211_521, 17_926_209));
    let text = summary.to_string();
    for part in ["vgg16 (Model)", "(None, 512, 7, 7)", "14,714,688", "dense_1 (Dense)", "17,926,209"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    Ok(())
}

#[test]
fn a_small_network_learns_a_simple_task() -> Result<()> {
    // Bright against dark images, with noise.
    let n = 64;
    let noise = Tensor::rand(0f32, 1.0, (n, 3, 8, 8), &device())?;
    let labels: Vec<f32> = (0..n).map(|i| (i % 2) as f32).collect();
    let y = Tensor::from_vec(labels, n, &device())?;
    let x = noise.broadcast_add(&y.reshape((n, 1, 1, 1))?)?;
    let mut model = sequential![
        Input::new((3, 8, 8)),
        // Enough filters that some are active initially, whatever random values other tests draw.
        Conv2D::new(16, 3).padding(Padding::Same).activation(Relu),
        MaxPooling2D::new(2),
        GlobalAveragePooling2D,
        Dense::new(1).activation(Sigmoid)
    ]?;
    model.compile(Adam::new(0.02), BinaryCrossentropy, [Accuracy]);
    let fit = Fit::epochs(20).batch_size(16).verbose(false).validation_data((&x, &y));
    let history = model.fit((&x, &y), fit)?;
    assert!(history["loss"][19] < history["loss"][0] / 2.0, "{:?}", &history["loss"]);
    assert!(model.evaluate(&x, &y)?.get("accuracy").unwrap() > 0.95);
    assert_eq!(history.get("val_accuracy").unwrap().len(), 20);
    Ok(())
}

#[test]
fn frozen_weights_and_statistics_do_not_change() -> Result<()> {
    let base = ResNet50::new(Weights::Random(3)).include_top(false).input_shape((3, 32, 32)).build()?;
    base.freeze();
    base.unfreeze_from("conv5_block3_3_conv")?;
    let values = |base: &Model| -> Result<Vec<f32>> {
        base.params().iter().map(|p| Ok(p.value(Mode::Inference).sqr()?.sum_all()?.to_scalar()?)).collect()
    };
    let before = values(&base)?;
    let mut model = sequential![&base, GlobalAveragePooling2D, Dense::new(3).activation(Softmax)]?;
    model.compile(Adam::default(), SparseCategoricalCrossentropy, [Accuracy]);
    let x = Tensor::rand(0f32, 1.0, (4, 3, 32, 32), &device())?;
    model.fit((&x, &Tensor::new(&[0u32, 1, 2, 1], &device())?), Fit::epochs(1).verbose(false))?;
    let moved: Vec<bool> =
        values(&base)?.iter().zip(before).map(|(after, before)| *after != before).collect();
    let first = moved.iter().position(|moved| *moved).expect("the unfrozen layers moved");
    // The last convolution and its normalisation: kernel, gamma, beta, mean, variance.
    assert_eq!(first, moved.len() - 5);
    Ok(())
}
