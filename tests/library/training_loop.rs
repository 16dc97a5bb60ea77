//! A training loop written with `value_and_gradients`, for a model that `fit` does not take.

use headstart::Result;
use headstart::prelude::*;

#[test]
fn a_model_with_two_inputs_is_trained_by_a_loop() -> Result<()> {
    let mut builder = ModelBuilder::new("pair", &[2])?.input_name("left")?;
    let right = builder.add_input("right", &[2])?;
    let joined = builder.add("", Concatenate::default(), &[builder.input(), right])?;
    let difference = builder.add("difference", Dense::new(1), &[joined])?;
    let model = builder.finish(difference)?;
    let (left, right) = (random_uniform((32, 2), 0.0, 1.0)?, random_uniform((32, 2), 0.0, 1.0)?);
    let y = (left.sum_keepdim(1)? - right.sum_keepdim(1)?)?;
    let mut adam = Adam::new(0.05);
    let mut losses = Vec::new();
    for _ in 0..300 {
        let (loss, gradients) = value_and_gradients(|| {
            let outputs = model.forward_many(&[("left", &left), ("right", &right)], Mode::Training)?;
            Ok((&outputs["difference"] - &y)?.sqr()?.mean_all()?)
        })?;
        adam.step(&model.trainable_params(), &gradients)?;
        losses.push(loss.to_scalar::<f32>()?);
    }
    assert!(losses[299] < 1e-3, "{losses:?}");
    Ok(())
}
