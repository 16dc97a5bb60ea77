//! MobileNets loaded from Keras's files match Keras, layer by layer name. `tests/fixtures/keras_mobilenets.py` wrote the
//! files and the outputs of Keras.

use std::path::PathBuf;

use headstart::models::Network;
use headstart::prelude::*;

use crate::parity::{draw, spread_and_worst};

const CLASSES: usize = 10;
const NETWORKS: [(&str, &str, &str); 3] = [
    ("mobilenetv2", "mobilenetv2_100", "block_16_project_BN"),
    ("mobilenetv3small", "mobilenetv3_small_100", "expanded_conv_10_add"),
    ("mobilenetv3large", "mobilenetv3_large_100", "expanded_conv_14_add"),
];

fn fixture(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file)
}

fn known(name: &str) -> Tensor {
    let file = candle_core::safetensors::load(fixture("keras_mobilenets.safetensors"), &device()).unwrap();
    file[name].clone()
}

fn images(side: usize) -> Tensor {
    let shape = [3, 3, side, side];
    let pixels: Vec<f32> = draw(side as u64, &shape).iter().map(|value| value * 255.0).collect();
    Tensor::from_vec(pixels, &shape, &device()).unwrap()
}

fn network(file: &str, name: &str, side: usize) -> Network {
    let network = Network::named(name, Weights::file(fixture(file))).unwrap();
    network.alpha(0.1).input_shape((3, side, side)).classes(CLASSES)
}

fn assert_near(found: &Tensor, name: &str) {
    let (spread, worst) = spread_and_worst(found, &known(name));
    println!("{name}: worst difference {worst}, {} of the spread {spread}", worst / spread);
    assert!(worst < 1e-4 * spread, "{name}: {worst} of {spread}");
}

#[test]
fn mobilenets_match_keras_from_both_file_formats() -> HeadstartResult<()> {
    for (keras, name, block) in NETWORKS {
        let files = [format!("keras_{keras}.weights.h5"), format!("keras_{keras}.h5")];
        // One network has a file with names too; another one is inside a model in such a file.
        let count = if keras == "mobilenetv3small" { 2 } else { 1 };
        for file in &files[..count] {
            for side in [64, 80] {
                let whole = network(file, name, side).build()?;
                let x = whole.preprocess(&images(side))?;
                assert_near(&whole.forward(&x, Mode::Inference)?, &format!("{keras} {side} top"));
                let base = network(file, name, side).include_top(false).build()?;
                let last = base.layer_names().last().unwrap().to_owned();
                let found = base.outputs_of(&[block, &last], &x)?;
                assert_near(&found[0], &format!("{keras} {side} block"));
                assert_near(&found[1], &format!("{keras} {side} maps"));
            }
        }
    }
    Ok(())
}

/// Layers with weights have Keras's names, also in networks with the weights of timm.
#[test]
fn mobilenets_have_keras_layer_names() -> HeadstartResult<()> {
    for (keras, name, _) in NETWORKS {
        let names = String::from_utf8(known(&format!("{keras} names")).to_vec1()?).unwrap();
        let model = Network::named(name, Weights::Random(0))?.alpha(0.1).input_shape((3, 64, 64)).build()?;
        let rows = model.summary().rows;
        let found: Vec<&str> =
            rows.iter().filter(|row| row.weights > 0).map(|row| row.name.as_str()).collect();
        let mut sorted = [names.lines().collect::<Vec<_>>(), found];
        sorted.iter_mut().for_each(|names| names.sort_unstable());
        assert_eq!(sorted[0], sorted[1], "{name}");
    }
    Ok(())
}

#[test]
fn a_mobilenet_is_taken_from_a_model_around_it() -> HeadstartResult<()> {
    let base = network("keras_mobilenetv2_inside.h5", "mobilenetv2_100", 64).include_top(false).build()?;
    let x = base.preprocess(&images(64))?;
    assert_near(&base.forward(&x, Mode::Inference)?, "mobilenetv2 inside");
    Ok(())
}

#[test]
fn another_number_of_classes_is_an_error_with_a_hint() {
    for file in ["keras_mobilenetv3small.h5", "keras_mobilenetv3small.weights.h5"] {
        let network = network(file, "mobilenetv3_small_100", 64).classes(7).build();
        let problem = network.unwrap_err().to_string();
        assert!(problem.contains(".classes(10)"), "{problem}");
    }
}
