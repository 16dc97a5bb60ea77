//! Layers by name or path. A path names the nested models before the layer: `vgg16/block5_conv1`.

use std::sync::Arc;

use super::{Layer, Model};
use crate::{Error, Result};

/// A layer that is not a model, with its name. `path` has the index of each nested model that contains it, then its own
/// index.
pub(super) struct FoundLayer {
    pub(super) name: String,
    pub(super) path: Vec<usize>,
    pub(super) layer: Arc<dyn Layer>,
}

impl Model {
    /// The indices of the nodes that lead to a layer or nested model.
    ///
    /// A layer or path of this model is preferred. A plain name is then looked up in nested models, where it must be
    /// unique.
    ///
    /// # Errors
    /// [`Error::UnknownLayer`], which lists the known names; [`Error::Argument`] if several nested models have such a
    /// layer.
    pub(crate) fn path_of(&self, name: &str) -> Result<Vec<usize>> {
        if let Some(path) = self.exact_path(name) {
            return Ok(path);
        }
        let mut paths = Vec::new();
        self.paths_inside(name, &mut paths);
        match paths.len() {
            0 => Err(self.unknown_layer(name)),
            1 => Ok(paths.swap_remove(0)),
            _ => {
                let names: Vec<String> =
                    paths.iter().map(|path| format!("`{}`", self.path_name(path))).collect();
                Err(Error::Argument {
                    name: "layer",
                    expected: format!("a path, because several layers have this name: {}", names.join(", ")),
                    found: name.to_owned(),
                })
            }
        }
    }

    /// The path of a layer of this model, or one that begins with a nested model's name. A name may contain slashes.
    fn exact_path(&self, name: &str) -> Option<Vec<usize>> {
        let nodes = || self.nodes().iter().enumerate();
        if let Some((index, _)) = nodes().find(|(_, node)| node.name == name) {
            return Some(vec![index]);
        }
        nodes().find_map(|(index, node)| {
            let rest = name.strip_prefix(&*node.name)?.strip_prefix('/')?;
            let inside = node.layer.model()?.exact_path(rest)?;
            Some([vec![index], inside].concat())
        })
    }

    /// Adds the paths of all layers with this name in nested models, without their inputs.
    fn paths_inside(&self, name: &str, paths: &mut Vec<Vec<usize>>) {
        for (index, node) in self.nodes().iter().enumerate() {
            let Some(model) = node.layer.model() else { continue };
            let mut inside = Vec::new();
            if let Some(path) = model.exact_path(name)
                && !model.input_nodes().contains(&path[0])
            {
                inside.push(path);
            }
            model.paths_inside(name, &mut inside);
            paths.extend(inside.into_iter().map(|path| [vec![index], path].concat()));
        }
    }

    /// The names along a path: `vgg16/block5_conv1`.
    pub(crate) fn path_name(&self, path: &[usize]) -> String {
        let node = &self.nodes()[path[0]];
        match node.layer.model() {
            Some(model) if path.len() > 1 => format!("{}/{}", node.name, model.path_name(&path[1..])),
            _ => node.name.clone(),
        }
    }

    /// The layer at a path.
    pub(crate) fn layer_at_path(&self, path: &[usize]) -> Arc<dyn Layer> {
        let layer = &self.nodes()[path[0]].layer;
        match layer.model() {
            Some(model) if path.len() > 1 => model.layer_at_path(&path[1..]),
            _ => layer.clone(),
        }
    }

    /// All layers with their names, in Keras's order. Nested models are replaced by their layers.
    pub(crate) fn layers(&self) -> Vec<(String, Arc<dyn Layer>)> {
        self.found_layers().into_iter().map(|found| (found.name, found.layer)).collect()
    }

    /// All layers with their paths, in Keras's order. Nested models are replaced by their layers.
    pub(super) fn found_layers(&self) -> Vec<FoundLayer> {
        let mut layers = Vec::new();
        for (index, node) in self.indices_by_depth().into_iter().map(|index| (index, &self.nodes()[index])) {
            match node.layer.model() {
                Some(model) => layers.extend(
                    model
                        .found_layers()
                        .into_iter()
                        .map(|found| FoundLayer { path: [vec![index], found.path].concat(), ..found }),
                ),
                None => layers.push(FoundLayer {
                    name: node.name.clone(),
                    path: vec![index],
                    layer: node.layer.clone(),
                }),
            }
        }
        layers
    }

    pub(super) fn unknown_layer(&self, name: &str) -> Error {
        let names = self.layer_names();
        let closest = names.iter().min_by_key(|known| distance(known, name));
        let hint = match closest {
            Some(known) if distance(known, name) <= name.len() / 2 => format!("did you mean `{known}`?"),
            _ => String::new(),
        };
        Error::UnknownLayer {
            model: self.name().to_owned(),
            name: name.into(),
            known: names.join(", "),
            hint,
        }
    }
}

/// Levenshtein distance: number of characters to insert, delete or replace.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.chars().count()]
}

#[cfg(test)]
mod tests {
    #[test]
    fn distance_counts_single_letters() {
        assert_eq!(super::distance("block5_conv1", "block5_conv1"), 0);
        assert_eq!(super::distance("block5_conv1", "blok5_conv2"), 2);
        assert_eq!(super::distance("", "abc"), 3);
    }
}
