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
pub(super) fn fitted(file: File, model: &Model) -> (File, Option<String>) {
    let has_models_inside = model.nodes().iter().any(|node| node.layer.model().is_some());
    let is_numbered = file.keys().any(|way| way.contains("/vars/"));
    let (file, taken) = match has_models_inside {
        false => of_model_inside(file, model, is_numbered),
        true => (file, None),
    };
    match is_numbered {
        true if has_models_inside && !file.keys().any(|way| nested_prefix(way).is_some()) => {
            let mut ways = HashMap::new();
            flat_ways("", model, &mut HashMap::new(), &mut ways);
            let new = |way: String| match way.split_once("/vars/") {
                Some((layer, at)) => ways.get(layer).map_or(way.clone(), |to| format!("{to}/vars/{at}")),
                None => way,
            };
            (file.into_iter().map(|(way, tensor)| (new(way), tensor)).collect(), taken)
        }
        true => (file, taken),
        false => {
            let (file, renamed) = in_order(file, model);
            (file, taken.or(renamed))
        }
    }
}

/// The part of a path with numbered layers that names a nested model: `layers/functional_1/` of
/// `layers/functional_1/layers/dense/vars/0`.
fn nested_prefix(way: &str) -> Option<&str> {
    let rest = way.strip_prefix("layers/")?;
    let (name, inside) = rest.split_once('/')?;
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_');
    // Nothing but the name tells a model from a layer in such a file.
    let is_model = ["functional", "sequential"].contains(&kind) && inside.starts_with("layers/");
    is_model.then(|| &way[..way.len() - inside.len()])
}

/// Selects the tensors of the network that is nested in the saved model.
fn of_model_inside(file: File, model: &Model, is_numbered: bool) -> (File, Option<String>) {
    let network = model.name().replace('_', "");
    // Keras appends the width to the names of MobileNetV2 (`mobilenetv2_1.00_224`), and has none in those of MobileNetV3.
    let start = network.strip_suffix("100").filter(|start| start.starts_with("mobilenet"));
    let is_network = |step: &str| {
        let step = step.replace('_', "").to_lowercase();
        step == network || start.is_some_and(|start| step.starts_with(start))
    };
    let prefix = if is_numbered { prefix_of(model, &file) } else { None };
    let inside = |way: &str| {
        if is_numbered {
            return way.strip_prefix(prefix.as_deref()?).map(str::to_owned);
        }
        let steps: Vec<&str> = way.split('/').collect();
        let at = steps[..steps.len().saturating_sub(2)].iter().rposition(|step| is_network(step));
        at.map(|at| steps[at + 1..].join("/"))
    };
    if !file.keys().any(|way| inside(way).is_some()) {
        return (file, None);
    }
    let whole = file.len();
    let file: File = file.into_iter().filter_map(|(way, tensor)| Some((inside(&way)?, tensor))).collect();
    let said = format!("took the {} tensors of the network inside, of {whole}", file.len());
    (file, Some(said))
}

/// The prefix of the only nested model, or of the only one with tensors of the same sizes as the model's.
fn prefix_of(model: &Model, file: &File) -> Option<String> {
    let mut sizes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (way, tensor) in file {
        if let Some(prefix) = nested_prefix(way) {
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

/// Maps the path of each layer in a flat file to its path in a nested one: `layers/dense` to `layers/dense`, and
/// for example `layers/conv2d_3` to `layers/functional/layers/conv2d_3`.
fn flat_ways(
    nested: &str,
    model: &Model,
    counts: &mut HashMap<String, usize>,
    ways: &mut HashMap<String, String>,
) {
    let mut own = HashMap::new();
    for node in model.nodes_by_depth() {
        let kind = match node.layer.model() {
            Some(inside) if inside.is_sequential() => "sequential".to_owned(),
            Some(_) => "functional".to_owned(),
            None => snake_case(node.layer.kind()),
        };
        let way = format!("{nested}layers/{}", numbered(&kind, &mut own));
        match node.layer.model() {
            Some(inside) => flat_ways(&format!("{way}/"), inside, counts, ways),
            None => {
                ways.insert(format!("layers/{}", numbered(&kind, counts)), way);
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
fn in_order(file: File, model: &Model) -> (File, Option<String>) {
    let ours =
        by_stem(model.layers().into_iter().filter(|(_, layer)| !layer.params().is_empty()).map(|(n, _)| n));
    let layer = |way: &str| {
        let name = layer_and_param(way);
        name.rsplit_once('/').map_or(String::new(), |(layer, _)| layer.to_owned())
    };
    let theirs = by_stem(file.keys().map(|way| layer(way)));
    let mut new: BTreeMap<String, String> = BTreeMap::new();
    for (stem, numbers) in &theirs {
        if let Some(own) = ours.get(stem).filter(|own| own.len() == numbers.len() && *own != numbers) {
            new.extend(numbers.values().cloned().zip(own.values().cloned()));
        }
    }
    if new.is_empty() {
        return (file, None);
    }
    let renamed = |way: String| match new.get(&layer(&way)) {
        Some(to) => {
            let name = layer_and_param(&way);
            format!("{to}/{}", name.rsplit('/').next().unwrap_or_default())
        }
        None => way,
    };
    let said: Vec<String> = new.iter().map(|(from, to)| format!("`{from}` as `{to}`")).collect();
    let file = file.into_iter().map(|(way, tensor)| (renamed(way), tensor)).collect();
    (file, Some(format!("took layers in order: {}", said.join(", "))))
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
