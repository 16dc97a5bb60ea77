//! Layers after `Flatten` load from Keras's files in the right order. `tests/fixtures/keras_flattened.py` wrote the
//! files and the outputs of Keras's models.

use std::path::PathBuf;

use headstart::Result;
use headstart::prelude::*;

const INPUT: (usize, usize, usize) = (3, 4, 5);
/// Number of values of the flattened convolution.
const FLAT_LEN: usize = 12;

fn fixture(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file)
}

fn model(name: &str) -> Result<Model> {
    let (conv, norm, head) = (Conv2D::new(2, 3), BatchNormalization::default(), Dense::new(3));
    match name {
        "norm" => sequential![Input::new(INPUT), conv, Flatten, norm, head],
        "activation" => sequential![Input::new(INPUT), conv, Flatten, Activation::Tanh, head],
        "all" => {
            sequential![Input::new(INPUT), conv, Flatten, Dropout::new(0.5), norm, Activation::Relu, head]
        }
        "permuted" => sequential![Input::new(INPUT), conv, Permute::new(&[2, 3, 1]), Flatten, norm, head],
        "permuted_twice" => {
            let [last, first] = [[2, 3, 1], [3, 1, 2]].map(|dims| Permute::new(&dims));
            sequential![Input::new(INPUT), conv, last, first, Flatten, norm, head]
        }
        "reshape" => sequential![Input::new(INPUT), conv, Reshape::new(FLAT_LEN), norm, head],
        "inside" => sequential![sequential![Input::new(INPUT), conv, Flatten]?, norm, head],
        _ => sequential![Input::new(INPUT), conv, Flatten, sequential![Input::new(FLAT_LEN), norm, head]?],
    }
}

#[test]
fn layers_after_flatten_load_in_keras_order() -> Result<()> {
    let known = candle_core::safetensors::load(fixture("keras_flattened.safetensors"), &device())?;
    let all = ["norm", "activation", "all", "reshape", "inside", "head_inside", "permuted", "permuted_twice"];
    for name in all {
        // Keras's model has no permutations.
        let of_keras = if name.starts_with("permuted") { "norm" } else { name };
        let expected = known[of_keras].to_vec2::<f32>()?.concat();
        for form in ["h5", "weights.h5"] {
            let model = model(name)?;
            model.load_weights(fixture(&format!("keras_flattened_{of_keras}.{form}")))?;
            let found = model.predict(&known["x"])?.to_tensor()?.to_vec2::<f32>()?.concat();
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{name}.{form}: {worst} from Keras's {expected:?}");
        }
    }
    Ok(())
}

#[test]
fn orders_that_cannot_be_converted_are_rejected() -> Result<()> {
    let file = fixture("keras_flattened_norm.weights.h5");
    let (conv, norm, head) = (Conv2D::new(2, 3), BatchNormalization::default(), Dense::new(3));
    let reshaped = sequential![Input::new(INPUT), conv, Reshape::new((6, 2)), Flatten, norm, head]?;
    let problem = reshaped.load_weights(&file).unwrap_err().to_string();
    assert!(problem.contains("`reshape` reshapes feature maps"), "{problem}");
    let permute = Permute::new(&[3, 2, 1]);
    let permuted = sequential![Input::new(INPUT), Conv2D::new(2, 3), permute, Flatten, Dense::new(3)]?;
    let problem = permuted.load_weights(&file).unwrap_err().to_string();
    assert!(problem.contains("permuted by [3, 2, 1]"), "{problem}");
    let mut builder = ModelBuilder::new("joined", &[3, 4, 5])?;
    let input = builder.input();
    let conv = builder.add("conv2d", Conv2D::new(2, 3), &[input])?;
    let flat = builder.add("flatten", Flatten, &[conv])?;
    let pooled = builder.add("pooled", GlobalAveragePooling2D, &[conv])?;
    let wide = builder.add("dense", Dense::new(FLAT_LEN), &[pooled])?;
    let sum = builder.add("add", Add, &[flat, wide])?;
    let last = builder.add("dense_1", Dense::new(3), &[sum])?;
    let problem = builder.finish(last)?.load_weights(&file).unwrap_err().to_string();
    assert!(problem.contains("`add` joins flattened feature maps and other numbers"), "{problem}");
    Ok(())
}
