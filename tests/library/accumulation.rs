//! Gradient accumulation has the effect of larger batches.

use headstart::prelude::*;

/// A model with fixed weights.
fn model() -> HeadstartResult<Model> {
    let model = sequential![Input::new(3), Dense::new(5).activation(Tanh), Dense::new(1)]?;
    for (at, param) in model.params().into_iter().enumerate() {
        let count = param.count();
        let values: Vec<f32> = (0..count).map(|n| ((n * 7 + at * 3) % 11) as f32 / 11.0 - 0.5).collect();
        param.set(&Tensor::from_vec(values, param.value(Mode::Inference).shape(), &device())?)?;
    }
    Ok(model)
}

fn data() -> HeadstartResult<(Tensor, Tensor)> {
    let x: Vec<f32> = (0..72).map(|n| ((n * 5) % 13) as f32 / 13.0 - 0.5).collect();
    let y: Vec<f32> = (0..24).map(|n| (n % 5) as f32 / 5.0).collect();
    Ok((Tensor::from_vec(x, (24, 3), &device())?, Tensor::from_vec(y, (24, 1), &device())?))
}

fn fit(batch_size: usize, epochs: usize) -> Fit {
    Fit::epochs(epochs).batch_size(batch_size).shuffle(false).verbose(false).chart(false).advice(false)
}

fn values(model: &Model) -> HeadstartResult<Vec<f32>> {
    let mut values = Vec::new();
    for param in model.params() {
        values.extend(param.value(Mode::Inference).flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(values)
}

fn assert_equal(found: &Model, expected: &Model) -> HeadstartResult<()> {
    let worst = values(found)?.iter().zip(values(expected)?).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-6, "{worst}");
    Ok(())
}

fn assert_like_large_batches<O: Optimizer + 'static>(large: O, small: O) -> HeadstartResult<()> {
    let (x, y) = data()?;
    let (mut expected, mut found) = (model()?, model()?);
    let start = values(&expected)?;
    expected.compile(large, MeanSquaredError, []);
    found.compile(small, MeanSquaredError, []);
    expected.fit((&x, &y), fit(8, 3))?;
    found.fit((&x, &y), fit(2, 3))?;
    assert_ne!(values(&expected)?, start);
    assert_equal(&found, &expected)
}

#[test]
fn four_batches_of_two_are_like_one_of_eight() -> HeadstartResult<()> {
    assert_like_large_batches(
        Adam::new(Schedule::exponential_decay(0.05, 1, 0.9)).global_clipnorm(0.05),
        Adam::new(Schedule::exponential_decay(0.05, 1, 0.9))
            .global_clipnorm(0.05)
            .gradient_accumulation_steps(4),
    )?;
    assert_like_large_batches(
        SGD::new(0.1).momentum(0.9).weight_decay(0.1).clipnorm(0.02),
        SGD::new(0.1).momentum(0.9).weight_decay(0.1).clipnorm(0.02).gradient_accumulation_steps(4),
    )
}

#[test]
fn a_saved_model_continues_within_a_step() -> HeadstartResult<()> {
    let (x, y) = data()?;
    let optimizer = || Adam::new(0.05).gradient_accumulation_steps(5);
    let mut whole = model()?;
    whole.compile(optimizer(), MeanSquaredError, []);
    let (first, second) =
        ((x.narrow(0, 0, 14)?, y.narrow(0, 0, 14)?), (x.narrow(0, 14, 10)?, y.narrow(0, 14, 10)?));
    whole.fit((&first.0, &first.1), fit(2, 1))?;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    whole.save(&path)?;
    // Seven batches: one step and two batches.
    let mut loaded = Model::load(&path)?;
    whole.fit((&second.0, &second.1), fit(2, 1))?;
    loaded.fit((&second.0, &second.1), fit(2, 1))?;
    assert_equal(&loaded, &whole)
}
