//! Outputs and gradients of one network of each family match timm's (`tests/fixtures/families.py`), and the numbers of
//! weights of all networks.

use std::collections::HashMap;
use std::path::Path;

use headstart::models::{Network, models};
use headstart::prelude::*;

use super::parity::{draw, spread_and_worst, weights};

/// Smallest norm, relative to the largest one, by which the error of a gradient is divided.
const MIN_RELATIVE_LENGTH: f64 = 1e-4;

struct Known {
    name: &'static str,
    fixture: HashMap<String, Tensor>,
    /// Names and shapes of the tensors.
    state: Vec<(String, Vec<usize>)>,
}

impl Known {
    fn new(name: &'static str) -> Known {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/families.safetensors");
        let fixture = candle_core::safetensors::load(path, &device()).unwrap();
        let mut known = Known { name, fixture, state: Vec::new() };
        let line = |line: &str| {
            let mut words = line.split(' ');
            (words.next().unwrap().to_owned(), words.map(|size| size.parse().unwrap()).collect())
        };
        known.state = known.text("state").lines().map(line).collect();
        known
    }

    fn part(&self, part: &str) -> &Tensor {
        &self.fixture[&format!("{}.{part}", self.name)]
    }

    fn text(&self, part: &str) -> String {
        String::from_utf8(self.part(part).to_vec1().unwrap()).unwrap()
    }

    /// The network with the random weights. Position embeddings depend on the side of the images.
    fn network(&self, side: usize) -> Network {
        let mut state = self.state.clone();
        if let Some((_, shape)) = state.iter_mut().find(|(name, _)| name == "pos_embed") {
            let (patch, first) = if self.name.contains("patch14") { (14, 56) } else { (16, 64) };
            let patches = |side: usize| (side / patch) * (side / patch);
            shape[1] = shape[1] - patches(first) + patches(side);
        }
        Network::named(self.name, self.drawn(&state)).unwrap().input_shape((3, side, side))
    }

    /// The random weights. Kernels of some networks are halved: otherwise their outputs grow from block to block,
    /// and a rounding error changes a factor of squeeze and excitation.
    fn drawn(&self, state: &[(String, Vec<usize>)]) -> Weights {
        let Weights::Tensors(mut tensors) = weights(state) else { unreachable!() };
        if ["tf_efficientnetv2_s", "regnety_016"].contains(&self.name) {
            for tensor in tensors.values_mut().filter(|tensor| tensor.rank() > 1) {
                *tensor = (&*tensor / 2.0).unwrap();
            }
        }
        Weights::Tensors(tensors)
    }

    fn has_top(&self) -> bool {
        !self.name.contains("dinov2")
    }

    fn sides(&self) -> [usize; 2] {
        if self.name.contains("patch14") { [56, 84] } else { [64, 96] }
    }

    fn check(&self, blocks: &[String]) {
        self.check_blocks(blocks);
        self.check_logits();
        self.check_gradients();
    }

    fn check_logits(&self) {
        for side in self.sides() {
            let network = self.network(side).classifier_activation(Linear);
            let network =
                if self.has_top() { network } else { network.include_top(false).pooling(Pooling::Token) };
            let found = network.build().unwrap().predict(&pixels(2, side)).unwrap().to_tensor().unwrap();
            let expected = self.part(&format!("logits_{side}"));
            let found = found.narrow(1, 0, expected.dim(1).unwrap()).unwrap().contiguous().unwrap();
            let (spread, worst) = spread_and_worst(&found, expected);
            println!("{} at {side}: worst difference {} of the spread", self.name, worst / spread);
            assert!(worst < 1e-3 * spread, "{} at {side}: {worst} of {spread}", self.name);
        }
    }

