//! Outputs and gradients of the networks match torchvision and timm. `tests/fixtures/networks.py` wrote those.

use std::collections::HashMap;

use headstart::models::Network;
use headstart::prelude::*;

/// splitmix64 of `seed · 2^32 + position`, 24 bits each: uniform values in `[0, 1)`.
pub fn draw(seed: u64, shape: &[usize]) -> Vec<f32> {
    let value = |position: u64| {
        let mut z = ((seed << 32) + position + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
    };
    (0..shape.iter().product::<usize>() as u64).map(value).collect()
}

/// The largest difference of two tensors.
pub fn farthest(a: &Tensor, b: &Tensor) -> headstart::Result<f32> {
    Ok((a - b)?.abs()?.max_all()?.to_scalar::<f32>()?)
}

/// Random weights with torchvision's names, in its order.
pub fn weights(shapes: &[(String, Vec<usize>)]) -> Weights {
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

/// Names and shapes of torchvision's `vgg16().state_dict()` or `vgg16_bn().state_dict()`.
fn vgg16_state(normalised: bool) -> Vec<(String, Vec<usize>)> {
    let mut state = Vec::new();
    let mut add = |stem: String, parts: &[&str], weight: Vec<usize>| {
        for part in parts {
            let shape = if *part == "weight" { weight.clone() } else { vec![weight[0]] };
            state.push((format!("{stem}.{part}"), shape));
        }
    };
    let (mut position, mut inputs) = (0, 3);
    for (convolutions, outputs) in [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)] {
        for _ in 0..convolutions {
            add(format!("features.{position}"), &["weight", "bias"], vec![outputs, inputs, 3, 3]);
            if normalised {
                let parts = ["weight", "bias", "running_mean", "running_var"];
                add(format!("features.{}", position + 1), &parts, vec![outputs]);
            }
            position += if normalised { 3 } else { 2 };
            inputs = outputs;
        }
        position += 1;
    }
    for (stem, shape) in [("0", [4096, 25088]), ("3", [4096, 4096]), ("6", [1000, 4096])] {
        add(format!("classifier.{stem}"), &["weight", "bias"], shape.to_vec());
    }
    state
}

/// Names and shapes of torchvision's `resnet50().state_dict()`.
pub fn resnet50_state() -> Vec<(String, Vec<usize>)> {
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

/// Names and shapes of timm's `efficientnet_b0().state_dict()`.
fn efficientnet_b0_state() -> Vec<(String, Vec<usize>)> {
    /// A convolution with a bias, or with the batch normalisation after it.
    fn add(state: &mut Vec<(String, Vec<usize>)>, conv: String, norm: Option<String>, shape: [usize; 4]) {
        state.push((format!("{conv}.weight"), shape.to_vec()));
        match norm {
            None => state.push((format!("{conv}.bias"), vec![shape[0]])),
            Some(norm) => {
                for part in ["weight", "bias", "running_mean", "running_var"] {
                    state.push((format!("{norm}.{part}"), vec![shape[0]]));
                }
            }
        }
    }
    let mut state = Vec::new();
    add(&mut state, "conv_stem".into(), Some("bn1".into()), [32, 3, 3, 3]);
    let mut inputs = 32;
    let stages = [
        (1, 3, 1, 16),
        (2, 3, 6, 24),
        (2, 5, 6, 40),
        (3, 3, 6, 80),
        (3, 5, 6, 112),
        (4, 5, 6, 192),
        (1, 3, 6, 320),
    ];
    for (stage, (blocks, kernel, wider, outputs)) in stages.into_iter().enumerate() {
        for block in 0..blocks {
            let name = |part: &str| format!("blocks.{stage}.{block}.{part}");
            let (inside, narrow) = (inputs * wider, inputs / 4);
            let [first, second, project] = match wider {
                1 => ["", "bn1", "conv_pw"],
                _ => ["bn1", "bn2", "conv_pwl"],
            };
            if wider > 1 {
                add(&mut state, name("conv_pw"), Some(name(first)), [inside, inputs, 1, 1]);
            }
            add(&mut state, name("conv_dw"), Some(name(second)), [inside, 1, kernel, kernel]);
            add(&mut state, name("se.conv_reduce"), None, [narrow, inside, 1, 1]);
            add(&mut state, name("se.conv_expand"), None, [inside, narrow, 1, 1]);
            let last = if wider == 1 { "bn2" } else { "bn3" };
            add(&mut state, name(project), Some(name(last)), [outputs, inside, 1, 1]);
            inputs = outputs;
        }
    }
    add(&mut state, "conv_head".into(), Some("bn2".into()), [1280, 320, 1, 1]);
    state.push(("classifier.weight".into(), vec![1000, 1280]));
    state.push(("classifier.bias".into(), vec![1000]));
    state
}

/// Standard deviation of the expected values, and the largest difference from them.
pub fn spread_and_worst(found: &Tensor, expected: &Tensor) -> (f32, f32) {
    assert_eq!(found.dims(), expected.dims());
    let [found, expected] = [found, expected].map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    let mean = expected.iter().sum::<f32>() / expected.len() as f32;
    let spread = (expected.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / expected.len() as f32).sqrt();
    (spread, found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max))
}

fn assert_logits(network: Network, name: &str, side: usize) {
    let fixture = include_bytes!("../fixtures/networks.safetensors");
    let fixture = candle_core::safetensors::load_buffer(fixture, &device()).unwrap();
    let shape = [2, 3, side, side];
    let pixels: Vec<f32> = draw(1000, &shape).iter().map(|value| value * 2.0 - 1.0).collect();
    let x = Tensor::from_vec(pixels, &shape, &device()).unwrap();
    let model = network.input_shape((3, side, side)).classifier_activation(Linear).build().unwrap();
    let logits = model.predict(&x).unwrap().to_tensor().unwrap();
    let (spread, worst) = spread_and_worst(&logits, &fixture[&format!("{name}_{side}")]);
    println!("{name} at {side}: worst difference {worst}, {} of the spread {spread}", worst / spread);
    assert!(worst < 1e-3 * spread, "{name} at {side}: {worst} of {spread}");
}

#[test]
fn vgg16_matches_torchvision() {
    assert_logits(Vgg16::new(weights(&vgg16_state(false))), "vgg16", 224);
}

#[test]
fn vgg16_with_batch_normalisation_matches_torchvision() {
    assert_logits(Vgg16Bn::new(weights(&vgg16_state(true))), "vgg16_bn", 224);
}

#[test]
fn resnet50_matches_torchvision() {
    let weights = weights(&resnet50_state());
    assert_logits(ResNet50::new(weights.clone()), "resnet50", 224);
    assert_logits(ResNet50::new(weights), "resnet50", 96);
}

#[test]
fn efficientnet_b0_matches_timm() {
    assert_logits(EfficientNetB0::new(weights(&efficientnet_b0_state())), "efficientnet_b0", 96);
}

/// Compares every block of a network with PyTorch, at all sizes and with batches of one and three. It compares the
/// norm of the output and its product with random values.
fn assert_blocks(network: impl Fn() -> Network, name: &str, layers: &[String]) {
    let fixture = include_bytes!("../fixtures/networks.safetensors");
    let fixture = candle_core::safetensors::load_buffer(fixture, &device()).unwrap();
    let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
    let mut worst = 0f64;
    for side in [64, 160, 224] {
        let model = network().include_top(false).input_shape((3, side, side)).build().unwrap();
        for count in [1, 3] {
            let pixels: Vec<f32> =
                draw(1000, &[count, 3, side, side]).iter().map(|value| value * 2.0 - 1.0).collect();
            let x = Tensor::from_vec(pixels, (count, 3, side, side), &device()).unwrap();
            let found = model.outputs_of(&layers, &x).unwrap();
            let expected = fixture[&format!("{name}_{side}_{count}")].to_vec2::<f64>().unwrap();
            assert_eq!(found.len(), expected.len());
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                worst = worst.max(difference(found, 4000 + at as u64, expected));
            }
        }
    }
    println!("{name}: {} blocks, worst difference {worst:e} of a block's length", layers.len());
    assert!(worst < 1e-4, "{name}: {worst} of a block's length");
}

