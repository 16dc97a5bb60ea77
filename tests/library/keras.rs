//! Keras's files are read, and the networks then do what Keras's do: `tests/fixtures/keras_files.py`
//! wrote the files, and what Keras made of them.

use std::path::PathBuf;

use headstart::models::{Network, Preprocessing};
use headstart::prelude::*;

use crate::parity::{draw, spread_and_worst};

const NARROWER: f64 = 1.0 / 32.0;

fn fixture(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file)
}

fn pictures() -> Tensor {
    let pixels: Vec<f32> = draw(1000, &[2, 3, 64, 64]).iter().map(|value| value * 2.0 - 1.0).collect();
    Tensor::from_vec(pixels, (2, 3, 64, 64), &device()).unwrap()
}

fn assert_kerass(found: &Tensor, name: &str) {
    let expected = candle_core::safetensors::load(fixture("keras_files.safetensors"), &device()).unwrap();
    let (spread, worst) = spread_and_worst(found, &expected[name]);
    println!("{name}: worst difference {worst}, {} of the spread {spread}", worst / spread);
    assert!(worst < 1e-4 * spread, "{name}: {worst} of {spread}");
}

fn small(network: Network) -> Network {
    network.alpha(NARROWER).input_shape((3, 64, 64))
}

#[test]
fn vgg16_with_its_top_is_what_keras_runs() {
    let network = small(Vgg16::new(Weights::file(fixture("keras_vgg16.h5")))).classes(10).build().unwrap();
    assert_kerass(&network.predict(&pictures()).unwrap().to_tensor().unwrap(), "vgg16");
    assert_eq!(
        network.preprocess(&pictures()).unwrap().first_picture(),
        Preprocessing::CAFFE.apply(&pictures()).unwrap().first_picture()
    );
    // The same file serves the network without its top.
    small(Vgg16::new(Weights::file(fixture("keras_vgg16.h5")))).include_top(false).build().unwrap();
}

trait FirstPicture {
    fn first_picture(&self) -> Vec<Vec<Vec<f32>>>;
}

impl FirstPicture for Tensor {
    fn first_picture(&self) -> Vec<Vec<Vec<f32>>> {
        self.i(0).unwrap().to_vec3().unwrap()
    }
}

#[test]
fn resnet50_is_what_keras_runs_from_either_form_of_file() {
    let blocks = ["conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"];
    for file in ["keras_resnet50.h5", "keras_resnet50.weights.h5"] {
        let weights = Weights::file(fixture(file));
        let network = small(ResNet50::new(weights)).include_top(false).build().unwrap();
        for (name, maps) in blocks.iter().zip(network.outputs_of(&blocks, &pictures()).unwrap()) {
            assert_kerass(&maps, &format!("resnet50 {name}"));
        }
    }
}

#[test]
fn efficientnet_b0_is_what_keras_runs_from_either_form_of_file() {
    let blocks = ["block2b_add", "block4c_add", "block6d_add", "top_activation"];
    let bytes: Vec<f32> = draw(1000, &[2, 3, 64, 64]).iter().map(|value| value * 255.0).collect();
    let pictures = Tensor::from_vec(bytes, (2, 3, 64, 64), &device()).unwrap();
    for file in ["keras_efficientnetb0.h5", "keras_efficientnetb0.weights.h5"] {
        let network = EfficientNetB0::new(Weights::file(fixture(file))).alpha(1.0 / 16.0);
        let network = network.input_shape((3, 64, 64)).include_top(false).build().unwrap();
        // The file's own mean and variance.
        let prepared = network.preprocess(&pictures).unwrap();
        for (name, maps) in blocks.iter().zip(network.outputs_of(&blocks, &prepared).unwrap()) {
            assert_kerass(&maps, &format!("efficientnetb0 {name}"));
        }
    }
}

#[test]
fn a_model_that_keras_trained_goes_on_here() {
    let base = small(Vgg16::new(Weights::Random(0))).include_top(false).build().unwrap();
    let dense = Dense::new(8).activation(Relu);
    let model =
        sequential![&base, Flatten, dense, Dropout::new(0.5), Dense::new(1).activation(Sigmoid)].unwrap();
    model.load_weights(fixture("keras_transfer.weights.h5")).unwrap();
    assert_kerass(&model.predict(&pictures()).unwrap().to_tensor().unwrap(), "transfer");
}

#[test]
fn another_networks_file_is_refused_with_the_tensors() {
    let weights = Weights::file(fixture("keras_resnet50.h5"));
    let problem = small(Vgg16::new(weights)).include_top(false).build().unwrap_err().to_string();
    assert!(problem.contains("block1_conv1") && problem.contains("expected shape [2, 3, 3, 3]"), "{problem}");
    let weights = Weights::file(fixture("keras_resnet50.weights.h5"));
    let network = ResNet50::new(weights).input_shape((3, 64, 64)).include_top(false);
    let problem = network.build().unwrap_err().to_string();
    assert!(problem.contains("found [2, 3, 7, 7]"), "{problem}");
}