    fn check_blocks(&self, blocks: &[String]) {
        let layers: Vec<&str> = blocks.iter().map(String::as_str).collect();
        let mut worst = 0f64;
        for side in self.sides() {
            let model = self.network(side).include_top(false).build().unwrap();
            for count in [1, 3] {
                let found = model.outputs_of(&layers, &pixels(count, side)).unwrap();
                let expected = self.part(&format!("blocks_{side}_{count}")).to_vec2::<f64>().unwrap();
                assert_eq!(found.len(), expected.len());
                for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let far = difference(found, 4000 + at as u64, expected) / expected[0];
                    assert!(far < 1e-4, "{}: {far} of the length of {} at {side}", self.name, layers[at]);
                    worst = worst.max(far);
                }
            }
        }
        println!("{}: {} blocks, worst difference {worst:e} of a block's length", self.name, blocks.len());
    }

    fn check_gradients(&self) {
        let side = self.sides()[0];
        let model = self.network(side).include_top(false).build().unwrap();
        let names = self.text("parameters");
        let expected = self.part("gradients").to_vec2::<f64>().unwrap();
        let (_, found) = value_and_gradients(|| {
            let features = model.forward(&pixels(3, side), Mode::Training)?;
            let weight: Vec<f32> = draw(2000, features.dims()).iter().map(|value| value - 0.5).collect();
            Ok((&features * Tensor::from_vec(weight, features.shape(), &device())?)?.sum_all()?)
        })
        .unwrap();
        let longest = expected.iter().map(|expected| expected[0]).fold(0.0, f64::max);
        let params: Vec<_> = model.params().into_iter().filter(|param| !param.is_statistic()).collect();
        assert_eq!(params.len(), names.lines().count(), "{}", self.name);
        let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        // Each parameter is recognised by its random values.
        let drawn = match self.drawn(&self.state) {
            Weights::Tensors(tensors) => tensors,
            _ => unreachable!(),
        };
        let known: Vec<Vec<f32>> = params.iter().map(|param| values(&param.value(Mode::Inference))).collect();
        let mut worst = (0f64, "");
        for (at, (name, expected)) in names.lines().zip(&expected).enumerate() {
            let value = values(&drawn[name]);
            let place = known.iter().position(|known| *known == value).unwrap_or_else(|| panic!("{name}"));
            let gradient = found.get(params[place].var()).unwrap().reshape(drawn[name].shape()).unwrap();
            let far = difference(&gradient, 3000 + at as u64, expected)
                / expected[0].max(MIN_RELATIVE_LENGTH * longest);
            if std::env::var_os("ALL").is_some() {
                println!("{name} {far:e}");
            }
            if far > worst.0 || far.is_nan() {
                worst = (far, name);
            }
        }
        let noise = self.part("noise").to_vec1::<f64>().unwrap()[0];
        println!("{}: gradients off by {:e} in {}; PyTorch's by {noise:e}", self.name, worst.0, worst.1);
        let least = if device().is_cpu() { 1e-6 } else { 4.5e-3 };
        assert!(worst.0 < 2.0 * noise.max(least), "{}: {worst:?}, PyTorch's {noise}", self.name);
    }
}

/// Zeros with the names of ResNet18's tensors.
pub fn resnet18_state(classes: usize) -> Vec<(String, Tensor)> {
    let resize = |(name, mut shape): (String, Vec<usize>)| {
        if name.starts_with("fc.") {
            shape[0] = classes;
        }
        (name, Tensor::zeros(shape, DType::F32, &device()).unwrap())
    };
    Known::new("resnet18").state.into_iter().map(resize).collect()
}

fn pixels(count: usize, side: usize) -> Tensor {
    let shape = [count, 3, side, side];
    let values: Vec<f32> = draw(1000, &shape).iter().map(|value| value * 2.0 - 1.0).collect();
    Tensor::from_vec(values, &shape, &device()).unwrap()
}

/// Difference from a tensor whose norm and product with random values are known.
fn difference(found: &Tensor, seed: u64, expected: &[f64]) -> f64 {
    let values = found.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let length = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let drawn = draw(seed, found.dims());
    let product: f64 = values.iter().zip(drawn).map(|(a, b)| f64::from(*a) * (f64::from(b) - 0.5)).sum();
    (length - expected[0]).abs().max((product - expected[1]).abs())
}

/// The last layers of inverted residual blocks: for each stage, the number of blocks, and those with a shortcut in the
/// first block.
fn inverted(stages: &[usize], first_with_shortcut: &[usize]) -> Vec<String> {
    let mut layers = Vec::new();
    for (stage, blocks) in (1..).zip(stages) {
        for block in 0..*blocks {
            let shortcut = block > 0 || first_with_shortcut.contains(&stage);
            let last = if shortcut { "add" } else { "project_bn" };
            layers.push(format!("block{stage}{}_{last}", char::from(b'a' + block as u8)));
        }
    }
    layers
}