/// Difference from a tensor whose norm and product with random values are known, relative to the norm.
fn difference(found: &Tensor, seed: u64, expected: &[f64]) -> f64 {
    absolute_difference(found, seed, expected) / expected[0]
}

fn absolute_difference(found: &Tensor, seed: u64, expected: &[f64]) -> f64 {
    let values = found.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let length = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let drawn = draw(seed, found.dims());
    let product: f64 = values.iter().zip(drawn).map(|(a, b)| f64::from(*a) * (f64::from(b) - 0.5)).sum();
    (length - expected[0]).abs().max((product - expected[1]).abs())
}

#[test]
fn vgg16_blocks_match_torchvision() {
    let layers: Vec<String> = (1..=5).map(|block| format!("block{block}_pool")).collect();
    for (name, normalised) in [("vgg16", false), ("vgg16_bn", true)] {
        let weights = weights(&vgg16_state(normalised));
        let network = || if normalised { Vgg16Bn::new(weights.clone()) } else { Vgg16::new(weights.clone()) };
        assert_blocks(network, name, &layers);
    }
}

#[test]
fn resnet50_blocks_match_torchvision() {
    let stages = [3, 4, 6, 3].into_iter().zip(2..);
    let layers =
        stages.flat_map(|(blocks, stage)| (1..=blocks).map(move |n| format!("conv{stage}_block{n}_out")));
    let weights = weights(&resnet50_state());
    assert_blocks(|| ResNet50::new(weights.clone()), "resnet50", &layers.collect::<Vec<_>>());
}

