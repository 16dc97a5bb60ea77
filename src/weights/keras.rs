//! Keras's files of weights: HDF5, in two forms, each put into a model's own names and layout.
//!
//! Keras has channels last: convolution kernels are height, width, inputs, outputs, and a dense
//! layer behind `Flatten` counts height, width, channels. The form of `model.save("m.h5")` and of
//! the files of `keras.applications` names every layer; that of `save_weights("m.weights.h5")`
//! numbers them, kind by kind, in the order of Keras's `model.layers`
//! (`keras/src/saving/saving_lib.py`).

use std::collections::{HashMap, HashSet};
use std::path::Path;

use candle_core::{Device, Tensor, bail};
use hdf5_reader::group::Group;
use hdf5_reader::messages::datatype::Datatype;
use hdf5_reader::{Dataset, Hdf5File, OpenOptions};

use super::flattened::{Maps, entering};
use super::zip::Archive;
use crate::nn::{Model, Param, Preprocessing};
use crate::{Error, Result};

/// HDF5's first eight bytes.
pub(super) const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
/// Weights are hardly ever compressed: a file that claims to hold more than this many times its own
/// size is refused.
const LARGEST_GROWTH: usize = 16;
/// What stands in a file beside the weights.
const NOT_WEIGHTS: [&str; 4] =
    ["optimizer", "optimizer_weights", "top_level_model_weights", "seed_generator"];

/// The file of weights within a `.keras` archive.
const WITHIN: &str = "model.weights.h5";

/// A file of Keras's, open.
pub(super) struct KerasFile {
    file: Hdf5File,
    /// Most bytes that its datasets may have.
    budget: usize,
}

impl KerasFile {
    /// Opens a `.h5` file.
    pub(super) fn open(path: &Path) -> candle_core::Result<KerasFile> {
        let (budget, options) = limits(path)?;
        let file = Hdf5File::open_with_options(path, options).map_err(candle_core::Error::wrap)?;
        Ok(KerasFile { file, budget })
    }

    /// Opens the weights in an archive of `model.save("model.keras")`; `None` if the archive is another one.
    pub(super) fn in_archive(path: &Path, archive: &Archive) -> candle_core::Result<Option<KerasFile>> {
        if !archive.names().any(|name| name == WITHIN) {
            return Ok(None);
        }
        let (budget, options) = limits(path)?;
        let file = Hdf5File::from_vec_with_options(archive.read(WITHIN)?, options);
        Ok(Some(KerasFile { file: file.map_err(candle_core::Error::wrap)?, budget }))
    }

    /// Every weight, by its path in the file.
    pub(super) fn datasets(&self) -> candle_core::Result<HashMap<String, Tensor>> {
        self.floats(&|way| !way.split('/').any(|step| NOT_WEIGHTS.contains(&step)))
    }

