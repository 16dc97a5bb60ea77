//! The prefix of a network's tensors in a file of a larger model, such as `encoder.` before `features.0.weight`.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use candle_core::Tensor;

use super::tensor_names::TensorStems;

/// Selects the tensors of the network that `stems` describes from those of a larger model, and removes the prefix of their
/// names.
///
/// Returns the tensors unchanged if some have the network's own names. Also if several prefixes fit equally well, as in
/// a file with a student and a teacher.
pub(super) fn without_prefix(
    tensors: HashMap<String, Tensor>,
    stems: &[TensorStems],
    path: &Path,
) -> HashMap<String, Tensor> {
    let fitting = |prefix: &str| {
        let is_known = |stem: &String| tensors.contains_key(&format!("{prefix}{stem}.weight"));
        stems.iter().filter(|layer| layer.stems.iter().any(is_known)).count()
    };
    if fitting("") > 0 {
        return tensors;
    }
    let ends: Vec<String> =
        stems.iter().flat_map(|layer| &layer.stems).map(|stem| format!(".{stem}.weight")).collect();
    let without_end = |name: &str| -> Vec<String> {
        ends.iter().filter_map(|end| Some(format!("{}.", name.strip_suffix(end.as_str())?))).collect()
    };
    let prefixes: BTreeSet<String> = tensors.keys().flat_map(|name| without_end(name)).collect();
    let mut fits: Vec<(usize, String)> =
        prefixes.into_iter().map(|prefix| (fitting(&prefix), prefix)).collect();
    fits.retain(|(layers, _)| 2 * layers > stems.len());
    fits.sort_unstable();
    let is_best = |layers: usize, others: &[(usize, String)]| others.iter().all(|(other, _)| *other < layers);
    match fits.pop() {
        Some((layers, prefix)) if is_best(layers, &fits) => {
            println!("{}: took the tensors whose names begin with `{prefix}`", path.display());
            let own =
                |(name, tensor): (String, Tensor)| Some((name.strip_prefix(&prefix)?.to_owned(), tensor));
            tensors.into_iter().filter_map(own).collect()
        }
        _ => tensors,
    }
}
