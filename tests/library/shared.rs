//! Layers that occur several times in a model are trained and counted once, as in Keras.

use headstart::Result;
use headstart::prelude::*;

#[test]
fn a_layer_that_occurs_twice_is_updated_once() -> Result<()> {
    let base = sequential![Input::new(3), Dense::new(2)]?;
    let mut builder = ModelBuilder::new("twice", &[3])?;
    let left = builder.add("left", &base, &[builder.input()])?;
    let right = builder.add("right", &base, &[builder.input()])?;
    let sum = builder.add("sum", Add, &[left, right])?;
    let mut model = builder.finish(sum)?;
    assert_eq!((model.params().len(), model.trainable_params().len()), (2, 2));
    assert_eq!((model.summary().total, model.summary().trainable), (8, 8));
    let (x, y) = (random_uniform((6, 3), -1.0, 1.0)?, random_uniform((6, 2), -1.0, 1.0)?);
    let (_, gradients) = value_and_gradients(|| {
        let output = model.forward(&x, Mode::Training)?;
        Ok((output - &y)?.sqr()?.mean_all()?)
    })?;
    let expected = base.params().into_iter().map(|param| {
        let gradient = gradients.get(param.var()).expect("the loss depends on every weight");
        Ok((param.value(Mode::Inference).copy()? - (gradient * 0.1)?)?.flatten_all()?.to_vec1::<f32>()?)
    });
    let expected = expected.collect::<Result<Vec<_>>>()?;
    model.compile(SGD::new(0.1), MeanSquaredError, []);
    model.fit((&x, &y), Fit::epochs(1).batch_size(6).verbose(false).chart(false).advice(false))?;
    for (param, expected) in base.params().iter().zip(expected) {
        let found = param.value(Mode::Inference).flatten_all()?.to_vec1::<f32>()?;
        let far = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 1e-6, "{param:?}: {found:?}, {expected:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("twice.safetensors");
    model.save(&path)?;
    assert_eq!(Model::load(&path)?.predict(&x)?, model.predict(&x)?);
    Ok(())
}

#[test]
fn a_model_and_its_sub_model_can_be_joined() -> Result<()> {
    let base = sequential![Input::new(3), Dense::new(4).activation(Relu), Dense::new(4)]?;
    let mut builder = ModelBuilder::new("joined", &[3])?;
    let whole = builder.add("whole", &base, &[builder.input()])?;
    let part = builder.add("part", base.up_to("dense")?, &[builder.input()])?;
    let sum = builder.add("sum", Add, &[whole, part])?;
    let model = builder.finish(sum)?;
    assert_eq!(model.params().len(), 4);
    model.unfreeze_from("whole/dense")?;
    base.freeze();
    assert_eq!(model.trainable_params().len(), 0);
    Ok(())
}
