//! Metadata about the networks in this library's files: the preprocessing of images, and the form of the network.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::header::read_metadata;
use crate::nn::{Model, Preprocessing};
use crate::{Error, Result};

/// Key in the metadata of a `.safetensors` file.
const KEY: &str = "headstart_networks";

/// Metadata of a network in a file.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Origin {
    /// The preprocessing of images for the network's weights.
    pub(super) preprocessing: Preprocessing,
    /// Whether the network has the form of Keras's weights.
    pub(super) of_keras: bool,
}

/// The metadata of a file with this model's weights: each network in the model, by its path.
pub(crate) fn network_metadata(model: &Model) -> HashMap<String, String> {
    let mut networks = BTreeMap::new();
    collect(model, "", &mut networks);
    match serde_json::to_string(&networks) {
        Ok(text) if !networks.is_empty() => HashMap::from([(KEY.to_owned(), text)]),
        _ => HashMap::new(),
    }
}

fn collect(model: &Model, path: &str, networks: &mut BTreeMap<String, Origin>) {
    if let Some(preprocessing) = model.own_preprocessing() {
        networks.insert(path.to_owned(), Origin { preprocessing, of_keras: model.is_of_keras() });
    }
    for node in model.nodes() {
        if let Some(inner) = node.layer.model() {
            let folder = if path.is_empty() { String::new() } else { format!("{path}/") };
            collect(inner, &format!("{folder}{}", node.name), networks);
        }
    }
}

/// Reads the metadata of a network from a `.safetensors` file. The network is the file's model, or nested in it. `None` if
/// the file has no such metadata.
pub(super) fn origin_in(path: &Path, network: &str) -> Result<Option<Origin>> {
    let metadata = read_metadata(path)?;
    let Some(text) = metadata.get(KEY) else { return Ok(None) };
    let networks: BTreeMap<String, Origin> = serde_json::from_str(text)
        .map_err(|error| Error::weights(path, network, vec![format!("`{KEY}` in the header: {error}")]))?;
    Ok(networks.get("").or_else(|| networks.get(network)).copied())
}