fn numbered(stages: &[usize], name: impl Fn(usize, usize) -> String) -> Vec<String> {
    (0..)
        .zip(stages)
        .flat_map(|(stage, blocks)| (0..*blocks).map(move |n| (stage, n)))
        .map(|(s, n)| name(s, n))
        .collect()
}

#[test]
fn resnet18_matches_timm() {
    Known::new("resnet18").check(&numbered(&[2; 4], |s, n| format!("conv{}_block{}_out", s + 2, n + 1)));
}

/// The last layers of MobileNet's blocks: `prefix` names the blocks after the first, `with_shortcut` are the numbers of
/// those with a shortcut.
fn mobile(prefix: &str, norm: &str, blocks: usize, with_shortcut: &[usize]) -> Vec<String> {
    let last = |block: &usize| if with_shortcut.contains(block) { "add" } else { norm };
    let name = |block: usize| match block {
        0 => format!("expanded_conv_{}", last(&block)),
        _ => format!("{prefix}_{block}_{}", last(&block)),
    };
    (0..blocks).map(name).collect()
}

#[test]
fn mobilenet_v2_matches_timm() {
    let shortcuts = [2, 4, 5, 7, 8, 9, 11, 12, 14, 15];
    Known::new("mobilenetv2_100").check(&mobile("block", "project_BN", 17, &shortcuts));
}

#[test]
fn mobilenet_v3_matches_timm() {
    let of = |blocks, shortcuts: &[usize]| {
        let mut layers = mobile("expanded_conv", "project_bn", blocks, shortcuts);
        layers.push("conv_1_activation".into());
        layers
    };
    Known::new("mobilenetv3_small_100").check(&of(11, &[2, 4, 5, 7, 9, 10]));
    Known::new("mobilenetv3_large_100").check(&of(15, &[0, 2, 4, 5, 7, 8, 9, 11, 13, 14]));
}

#[test]
fn efficientnet_b2_matches_timm() {
    Known::new("efficientnet_b2").check(&inverted(&[2, 3, 3, 4, 4, 5, 2], &[]));
}

#[test]
fn efficientnet_v2_matches_timm() {
    Known::new("tf_efficientnetv2_s").check(&inverted(&[2, 4, 4, 6, 9, 15], &[1]));
}

#[test]
fn convnexts_match_timm() {
    let blocks = numbered(&[2, 2, 6, 2], |s, n| format!("stage_{s}_block_{n}_add"));
    Known::new("convnext_atto").check(&blocks);
    Known::new("convnextv2_atto").check(&blocks);
}

#[test]
fn regnets_match_timm() {
    let blocks = |depths: &[usize]| numbered(depths, |s, n| format!("stage{}_block{}_out", s + 1, n + 1));
    Known::new("regnety_002").check(&blocks(&[1, 1, 4, 7]));
    Known::new("regnety_016").check(&blocks(&[2, 6, 17, 2]));
}

#[test]
fn densenet121_matches_timm() {
    let ends = [(2, 6), (3, 12), (4, 24), (5, 16)];
    Known::new("densenet121").check(&ends.map(|(block, layer)| format!("conv{block}_block{layer}_concat")));
}

#[test]
fn vision_transformers_match_timm() {
    let blocks: Vec<String> = (1..=12).map(|block| format!("block{block}_mlp_add")).collect();
    for name in ["vit_tiny_patch16_224", "deit3_small_patch16_224", "vit_small_patch14_dinov2"] {
        Known::new(name).check(&blocks);
    }
}

