//! The networks' logits are torchvision's: `tests/fixtures/networks.py` wrote those.

use std::collections::HashMap;

use headstart::models::Network;
use headstart::prelude::*;

/// splitmix64 of `seed · 2^32 + position`, 24 bits each: even values in `[0, 1)`.
fn draw(seed: u64, shape: &[usize]) -> Vec<f32> {
    let value = |position: u64| {
        let mut z = ((seed << 32) + position + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
    };
    (0..shape.iter().product::<usize>() as u64).map(value).collect()
}

/// Drawn weights under torchvision's names and in its order.
fn weights(shapes: &[(String, Vec<usize>)]) -> Weights {
    let tensor = |(seed, (name, shape)): (usize, &(String, Vec<usize>))| {
        let mut values = draw(seed as u64, shape);
        if name.ends_with("running_var") || (name.ends_with("weight") && shape.len() == 1) {
            values.iter_mut().for_each(|value| *value += 0.5);
        } else if shape.len() == 1 {
            values.iter_mut().for_each(|value| *value = (*value - 0.5) * 0.2);
        } else {
            let limit = (6.0 / shape[1..].iter().product::<usize>() as f64).sqrt() as f32;
            values.iter_mut().for_each(|value| *value = (*value * 2.0 - 1.0) * limit);
        }
        (name.clone(), Tensor::from_vec(values, shape.as_slice(), &device()).unwrap())
    };
    Weights::Tensors(shapes.iter().enumerate().map(tensor).collect::<HashMap<_, _>>())
}

/// torchvision's `vgg16().state_dict()`, names and shapes.
fn vgg16_state() -> Vec<(String, Vec<usize>)> {
    let positions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28];
    let filters = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512];
    let mut inputs = 3;
    let mut state = Vec::new();
    let mut add = |stem: String, weight: Vec<usize>| {
        let outputs = weight[0];
        state.push((format!("{stem}.weight"), weight));
        state.push((format!("{stem}.bias"), vec![outputs]));
    };
    for (position, outputs) in positions.into_iter().zip(filters) {
        add(format!("features.{position}"), vec![outputs, inputs, 3, 3]);
        inputs = outputs;
    }
    add("classifier.0".into(), vec![4096, 25088]);
    add("classifier.3".into(), vec![4096, 4096]);
    add("classifier.6".into(), vec![1000, 4096]);
    state
}

/// torchvision's `resnet50().state_dict()`, names and shapes.
fn resnet50_state() -> Vec<(String, Vec<usize>)> {
    let mut state = Vec::new();
    let mut add = |conv: String, norm: String, weight: [usize; 4]| {
        state.push((format!("{conv}.weight"), weight.to_vec()));
        for part in ["weight", "bias", "running_mean", "running_var"] {
            state.push((format!("{norm}.{part}"), vec![weight[0]]));
        }
    };
    add("conv1".into(), "bn1".into(), [64, 3, 7, 7]);
    let mut inputs = 64;
    for (stage, (blocks, width)) in (1..).zip([(3, 64), (4, 128), (6, 256), (3, 512)]) {
        for block in 0..blocks {
            let stem = format!("layer{stage}.{block}");
            let shapes = [[width, inputs, 1, 1], [width, width, 3, 3], [width * 4, width, 1, 1]];
            for (n, shape) in (1..).zip(shapes) {
                add(format!("{stem}.conv{n}"), format!("{stem}.bn{n}"), shape);
            }
            if block == 0 {
                let shape = [width * 4, inputs, 1, 1];
                add(format!("{stem}.downsample.0"), format!("{stem}.downsample.1"), shape);
            }
            inputs = width * 4;
        }
    }
    state.push(("fc.weight".into(), vec![1000, 2048]));
    state.push(("fc.bias".into(), vec![1000]));
    state
}

fn assert_logits(network: Network, name: &str, side: usize) {
    let fixture = include_bytes!("../fixtures/networks.safetensors");
    let fixture = candle_core::safetensors::load_buffer(fixture, &device()).unwrap();
    let expected = fixture[&format!("{name}_{side}")].to_vec2::<f32>().unwrap().concat();
    let shape = [2, 3, side, side];
    let pixels: Vec<f32> = draw(1000, &shape).iter().map(|value| value * 2.0 - 1.0).collect();
    let x = Tensor::from_vec(pixels, &shape, &device()).unwrap();
    let model = network.input_shape((3, side, side)).classifier_activation(Linear).build().unwrap();
    let logits = model.predict(&x).unwrap();
    let logits: Vec<f32> = logits.iter().flatten().copied().collect();
    let mean = expected.iter().sum::<f32>() / expected.len() as f32;
    let spread = (expected.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / expected.len() as f32).sqrt();
    let worst = logits.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    println!("{name} at {side}: worst difference {worst}, {} of the spread {spread}", worst / spread);
    assert!(worst < 1e-3 * spread, "{name} at {side}: {worst} of {spread}");
}

#[test]
fn vgg16_equals_torchvision() {
    assert_logits(Vgg16::new(weights(&vgg16_state())), "vgg16", 224);
}

#[test]
fn resnet50_equals_torchvision() {
    let weights = weights(&resnet50_state());
    assert_logits(ResNet50::new(weights.clone()), "resnet50", 224);
    assert_logits(ResNet50::new(weights), "resnet50", 96);
}

#[test]
fn networks_have_the_published_numbers_of_weights() {
    let count = |network: Network| network.build().unwrap().summary().total;
    assert_eq!(count(Vgg16::new(Weights::Random(0))), 138_357_544);
    assert_eq!(count(Vgg16::new(Weights::Random(0)).include_top(false)), 14_714_688);
    assert_eq!(count(ResNet50::new(Weights::Random(0))), 25_557_032);
}

#[test]
fn timm_names_are_read_too() {
    let mut state = vgg16_state();
    for (name, shape) in &mut state {
        for (ours, theirs) in [
            ("classifier.0", "pre_logits.fc1"),
            ("classifier.3", "pre_logits.fc2"),
            ("classifier.6", "head.fc"),
        ] {
            *name = name.replace(ours, theirs);
        }
        match name.as_str() {
            "pre_logits.fc1.weight" => *shape = vec![4096, 512, 7, 7],
            "pre_logits.fc2.weight" => *shape = vec![4096, 4096, 1, 1],
            _ => {}
        }
    }
    let model = Vgg16::new(weights(&state)).build().unwrap();
    assert_eq!(model.summary().total, 138_357_544);
}
