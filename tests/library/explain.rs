//! Grad-CAM and embeddings match pytorch-grad-cam and scikit-learn. `tests/fixtures/explain.py` wrote the expected
//! values.

use std::collections::HashMap;

use headstart::prelude::*;

use crate::parity::{draw, resnet50_state, spread_and_worst, weights};

fn fixture() -> HashMap<String, Tensor> {
    candle_core::safetensors::load_buffer(include_bytes!("../fixtures/explain.safetensors"), &device())
        .unwrap()
}

#[test]
fn grad_cam_matches_pytorch_grad_cam() -> headstart::Result<()> {
    let network = ResNet50::new(weights(&resnet50_state())).input_shape((3, 64, 64));
    let network = network.classifier_activation(Linear).build()?;
    let pixels: Vec<f32> = draw(1000, &[2, 3, 64, 64]).iter().map(|value| value * 2.0 - 1.0).collect();
    let x = Tensor::from_vec(pixels, (2, 3, 64, 64), &device())?;
    for (name, what) in [
        ("heat_likeliest", GradCam::new().layer("conv3_block4_out")),
        ("heat_7", GradCam::new().layer("conv4_block6_out").class(7)),
    ] {
        let heat = network.grad_cam(&x, what)?.maps.flatten_from(1)?;
        // pytorch-grad-cam normalises each heat map again after resizing.
        let (least, most) = (heat.min_keepdim(1)?, heat.max_keepdim(1)?);
        let stretched = heat.broadcast_sub(&least)?.broadcast_div(&(most - least)?)?.reshape((2, 64, 64))?;
        let (spread, worst) = spread_and_worst(&stretched, &fixture()[name]);
        println!("{name}: worst difference {worst:e} of maps from 0 to 1, spread {spread}");
        assert!(worst < 1e-3, "{name}: {worst}");
    }
    Ok(())
}

#[test]
fn embeddings_match_scikit_learn() -> headstart::Result<()> {
    for (samples, width) in [(30, 7), (9, 50)] {
        let mut values = draw(7000 + width as u64, &[samples, width]);
        values.iter_mut().enumerate().for_each(|(at, value)| *value *= (at % width + 1) as f32);
        let features = Tensor::from_vec(values, (samples, width), &device())?;
        let classes = Tensor::zeros(samples, DType::U32, &device())?;
        let embedding = Embedding::new(&features, &classes, &["one"])?;
        let points: Vec<f32> = embedding.points().iter().flatten().map(|value| *value as f32).collect();
        let points = Tensor::from_vec(points, (samples, 2), &device())?;
        let (spread, worst) = spread_and_worst(&points, &fixture()[&format!("points_{width}")]);
        assert!(worst < 1e-5 * spread, "{samples} of {width}: {worst} of {spread}");
        let ratios = fixture()[&format!("ratios_{width}")].to_vec1::<f32>()?;
        for (found, expected) in embedding.explained_variance_ratio().iter().zip(ratios) {
            assert!((found - f64::from(expected)).abs() < 1e-6, "{found} for {expected}");
        }
    }
    Ok(())
}

#[test]
fn invalid_embeddings_are_rejected() {
    let classes = |count: usize| Tensor::zeros(count, DType::U32, &device()).unwrap();
    let refused = |features: &Tensor, classes: &Tensor| {
        Embedding::new(features, classes, &["one"]).unwrap_err().to_string()
    };
    let two = Tensor::zeros((2, 5), DType::F32, &device()).unwrap();
    assert!(refused(&two, &classes(2)).contains("at least three samples"));
    let four = Tensor::zeros((4, 5), DType::F32, &device()).unwrap();
    assert!(refused(&four, &classes(3)).contains("3 classes for 4 samples"));
    assert!(refused(&four, &(classes(4) + 1.0).unwrap()).contains("a name for class 1"));
    assert!(refused(&(&four / 0.0).unwrap(), &classes(4)).contains("NaN"));
    // Equal samples give equal points.
    let same = Embedding::new(&four, &classes(4), &["one"]).unwrap();
    assert_eq!(same.points(), [[0.0; 2]; 4]);
    assert!(same.plot().unwrap().svg().starts_with("<svg"));
}
