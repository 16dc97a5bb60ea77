//! Weight files of Keras: HDF5 in two forms, converted to a model's names and layout.
//!
//! Keras is channels last. Convolution kernels are `[height, width, inputs, outputs]`. A dense layer after
//! `Flatten` has its inputs in the order height, width, channels. Files of `model.save("m.h5")` and of
//! `keras.applications` name every layer. Files of `save_weights("m.weights.h5")` number them per type, in the
//! order of Keras's `model.layers` (`keras/src/saving/saving_lib.py`).

use std::collections::{HashMap, HashSet};
use std::path::Path;

use candle_core::{Device, Tensor, bail};
use hdf5_reader::group::Group;
use hdf5_reader::messages::datatype::Datatype;
use hdf5_reader::{Dataset, Hdf5File, OpenOptions};

use super::flattened::{FlattenedShape, flattened_inputs};
use super::zip::Archive;
use crate::nn::{LayerConfig, Model, Node, Param, Preprocessing};
use crate::{Error, Result};

/// The first eight bytes of an HDF5 file.
pub(super) const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
/// Maximum ratio of the size of the datasets to the size of the file (16: weights are hardly ever compressed, so a
/// larger ratio indicates a damaged file).
const LARGEST_GROWTH: usize = 16;
/// Groups of a file that hold no weights.
const NOT_WEIGHTS: [&str; 4] =
    ["optimizer", "optimizer_weights", "top_level_model_weights", "seed_generator"];

/// Entry of the weights in a `.keras` archive.
const WEIGHTS_ENTRY: &str = "model.weights.h5";

/// An open weight file of Keras.
pub(super) struct KerasFile {
    file: Hdf5File,
    /// Maximum size of all its datasets, in bytes.
    budget: usize,
}

impl KerasFile {
    /// Opens a `.h5` file.
    pub(super) fn open(path: &Path) -> candle_core::Result<KerasFile> {
        let (budget, options) = limits(path)?;
        let file = Hdf5File::open_with_options(path, options).map_err(candle_core::Error::wrap)?;
        Ok(KerasFile { file, budget })
    }

    /// Opens the weights in a `.keras` archive of `model.save`; `None` if it is another archive.
    pub(super) fn in_archive(path: &Path, archive: &Archive) -> candle_core::Result<Option<KerasFile>> {
        if !archive.names().any(|name| name == WEIGHTS_ENTRY) {
            return Ok(None);
        }
        let (budget, options) = limits(path)?;
        let file = Hdf5File::from_vec_with_options(archive.read(WEIGHTS_ENTRY)?, options);
        Ok(Some(KerasFile { file: file.map_err(candle_core::Error::wrap)?, budget }))
    }

    /// All weights by their path in the file.
    pub(super) fn datasets(&self) -> candle_core::Result<HashMap<String, Tensor>> {
        self.floats(&|path| !path.split('/').any(|step| NOT_WEIGHTS.contains(&step)))
    }

    /// Preprocessing for a network whose first layers normalise images from 0 to 255: Keras's EfficientNet, which
    /// also divides them by 255.
    pub(super) fn preprocessing(&self) -> candle_core::Result<Option<Preprocessing>> {
        let found = self.floats(&|path| path.split('/').any(|step| step == "normalization"))?;
        let statistic = |named: &str, number: &str| {
            let known = |path: &str| {
                let last = path.rsplit('/').next().unwrap_or_default();
                last.split(':').next() == Some(named) || path.ends_with(&format!("/vars/{number}"))
            };
            let values =
                found.iter().find(|(path, _)| known(path))?.1.flatten_all().ok()?.to_vec1::<f32>().ok()?;
            <[f32; 3]>::try_from(values).ok()
        };
        let (mean, variance) = (statistic("mean", "0"), statistic("variance", "1"));
        Ok(mean.zip(variance).map(|(mean, variance)| normalization(mean, variance)))
    }

    /// The datasets of floats whose path is wanted.
    fn floats(&self, wanted: &dyn Fn(&str) -> bool) -> candle_core::Result<HashMap<String, Tensor>> {
        let (mut budget, mut found, mut seen) = (self.budget, HashMap::new(), HashSet::new());
        let root = self.file.root_group().map_err(candle_core::Error::wrap)?;
        collect(&root, "", wanted, &mut budget, &mut seen, &mut found)?;
        Ok(found)
    }
}