#[test]
fn efficientnet_b0_blocks_match_timm() {
    let weights = weights(&efficientnet_b0_state());
    let mut layers = Vec::new();
    for (stage, blocks) in (1..).zip([1, 2, 2, 3, 3, 4, 1]) {
        for block in 0..blocks {
            // Repeated blocks end with a shortcut.
            let last = if block == 0 { "project_bn" } else { "add" };
            layers.push(format!("block{stage}{}_{last}", char::from(b'a' + block)));
        }
    }
    assert_blocks(|| EfficientNetB0::new(weights.clone()), "efficientnet_b0", &layers);
}

/// Gradients shorter than this fraction of the longest are compared with this fraction.
const MIN_RELATIVE_LENGTH: f64 = 1e-4;

/// Compares the gradient of each parameter, in PyTorch's order, with PyTorch in double precision: by its norm and the
/// product with random values. The tolerance is PyTorch's error in single precision. Batch normalisation is trainable.
fn assert_gradients(network: Network, name: &str, layers: &[String]) {
    let model = network.include_top(false).input_shape((3, 64, 64)).build().unwrap();
    let pixels: Vec<f32> = draw(1000, &[3, 3, 64, 64]).iter().map(|value| value * 2.0 - 1.0).collect();
    let x = Tensor::from_vec(pixels, (3, 3, 64, 64), &device()).unwrap();
    let features = model.forward(&x, Mode::Training).unwrap();
    let weight: Vec<f32> = draw(2000, features.dims()).iter().map(|value| value - 0.5).collect();
    let weight = Tensor::from_vec(weight, features.dims(), &device()).unwrap();
    let gradients = (features * weight).unwrap().sum_all().unwrap().backward().unwrap();
    let fixture = include_bytes!("../fixtures/networks.safetensors");
    let fixture = candle_core::safetensors::load_buffer(fixture, &device()).unwrap();
    let expected = fixture[&format!("{name}_gradients")].to_vec2::<f64>().unwrap();
    let params: Vec<_> = layers
        .iter()
        .flat_map(|layer| model.layer(layer).unwrap().params())
        .filter(|param| !param.is_statistic())
        .collect();
    assert_eq!(params.len(), expected.len());
    let least = MIN_RELATIVE_LENGTH * expected.iter().map(|expected| expected[0]).fold(0.0, f64::max);
    let mut worst = 0f64;
    for (at, (param, expected)) in params.iter().zip(&expected).enumerate() {
        let gradient = gradients.get(param.var()).unwrap();
        worst = worst.max(absolute_difference(gradient, 3000 + at as u64, expected) / expected[0].max(least));
    }
    let noise = fixture[&format!("{name}_noise")].to_vec1::<f64>().unwrap()[0];
    println!(
        "{name}: {} gradients, worst difference {worst:e} of a gradient's length; PyTorch's {noise:e}",
        params.len()
    );
    // PyTorch 2.11's own error on a GPU (H100, without TF32): 4.5e-3 for VGG16, 7.6e-3 for ResNet50, where another
    // order of summation flips a ReLU.
    let least = if device().is_cpu() { 1e-6 } else { 4.5e-3 };
    assert!(worst < 2.0 * noise.max(least), "{name}: {worst} of a gradient's length, PyTorch's {noise}");
}