    /// How a network whose first layer normalises its images wants them, from 0 to 255: Keras's EfficientNet, which
    /// divides them by 255 before.
    pub(super) fn preprocessing(&self) -> candle_core::Result<Option<Preprocessing>> {
        let found = self.floats(&|way| way.split('/').any(|step| step == "normalization"))?;
        let statistic = |named: &str, number: &str| {
            let known = |way: &str| {
                let last = way.rsplit('/').next().unwrap_or_default();
                last.split(':').next() == Some(named) || way.ends_with(&format!("/vars/{number}"))
            };
            let values =
                found.iter().find(|(way, _)| known(way))?.1.flatten_all().ok()?.to_vec1::<f32>().ok()?;
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

/// The most bytes that a file's datasets may have, as a number and as options of the reader.
fn limits(path: &Path) -> candle_core::Result<(usize, OpenOptions)> {
    let length = std::fs::metadata(path)?.len() as usize;
    let budget = length.saturating_mul(LARGEST_GROWTH);
    Ok((budget, OpenOptions { max_read_bytes: budget, max_chunk_bytes: budget, ..OpenOptions::default() }))
}

/// Keras's own weights have ImageNet's deviations where the variances belong, and divide by their
/// roots once more.
fn normalization(mean: [f32; 3], variance: [f32; 3]) -> Preprocessing {
    let imagenet = [0.229f32, 0.224, 0.225];
    match variance.iter().zip(imagenet).all(|(found, deviation)| (found - deviation).abs() < 1e-3) {
        true => Preprocessing::standardize(mean, imagenet),
        false => Preprocessing::standardize(mean, variance.map(f32::sqrt)),
    }
}

fn collect(
    group: &Group,
    way: &str,
    wanted: &dyn Fn(&str) -> bool,
    budget: &mut usize,
    seen: &mut HashSet<u64>,
    found: &mut HashMap<String, Tensor>,
) -> candle_core::Result<()> {
    if !seen.insert(group.address()) {
        bail!("the group `{way}` is inside itself");
    }
    let (groups, datasets) = group.members().map_err(candle_core::Error::wrap)?;
    for dataset in &datasets {
        let way = format!("{way}{}", dataset.name());
        if matches!(dataset.dtype(), Datatype::FloatingPoint { .. }) && wanted(&way) {
            let tensor = read(dataset, budget).map_err(|error| error.context(format!("`{way}`")))?;
            found.insert(way, tensor);
        }
    }
    groups
        .iter()
        .try_for_each(|group| collect(group, &format!("{way}{}/", group.name()), wanted, budget, seen, found))
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
        // A model may have been kept in double precision.
        Err(error) => match dataset.read_array::<f64>() {
            Ok(values) => values.into_iter().map(|value| value as f32).collect(),
            Err(_) => return Err(wrap(error)),
        },
    };
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// The tensors of a file under the model's own names and in its layout, and those that it has no
/// place for as they are.
///
/// # Errors
/// [`Error::Weights`] if the model has flattened feature maps whose order cannot be Keras's.
pub(super) fn arrange(
    mut file: HashMap<String, Tensor>,
    model: &Model,
    path: &Path,
) -> Result<HashMap<String, Tensor>> {
    let numbered = file.keys().any(|way| way.contains("/vars/"));
    let mut places = Vec::new();
    let placed = match numbered {
        true => number("", "", model, &None, &mut places),
        false => {
            file = file.into_iter().map(|(way, tensor)| (layer_and_param(&way), tensor)).collect();
            name("", model, &None, &mut places)
        }
    };
    placed.map_err(|problem| Error::weights(path, model.name(), vec![problem]))?;
    let mut arranged = HashMap::new();
    for Place { theirs, ours, param, maps } in places {
        if let Some(tensor) = file.remove(&theirs) {
            arranged.insert(ours, turn(&tensor, &param, maps.as_deref())?);
        }
    }
    arranged.extend(file);
    Ok(arranged)
}

/// Where one tensor of a file belongs.
struct Place {
    theirs: String,
    ours: String,
    param: Param,
    /// If it has a number for each of some flattened feature maps: their shape, channels first.
    maps: Maps,
}

/// By names: `model_weights/vgg16/block1_conv1/kernel` is known by its last two.
fn name(way: &str, model: &Model, outside: &Maps, places: &mut Vec<Place>) -> Result<(), String> {
    let mut entering = entering(model, outside)?;
    for node in &model.nodes()[1..] {
        let maps = entering.remove(&*node.name).flatten();
        let way = format!("{way}{}", node.name);
        match node.layer.model() {
            Some(inside) => name(&format!("{way}/"), inside, &maps, places)?,
            None => {
                for param in node.layer.params() {
                    places.push(Place {
                        theirs: format!("{}/{}", node.name, param.name()),
                        ours: format!("{way}/{}", param.name()),
                        maps: maps.clone().filter(|_| has_a_number_for_each_input(&param)),
                        param,
                    });
                }
            }
        }
    }
    Ok(())
}

/// The last two steps of a way, in today's words: Keras 1 wrote `block1_conv1_W_1:0`, Keras 2 `kernel:0`.
pub(super) fn layer_and_param(way: &str) -> String {
    let mut steps = way.rsplit('/');
    let (last, layer) = (steps.next().unwrap_or_default(), steps.next().unwrap_or_default());
    let last = last.split(':').next().unwrap_or_default();
    let old =
        last.strip_prefix(layer).map(|rest| rest.trim_end_matches(|c: char| c == '_' || c.is_numeric()));
    let param = match old {
        Some("_W") => "kernel",
        Some("_b") => "bias",
        Some(rest) if rest.len() > 1 => &rest[1..],
        _ if last == "depthwise_kernel" => "kernel",
        _ => last,
    };
    format!("{layer}/{param}")
}

/// By numbers: `layers/functional/layers/conv2d_1/vars/0`.
fn number(
    theirs: &str,
    ours: &str,
    model: &Model,
    outside: &Maps,
    places: &mut Vec<Place>,
) -> Result<(), String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut entering = entering(model, outside)?;
    for node in model.nodes_by_depth() {
        let maps = entering.remove(&*node.name).flatten();
        let kind = match node.layer.model() {
            Some(inside) if inside.is_sequential() => "sequential".to_owned(),
            Some(_) => "functional".to_owned(),
            None => snake_case(node.layer.kind()),
        };
        let count = counts.entry(kind.clone()).or_default();
        let numbered = if *count == 0 { kind } else { format!("{kind}_{count}") };
        *count += 1;
        let (theirs, ours) = (format!("{theirs}layers/{numbered}/"), format!("{ours}{}/", node.name));
        match node.layer.model() {
            Some(inside) => number(&theirs, &ours, inside, &maps, places)?,
            None => {
                for (at, param) in node.layer.params().into_iter().enumerate() {
                    places.push(Place {
                        theirs: format!("{theirs}vars/{at}"),
                        ours: format!("{ours}{}", param.name()),
                        maps: maps.clone().filter(|_| has_a_number_for_each_input(&param)),
                        param,
                    });
                }
            }
        }
    }
    Ok(())
}

/// A dense layer's bias has one for each output; everything else of a layer on flattened maps goes with its inputs.
fn has_a_number_for_each_input(param: &Param) -> bool {
    param.name() != "bias"
}

/// Keras's `to_snake_case`, for names of layers.
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

/// A tensor in the layout of the parameter; as it is if it cannot be that.
fn turn(tensor: &Tensor, param: &Param, maps: Option<&[usize]>) -> Result<Tensor> {
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

    #[test]
    fn keras_own_statistics_are_known_from_those_that_a_user_adapted() {
        let mean = [0.485, 0.456, 0.406];
        assert_eq!(normalization(mean, [0.229, 0.224, 0.225]), Preprocessing::TORCH);
        let adapted = normalization(mean, [0.04, 0.09, 0.16]);
        assert_eq!(adapted, Preprocessing::standardize(mean, [0.2, 0.3, 0.4]));
    }

    #[test]
    fn the_names_of_each_age_of_keras_are_known() {
        for (way, known) in [
            ("block1_conv1/block1_conv1_W_1:0", "block1_conv1/kernel"),
            ("block1_conv1/block1_conv1_b_1:0", "block1_conv1/bias"),
            ("conv1_bn/conv1_bn/moving_mean:0", "conv1_bn/moving_mean"),
            ("model_weights/vgg16/block1_conv1/kernel", "block1_conv1/kernel"),
            ("block1a_dwconv/block1a_dwconv/depthwise_kernel:0", "block1a_dwconv/kernel"),
        ] {
            assert_eq!(layer_and_param(way), known);
        }
        assert_eq!(["Conv2D", "BatchNormalization"].map(snake_case), ["conv2d", "batch_normalization"]);
        assert_eq!(snake_case("DepthwiseConv2D"), "depthwise_conv2d");
    }
}