#[test]
fn position_embeddings_are_interpolated_as_in_timm() {
    let known = Known::new("vit_tiny_patch16_224");
    let embeddings = Tensor::from_vec(draw(5000, &[1, 17, 6]), (17, 6), &device()).unwrap();
    // The first six features of the embeddings; all others are zeros.
    let embeddings = embeddings.pad_with_zeros(1, 0, 186).unwrap().unsqueeze(0).unwrap();
    for grid in [(7, 7), (3, 3), (2, 6)] {
        let Weights::Tensors(mut tensors) = weights(&known.state) else { unreachable!() };
        tensors.insert("pos_embed".into(), embeddings.clone());
        let network = Network::named(known.name, Weights::Tensors(tensors)).unwrap();
        let model = network.input_shape((3, grid.0 * 16, grid.1 * 16)).build().unwrap();
        let found = model.layer("position_embedding").unwrap().params()[0].value(Mode::Inference);
        let expected = known.fixture[&format!("positions.{}x{}", grid.0, grid.1)].squeeze(0).unwrap();
        let (_, worst) = spread_and_worst(&found.narrow(1, 0, 6).unwrap().contiguous().unwrap(), &expected);
        assert!(worst < 1e-6, "{grid:?}: {worst}");
    }
    let Weights::Tensors(mut tensors) = weights(&known.state) else { unreachable!() };
    tensors.insert("pos_embed".into(), Tensor::zeros((1, 16, 192), DType::F32, &device()).unwrap());
    let error =
        Network::named(known.name, Weights::Tensors(tensors)).unwrap().build().unwrap_err().to_string();
    assert!(error.contains("square grid") && error.contains("[1, 16, 192]"), "{error}");
}

#[test]
fn numbers_of_weights_match_timm() {
    for model in models().iter() {
        let network = Network::named(&model.name, Weights::Random(0)).unwrap();
        // DINOv2's weights have no top.
        let network = network.include_top(!model.name.contains("dinov2"));
        assert_eq!(network.build().unwrap().summary().weights, model.parameters, "{}", model.name);
    }
}

#[test]
fn the_table_lists_every_network() {
    let names: Vec<&str> = models().iter().map(|model| model.name.as_str()).collect();
    let error = Network::named("convnext_giant", Weights::Random(0)).unwrap_err().to_string();
    for name in &names {
        assert!(error.contains(name), "{name} is not in: {error}");
    }
    assert_eq!(error.matches(", ").count() + 1, names.len() + 1, "{error}");
    assert!(models().get("convnext_giant").is_err());
    assert_eq!(models()["ConvNeXtTiny"].name, "convnext_tiny");
    let text = models().to_string();
    assert!(
        text.contains("convnext_tiny") && text.contains("84.4") && text.lines().count() == names.len() + 1
    );
    let html = &models().bundle()[0];
    assert!(html.0 == "text/html" && html.1.matches("<tr>").count() == names.len() + 1);
}

#[test]
fn unsuitable_configurations_are_refused() {
    let named = |name: &str| Network::named(name, Weights::Random(0)).unwrap();
    for (network, expected) in [
        (named("vit_tiny_patch16_224").input_shape((3, 60, 64)), "multiples of a patch, 16"),
        (named("vit_tiny_patch16_224").alpha(0.5), "multiple of 64 features"),
        (named("vit_tiny_patch16_224").include_top(false).pooling(Pooling::Max), "Avg or Token"),
        (named("resnet18").include_top(false).pooling(Pooling::Token), "Avg or Max"),
        (named("resnet18").drop_connect_rate(0.1), "drop_connect_rate"),
        (named("convnext_atto").drop_connect_rate(1.5), "rate"),
    ] {
        let error = network.build().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_documented_table_has_every_network() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let documented: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let rows: Vec<String> = models()
        .iter()
        .map(|model| {
            let keras = model.keras.as_ref().map_or(String::new(), |name| format!("`{name}`"));
            let top1 = model.top1.zip(model.top1_side);
            let top1 = top1.map_or("–".to_owned(), |(top1, side)| format!("{top1:.1} at {side}"));
            format!(
                "| `{}` | {keras} | {:.1} | {} | {top1} | {} | [{repository}](https://huggingface.co/{repository}) |",
                model.name,
                model.parameters as f64 / 1e6,
                model.side,
                model.licence,
                repository = model.repository
            )
        })
        .collect();
    assert_eq!(documented.len(), rows.len());
    for (documented, row) in documented.iter().zip(&rows) {
        assert_eq!(documented, row);
    }
}