/// Maximum size of a file's datasets in bytes, as a number and as options of the reader.
fn limits(path: &Path) -> candle_core::Result<(usize, OpenOptions)> {
    let length = std::fs::metadata(path)?.len() as usize;
    let budget = length.saturating_mul(LARGEST_GROWTH);
    Ok((budget, OpenOptions { max_read_bytes: budget, max_chunk_bytes: budget, ..OpenOptions::default() }))
}

/// Preprocessing from the statistics of Keras's `Normalization` layer. Keras's own weights store ImageNet's standard
/// deviations as variances; its network divides by their square roots twice, so by the deviations.
fn normalization(mean: [f32; 3], variance: [f32; 3]) -> Preprocessing {
    let imagenet = [0.229f32, 0.224, 0.225];
    match variance.iter().zip(imagenet).all(|(found, deviation)| (found - deviation).abs() < 1e-3) {
        true => Preprocessing::standardize(mean, imagenet),
        false => Preprocessing::standardize(mean, variance.map(f32::sqrt)),
    }
}

fn collect(
    group: &Group,
    path: &str,
    wanted: &dyn Fn(&str) -> bool,
    budget: &mut usize,
    seen: &mut HashSet<u64>,
    found: &mut HashMap<String, Tensor>,
) -> candle_core::Result<()> {
    if !seen.insert(group.address()) {
        bail!("the group `{path}` contains itself");
    }
    let (groups, datasets) = group.members().map_err(candle_core::Error::wrap)?;
    for dataset in &datasets {
        let path = format!("{path}{}", dataset.name());
        if matches!(dataset.dtype(), Datatype::FloatingPoint { .. }) && wanted(&path) {
            let tensor = read(dataset, budget).map_err(|error| error.context(format!("`{path}`")))?;
            found.insert(path, tensor);
        }
    }
    groups.iter().try_for_each(|group| {
        collect(group, &format!("{path}{}/", group.name()), wanted, budget, seen, found)
    })
}

