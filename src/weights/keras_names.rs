//! Adapts the names in a Keras file to a model that arranges the same layers differently.

use std::collections::{BTreeMap, HashMap};

use candle_core::Tensor;

use super::keras::{layer_and_param, snake_case};
use crate::nn::{Model, Param};

type File = HashMap<String, Tensor>;

/// Renames tensors to fit the model. Returns them with a description of the changes, if any.
///
/// - A network is taken from a file of a model in which it is nested.
/// - A model with a nested network is taken from a flat model: `Model(base.input, head(base.output))`.
/// - Layers with other numbers, such as `dense_2` of a later model in the same session, are matched in order.
pub(super) fn adapt_names(file: File, model: &Model) -> (File, Option<String>) {
    let has_models_inside = model.nodes().iter().any(|node| node.layer.model().is_some());
    let is_numbered = file.keys().any(|path| path.contains("/vars/"));
    let (file, selection) = match has_models_inside {
        false => select_nested_model(file, model, is_numbered),
        true => (file, None),
    };
    match is_numbered {
        true if has_models_inside && !file.keys().any(|path| nested_prefix(path).is_some()) => {
            let mut paths = HashMap::new();
            flat_to_nested_paths("", model, &mut HashMap::new(), &mut paths);
            let rename = |path: String| match path.split_once("/vars/") {
                Some((layer, at)) => paths.get(layer).map_or(path.clone(), |to| format!("{to}/vars/{at}")),
                None => path,
            };
            (file.into_iter().map(|(path, tensor)| (rename(path), tensor)).collect(), selection)
        }
        true => (file, selection),
        false => {
            let (file, renamed) = match_in_order(file, model);
            (file, selection.or(renamed))
        }
    }
}

/// The part of a path with numbered layers that names a nested model: `layers/functional_1/` of
/// `layers/functional_1/layers/dense/vars/0`.
fn nested_prefix(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("layers/")?;
    let (name, inside) = rest.split_once('/')?;
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_');
    // Nothing but the name tells a model from a layer in such a file.
    let is_model = ["functional", "sequential"].contains(&kind) && inside.starts_with("layers/");
    is_model.then(|| &path[..path.len() - inside.len()])
}

/// Selects the tensors of the network that is nested in the saved model.
fn select_nested_model(file: File, model: &Model, is_numbered: bool) -> (File, Option<String>) {
    let network = model.name().replace('_', "");
    // Keras appends the width to the names of MobileNetV2 (`mobilenetv2_1.00_224`), and has none in those of MobileNetV3.
    let start = network.strip_suffix("100").filter(|start| start.starts_with("mobilenet"));
    let is_network = |step: &str| {
        let step = step.replace('_', "").to_lowercase();
        step == network || start.is_some_and(|start| step.starts_with(start))
    };
    let prefix = if is_numbered { prefix_of(model, &file) } else { None };
    let inside = |path: &str| {
        if is_numbered {
            return path.strip_prefix(prefix.as_deref()?).map(str::to_owned);
        }
        let steps: Vec<&str> = path.split('/').collect();
        let at = steps[..steps.len().saturating_sub(2)].iter().rposition(|step| is_network(step));
        at.map(|at| steps[at + 1..].join("/"))
    };
    if !file.keys().any(|path| inside(path).is_some()) {
        return (file, None);
    }
    let total = file.len();
    let file: File = file.into_iter().filter_map(|(path, tensor)| Some((inside(&path)?, tensor))).collect();
    let description = format!("took the {} tensors of the nested network, of {total}", file.len());
    (file, Some(description))
}

/// The prefix of the only nested model, or of the only one with tensors of the same sizes as the model's.
fn prefix_of(model: &Model, file: &File) -> Option<String> {
    let mut sizes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (path, tensor) in file {
        if let Some(prefix) = nested_prefix(path) {
            sizes.entry(prefix).or_default().push(tensor.elem_count());
        }
    }
    if sizes.len() > 1 {
        let mut own: Vec<usize> = model.params().iter().map(Param::count).collect();
        own.sort_unstable();
        sizes.retain(|_, found| {
            found.sort_unstable();
            *found == own
        });
    }
    let mut prefixes = sizes.into_keys();
    prefixes.next().filter(|_| prefixes.next().is_none()).map(str::to_owned)
}

/// Maps the path of each layer in a flat file to its path in a nested one. For example, `layers/conv2d_3`
/// becomes `layers/functional/layers/conv2d_3`.
fn flat_to_nested_paths(
    nested: &str,
    model: &Model,
    counts: &mut HashMap<String, usize>,
    paths: &mut HashMap<String, String>,
) {
    let mut own = HashMap::new();
    for node in model.nodes_by_depth() {
        let kind = match node.layer.model() {
            Some(inside) if inside.is_sequential() => "sequential".to_owned(),
            Some(_) => "functional".to_owned(),
            None => snake_case(node.layer.kind()),
        };
        let path = format!("{nested}layers/{}", numbered(&kind, &mut own));
        match node.layer.model() {
            Some(inside) => flat_to_nested_paths(&format!("{path}/"), inside, counts, paths),
            None => {
                paths.insert(format!("layers/{}", numbered(&kind, counts)), path);
            }
        }
    }
}

/// Numbers layers of one kind: `conv2d`, then `conv2d_1`.
fn numbered(kind: &str, counts: &mut HashMap<String, usize>) -> String {
    let count = counts.entry(kind.to_owned()).or_default();
    *count += 1;
    if *count == 1 { kind.to_owned() } else { format!("{kind}_{}", *count - 1) }
}

/// Matches layers whose names differ only in their numbers, in numerical order.
fn match_in_order(file: File, model: &Model) -> (File, Option<String>) {
    let in_model =
        by_stem(model.layers().into_iter().filter(|(_, layer)| !layer.params().is_empty()).map(|(n, _)| n));
    let layer = |path: &str| {
        let name = layer_and_param(path);
        name.rsplit_once('/').map_or(String::new(), |(layer, _)| layer.to_owned())
    };
    let in_file = by_stem(file.keys().map(|path| layer(path)));
    let mut new_names: BTreeMap<String, String> = BTreeMap::new();
    for (stem, numbers) in &in_file {
        if let Some(own) = in_model.get(stem).filter(|own| own.len() == numbers.len() && *own != numbers) {
            new_names.extend(numbers.values().cloned().zip(own.values().cloned()));
        }
    }
    if new_names.is_empty() {
        return (file, None);
    }
    let renamed = |path: String| match new_names.get(&layer(&path)) {
        Some(to) => {
            let name = layer_and_param(&path);
            format!("{to}/{}", name.rsplit('/').next().unwrap_or_default())
        }
        None => path,
    };
    let matches: Vec<String> = new_names.iter().map(|(from, to)| format!("`{from}` as `{to}`")).collect();
    let file = file.into_iter().map(|(path, tensor)| (renamed(path), tensor)).collect();
    (file, Some(format!("took layers in order: {}", matches.join(", "))))
}

/// Groups names by their stem and number: `dense` has number 0.
fn by_stem(names: impl Iterator<Item = String>) -> BTreeMap<String, BTreeMap<usize, String>> {
    let mut stems: BTreeMap<String, BTreeMap<usize, String>> = BTreeMap::new();
    for name in names {
        let parts = name.rsplit_once('_').and_then(|(stem, number)| Some((stem, number.parse().ok()?)));
        let (stem, number) = parts.unwrap_or((&name, 0));
        stems.entry(stem.to_owned()).or_default().insert(number, name.clone());
    }
    stems
}
