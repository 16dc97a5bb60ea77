//! Networks loaded from Keras's files match Keras. `tests/fixtures/keras_files.py` wrote the files and the outputs of
//! Keras.

use std::path::PathBuf;

use headstart::models::{Network, Preprocessing};
use headstart::prelude::*;

use crate::parity::{draw, spread_and_worst};

const ALPHA: f64 = 1.0 / 32.0;

fn fixture(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file)
}

fn images() -> Tensor {
    let pixels: Vec<f32> = draw(1000, &[2, 3, 64, 64]).iter().map(|value| value * 2.0 - 1.0).collect();
    Tensor::from_vec(pixels, (2, 3, 64, 64), &device()).unwrap()
}

/// The output of Keras.
fn keras_output(name: &str) -> Tensor {
    let file = candle_core::safetensors::load(fixture("keras_files.safetensors"), &device()).unwrap();
    file[name].clone()
}

fn assert_kerass(found: &Tensor, name: &str) {
    assert_near(found, &keras_output(name), name);
}

fn assert_near(found: &Tensor, expected: &Tensor, name: &str) {
    let (spread, worst) = spread_and_worst(found, expected);
    println!("{name}: worst difference {worst}, {} of the spread {spread}", worst / spread);
    assert!(worst < 1e-4 * spread, "{name}: {worst} of {spread}");
}

fn small(network: Network) -> Network {
    network.alpha(ALPHA).input_shape((3, 64, 64))
}

/// Compares each network from Keras's file for three images of each size and for the first image alone, with and
/// without its top. VGG16's top requires one size.
#[test]
fn networks_match_keras_at_every_size() {
    type Row = (&'static str, &'static str, fn(Weights) -> Network, f64, &'static [usize], &'static [usize]);
    let table: [Row; 4] = [
        ("vgg16", "keras_vgg16.h5", Vgg16::new, ALPHA, &[64, 160, 224], &[64]),
        ("vgg16", "keras_vgg16_224.h5", Vgg16::new, ALPHA, &[], &[224]),
        ("resnet50", "keras_resnet50.h5", ResNet50::new, ALPHA, &[64, 160, 224], &[64, 160, 224]),
        (
            "efficientnetb0",
            "keras_efficientnetb0.h5",
            EfficientNetB0::new,
            1.0 / 16.0,
            &[64, 160, 224],
            &[64, 160, 224],
        ),
    ];
    for (name, file, network, alpha, without_top, with_top) in table {
        let with = |side, top| {
            let network = network(Weights::file(fixture(file))).alpha(alpha).input_shape((3, side, side));
            network.include_top(top).classes(10).build().unwrap()
        };
        let runs =
            without_top.iter().map(|side| (*side, false)).chain(with_top.iter().map(|side| (*side, true)));
        for (side, top) in runs {
            let model = with(side, top);
            let bytes: Vec<f32> = draw(side as u64, &[3, 3, side, side]);
            let even = Tensor::from_vec(bytes, (3, 3, side, side), &device()).unwrap();
            let x = match name {
                "efficientnetb0" => model.preprocess(&(even * 255.0).unwrap()).unwrap(),
                _ => even.affine(2.0, -1.0).unwrap(),
            };
            let what = format!("{name} {side} {}", if top { "top" } else { "maps" });
            assert_kerass(&model.forward(&x, Mode::Inference).unwrap(), &what);
            let alone = model.forward(&x.i(..1).unwrap(), Mode::Inference).unwrap();
            let expected = keras_output(&what).i(..1).unwrap();
            assert_near(&alone, &expected, &format!("{what}, one image"));
        }
    }
}

#[test]
fn vgg16_preprocessing_matches_keras() {
    let network = small(Vgg16::new(Weights::file(fixture("keras_vgg16.h5")))).classes(10).build().unwrap();
    assert_eq!(
        network.preprocess(&images()).unwrap().first_image(),
        Preprocessing::CAFFE.apply(&images()).unwrap().first_image()
    );
}

trait FirstImage {
    fn first_image(&self) -> Vec<Vec<Vec<f32>>>;
}

impl FirstImage for Tensor {
    fn first_image(&self) -> Vec<Vec<Vec<f32>>> {
        self.i(0).unwrap().to_vec3().unwrap()
    }
}

#[test]
fn resnet50_matches_keras_from_both_file_formats() {
    let blocks = ["conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"];
    for file in ["keras_resnet50.h5", "keras_resnet50.weights.h5"] {
        let weights = Weights::file(fixture(file));
        let network = small(ResNet50::new(weights)).include_top(false).build().unwrap();
        for (name, maps) in blocks.iter().zip(network.outputs_of(&blocks, &images()).unwrap()) {
            assert_kerass(&maps, &format!("resnet50 {name}"));
        }
    }
}

#[test]
fn efficientnet_b0_matches_keras_from_both_file_formats() {
    let blocks = ["block2b_add", "block4c_add", "block6d_add", "top_activation"];
    let bytes: Vec<f32> = draw(1000, &[2, 3, 64, 64]).iter().map(|value| value * 255.0).collect();
    let images = Tensor::from_vec(bytes, (2, 3, 64, 64), &device()).unwrap();
    for file in ["keras_efficientnetb0.h5", "keras_efficientnetb0.weights.h5"] {
        let network = EfficientNetB0::new(Weights::file(fixture(file))).alpha(1.0 / 16.0);
        let network = network.input_shape((3, 64, 64)).include_top(false).build().unwrap();
        // Preprocessed with the file's mean and variance.
        let prepared = network.preprocess(&images).unwrap();
        for (name, maps) in blocks.iter().zip(network.outputs_of(&blocks, &prepared).unwrap()) {
            assert_kerass(&maps, &format!("efficientnetb0 {name}"));
        }
    }
}

#[test]
fn models_trained_in_keras_give_the_same_outputs() {
    let base = small(Vgg16::new(Weights::Random(0))).include_top(false).build().unwrap();
    let dense = Dense::new(8).activation(Relu);
    let model =
        sequential![&base, Flatten, dense, Dropout::new(0.5), Dense::new(1).activation(Sigmoid)].unwrap();
    model.load_weights(fixture("keras_transfer.weights.h5")).unwrap();
    assert_kerass(&model.predict(&images()).unwrap().to_tensor().unwrap(), "transfer");
}

#[test]
fn files_of_another_network_are_rejected_with_the_tensors() {
    let weights = Weights::file(fixture("keras_resnet50.h5"));
    let problem = small(Vgg16::new(weights)).include_top(false).build().unwrap_err().to_string();
    assert!(problem.contains("block1_conv1") && problem.contains("expected shape [2, 3, 3, 3]"), "{problem}");
    let weights = Weights::file(fixture("keras_resnet50.weights.h5"));
    let network = ResNet50::new(weights).input_shape((3, 64, 64)).include_top(false);
    let problem = network.build().unwrap_err().to_string();
    assert!(problem.contains("found [2, 3, 7, 7]"), "{problem}");
}