fn read(dataset: &Dataset, budget: &mut usize) -> candle_core::Result<Tensor> {
    let shape: Vec<usize> = dataset.shape().iter().map(|&size| size as usize).collect();
    let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
    let left = count.and_then(|count| count.checked_mul(4)).and_then(|bytes| budget.checked_sub(bytes));
    let Some(left) = left else { bail!("its shape {shape:?} is larger than its file") };
    *budget = left;
    let wrap = candle_core::Error::wrap;
    let values = match dataset.read_array::<f32>() {
        Ok(values) => values.into_raw_vec_and_offset().0,
        // The model may be saved in double precision.
        Err(error) => match dataset.read_array::<f64>() {
            Ok(values) => values.into_iter().map(|value| value as f32).collect(),
            Err(_) => return Err(wrap(error)),
        },
    };
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Renames the tensors of a file to the model's names and converts their layout. Unknown tensors stay as they are.
///
/// # Errors
/// [`Error::Weights`] if the order of flattened feature maps cannot be converted.
pub(super) fn arrange(
    mut file: HashMap<String, Tensor>,
    model: &Model,
    path: &Path,
) -> Result<HashMap<String, Tensor>> {
    let is_numbered = file.keys().any(|path| path.contains("/vars/"));
    let mut mappings = Vec::new();
    let mapped = match is_numbered {
        true => map_by_number("", "", model, &None, &mut mappings),
        false => {
            file = file.into_iter().map(|(path, tensor)| (layer_and_param(&path), tensor)).collect();
            map_by_name("", model, &None, &mut mappings)
        }
    };
    mapped.map_err(|problem| Error::weights(path, model.name(), vec![problem]))?;
    let mut arranged = HashMap::new();
    for TensorMapping { source, target, param, maps } in mappings {
        if let Some(tensor) = file.remove(&source) {
            arranged.insert(target, convert_layout(&tensor, &param, maps.as_deref())?);
        }
    }
    arranged.extend(file);
    Ok(arranged)
}

/// A tensor of a file and the parameter of the model that it belongs to.
struct TensorMapping {
    /// Path in the file.
    source: String,
    /// Path in the model.
    target: String,
    param: Param,
    /// Shape, channels first, of the feature maps whose flattened values are its inputs, if any.
    maps: FlattenedShape,
}

/// Matches tensors by name: `model_weights/vgg16/block1_conv1/kernel` is identified by its last two parts.
fn map_by_name(
    path: &str,
    model: &Model,
    input_maps: &FlattenedShape,
    mappings: &mut Vec<TensorMapping>,
) -> Result<(), String> {
    let mut flattened = flattened_inputs(model, input_maps)?;
    for node in &model.nodes()[1..] {
        let maps = flattened.remove(&*node.name).flatten();
        let path = format!("{path}{}", node.name);
        match node.layer.model() {
            Some(inside) => map_by_name(&format!("{path}/"), inside, &maps, mappings)?,
            None => {
                for param in node.layer.params().into_iter().filter(|param| !param.is_adapter()) {
                    let source = short_param(param.name());
                    mappings.push(TensorMapping {
                        source: format!("{}/{source}", node.name),
                        target: format!("{path}/{}", param.name()),
                        maps: maps.clone().filter(|_| has_value_per_input(node, &param)),
                        param,
                    });
                }
            }
        }
    }
    Ok(())
}

/// Layer and parameter of a path, in Keras 3's names: Keras 1 wrote `block1_conv1_W_1:0`, Keras 2 `kernel:0`.
pub(super) fn layer_and_param(path: &str) -> String {
    let mut steps = path.rsplit('/');
    let (last, layer) = (steps.next().unwrap_or_default(), steps.next().unwrap_or_default());
    let last = last.split(':').next().unwrap_or_default();
    let old =
        last.strip_prefix(layer).map(|rest| rest.trim_end_matches(|c: char| c == '_' || c.is_numeric()));
    let param = match old {
        Some("_W") => "kernel",
        Some("_b") => "bias",
        Some(rest) if rest.len() > 1 => &rest[1..],
        _ => short_param(last),
    };
    format!("{layer}/{param}")
}

/// A parameter's name, the same for the two layers with a depthwise kernel: Keras's DepthwiseConv2D calls it `kernel`.
fn short_param(name: &str) -> &str {
    if name == "depthwise_kernel" { "kernel" } else { name }
}

/// Matches tensors by number: `layers/functional/layers/conv2d_1/vars/0`.
fn map_by_number(
    source: &str,
    target: &str,
    model: &Model,
    input_maps: &FlattenedShape,
    mappings: &mut Vec<TensorMapping>,
) -> Result<(), String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut flattened = flattened_inputs(model, input_maps)?;
    for node in model.nodes_by_depth() {
        let maps = flattened.remove(&*node.name).flatten();
        let kind = match node.layer.model() {
            Some(inside) if inside.is_sequential() => "sequential".to_owned(),
            Some(_) => "functional".to_owned(),
            None => snake_case(node.layer.kind()),
        };
        let count = counts.entry(kind.clone()).or_default();
        let numbered = if *count == 0 { kind } else { format!("{kind}_{count}") };
        *count += 1;
        let (source, target) = (format!("{source}layers/{numbered}/"), format!("{target}{}/", node.name));
        match node.layer.model() {
            Some(inside) => map_by_number(&source, &target, inside, &maps, mappings)?,
            None => {
                let params = node.layer.params().into_iter().filter(|param| !param.is_adapter());
                for (at, param) in params.enumerate() {
                    mappings.push(TensorMapping {
                        source: format!("{source}vars/{at}"),
                        target: format!("{target}{}", param.name()),
                        maps: maps.clone().filter(|_| has_value_per_input(node, &param)),
                        param,
                    });
                }
            }
        }
    }
    Ok(())
}

/// Whether a parameter of a layer on flattened feature maps has one value per input: all but a dense layer's bias.
fn has_value_per_input(node: &Node, param: &Param) -> bool {
    !matches!(node.config, Some(LayerConfig::Dense(_))) || param.variable().rank() == 2
}

