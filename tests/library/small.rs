//! A model that trains in a moment.

use headstart::Result;
use headstart::prelude::*;

/// A compiled model with a frozen network and a head, with images and targets. The same in each call.
pub fn small(unfrozen_from: Option<&str>) -> Result<(Model, Tensor, Tensor)> {
    set_random_seed(7);
    let base =
        Vgg16::new(Weights::Random(3)).alpha(0.1).include_top(false).input_shape((3, 32, 32)).build()?;
    base.freeze();
    if let Some(layer) = unfrozen_from {
        base.unfreeze_from(layer)?;
    }
    let (hidden, last) = (Dense::new(16).activation(Relu), Dense::new(1).activation(Sigmoid));
    let mut model = sequential![base, Flatten, hidden, Dropout::new(0.5), last]?;
    model.compile(Adam::new(1e-2), BinaryCrossentropy, [Accuracy, AUC]);
    let x = random_uniform((22, 3, 32, 32), -2.0, 2.0)?;
    let y = random_uniform(22, 0.0, 1.0)?.gt(0.5)?;
    Ok((model, x, y))
}

/// A classifier of 8 by 8 images that takes pixels from 0 to 255, of any data type.
pub fn of_raw_pixels() -> Result<Model> {
    sequential![
        Input::new((3, 8, 8)),
        Rescaling::new(1.0 / 255.0),
        Conv2D::new(4, 3).activation(Relu),
        MaxPooling2D::new(2),
        Flatten,
        Dense::new(2).activation(Softmax)
    ]
}