#[test]
fn vgg16_gradients_match_pytorch() {
    let layers = |kinds: &[&str]| -> Vec<String> {
        let convolutions =
            (1..).zip([2, 2, 3, 3, 3]).flat_map(|(block, count)| (1..=count).map(move |n| (block, n)));
        convolutions
            .flat_map(|(block, n)| kinds.iter().map(move |kind| format!("block{block}_{kind}{n}")))
            .collect()
    };
    assert_gradients(Vgg16::new(weights(&vgg16_state(false))), "vgg16", &layers(&["conv"]));
    assert_gradients(Vgg16Bn::new(weights(&vgg16_state(true))), "vgg16_bn", &layers(&["conv", "bn"]));
}

#[test]
fn efficientnet_b0_gradients_match_pytorch() {
    let mut layers = vec!["stem_conv".to_owned(), "stem_bn".to_owned()];
    for (stage, blocks) in (1..).zip([1, 2, 2, 3, 3, 4, 1]) {
        for block in 0..blocks {
            let expands: &[&str] = if stage == 1 { &[] } else { &["expand_conv", "expand_bn"] };
            let rest = ["dwconv", "bn", "se_reduce", "se_expand", "project_conv", "project_bn"];
            let name = |part: &&str| format!("block{stage}{}_{part}", char::from(b'a' + block));
            layers.extend(expands.iter().chain(&rest).map(name));
        }
    }
    layers.extend(["top_conv", "top_bn"].map(String::from));
    assert_gradients(EfficientNetB0::new(weights(&efficientnet_b0_state())), "efficientnet_b0", &layers);
}

#[test]
fn resnet50_gradients_match_pytorch() {
    let mut layers = vec!["conv1_conv".to_owned(), "conv1_bn".to_owned()];
    for (stage, blocks) in [3, 4, 6, 3].into_iter().enumerate() {
        for block in 1..=blocks {
            let order: &[usize] = if block == 1 { &[1, 2, 3, 0] } else { &[1, 2, 3] };
            let names = order.iter().flat_map(|n| ["conv", "bn"].map(|kind| (n, kind)));
            layers.extend(names.map(|(n, kind)| format!("conv{}_block{block}_{n}_{kind}", stage + 2)));
        }
    }
    assert_gradients(ResNet50::new(weights(&resnet50_state())), "resnet50", &layers);
}

#[test]
fn parameter_counts_match_the_publications() {
    let count = |network: Network| network.build().unwrap().summary().weights;
    assert_eq!(count(Vgg16::new(Weights::Random(0))), 138_357_544);
    assert_eq!(count(Vgg16::new(Weights::Random(0)).include_top(false)), 14_714_688);
    assert_eq!(count(Vgg16Bn::new(Weights::Random(0))), 138_365_992);
    assert_eq!(count(ResNet50::new(Weights::Random(0))), 25_557_032);
    assert_eq!(count(EfficientNetB0::new(Weights::Random(0))), 5_288_548);
    // As in Keras's `summary()`, moving means and variances count as non-trainable. Keras's own ResNet50 has 26,560
    // more biases, in convolutions before a batch normalisation: 25,636,712.
    let summary = ResNet50::new(Weights::Random(0)).build().unwrap().summary();
    assert_eq!((summary.total + 26_560, summary.trainable), (25_636_712, 25_557_032));
    let text = summary.to_string();
    let expected = [
        "Total params: 25,610,152",
        "Trainable params: 25,557,032",
        "Non-trainable params: 53,120",
        "Of these, moving statistics: 53,120",
    ];
    assert!(text.ends_with(&expected.join("\n")), "{text}");
    let bn = summary.rows.iter().find(|row| row.name == "conv1_bn").unwrap();
    assert_eq!((bn.weights, bn.statistics, bn.state()), (128, 128, "trainable"));
}

#[test]
fn timm_names_are_accepted() {
    let mut state = vgg16_state(false);
    for (name, shape) in &mut state {
        for (torchvision, timm) in [
            ("classifier.0", "pre_logits.fc1"),
            ("classifier.3", "pre_logits.fc2"),
            ("classifier.6", "head.fc"),
        ] {
            *name = name.replace(torchvision, timm);
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