/// Keras's `to_snake_case`, for layer names.
pub(super) fn snake_case(kind: &str) -> String {
    let mut name = String::new();
    let mut before = None;
    for letter in kind.chars() {
        if letter.is_uppercase() && before.is_some_and(char::is_lowercase) {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
        before = Some(letter);
    }
    name
}

/// Converts a tensor to the parameter's layout. A tensor that does not match is returned unchanged.
fn convert_layout(tensor: &Tensor, param: &Param, maps: Option<&[usize]>) -> Result<Tensor> {
    let expected = param.variable().dims();
    Ok(match (tensor.dims(), maps) {
        (&[.., 1], _) if tensor.rank() == 4 && expected.get(1) == Some(&1) => tensor.permute((2, 3, 0, 1))?,
        (&[_, _, _, _], _) => tensor.permute((3, 2, 0, 1))?,
        (&[inputs, outputs], Some(&[channels, height, width])) if inputs == channels * height * width => {
            tensor
                .reshape((height, width, channels, outputs))?
                .permute((3, 2, 0, 1))?
                .reshape((outputs, inputs))?
        }
        (&[_, _], _) => tensor.t()?,
        (&[inputs], Some(&[channels, height, width])) if inputs == channels * height * width => {
            tensor.reshape((height, width, channels))?.permute((2, 0, 1))?.flatten_all()?
        }
        _ => tensor.clone(),
    }
    .contiguous()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::{BatchNormalization, Dense, Flatten, Input, SeparableConv2D, sequential};

    #[test]
    fn default_and_adapted_normalization_statistics_are_distinguished() {
        let mean = [0.485, 0.456, 0.406];
        assert_eq!(normalization(mean, [0.229, 0.224, 0.225]), Preprocessing::TORCH);
        let adapted = normalization(mean, [0.04, 0.09, 0.16]);
        assert_eq!(adapted, Preprocessing::standardize(mean, [0.2, 0.3, 0.4]));
    }

    #[test]
    fn separable_convolutions_are_found_by_name() -> crate::Result<()> {
        let model = sequential![Input::new((2, 5, 5)), SeparableConv2D::new(3, 3)]?;
        let file = [
            ("separable_conv2d/separable_conv2d/depthwise_kernel:0", vec![3, 3, 2, 1]),
            ("separable_conv2d/separable_conv2d/pointwise_kernel:0", vec![1, 1, 2, 3]),
            ("separable_conv2d/separable_conv2d/bias:0", vec![3]),
        ];
        let file = file.map(|(name, shape)| -> crate::Result<(String, Tensor)> {
            Ok((name.to_owned(), Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu)?))
        });
        let file = file.into_iter().collect::<crate::Result<HashMap<String, Tensor>>>()?;
        let found = arrange(file, &model, Path::new("separable.h5"))?;
        for (name, param) in model.named_params() {
            assert_eq!(found[&name].dims(), param.variable().dims(), "{name}");
        }
        assert_eq!(found.len(), 3);
        Ok(())
    }

    /// The bias is as long as the flattened feature maps, and must keep its order.
    #[test]
    fn parameters_with_one_value_per_flattened_input_are_reordered() -> crate::Result<()> {
        let layers =
            sequential![Input::new((2, 2, 2)), Flatten, BatchNormalization::default(), Dense::new(8)];
        let numbers = Tensor::arange(0f32, 8.0, &Device::Cpu)?;
        let file = ["batch_normalization/gamma", "dense/bias"].map(|name| (name.to_owned(), numbers.clone()));
        let found = arrange(file.into(), &layers?, Path::new("flattened.h5"))?;
        let values = |name: &str| found[name].to_vec1::<f32>();
        assert_eq!(values("batch_normalization/gamma")?, [0., 2., 4., 6., 1., 3., 5., 7.]);
        assert_eq!(values("dense/bias")?, [0., 1., 2., 3., 4., 5., 6., 7.]);
        Ok(())
    }

    #[test]
    fn weight_names_of_all_keras_versions_are_recognised() {
        for (path, known) in [
            ("block1_conv1/block1_conv1_W_1:0", "block1_conv1/kernel"),
            ("block1_conv1/block1_conv1_b_1:0", "block1_conv1/bias"),
            ("conv1_bn/conv1_bn/moving_mean:0", "conv1_bn/moving_mean"),
            ("model_weights/vgg16/block1_conv1/kernel", "block1_conv1/kernel"),
            ("block1a_dwconv/block1a_dwconv/depthwise_kernel:0", "block1a_dwconv/kernel"),
        ] {
            assert_eq!(layer_and_param(path), known);
        }
        assert_eq!(["Conv2D", "BatchNormalization"].map(snake_case), ["conv2d", "batch_normalization"]);
        assert_eq!(snake_case("DepthwiseConv2D"), "depthwise_conv2d");
    }
}
