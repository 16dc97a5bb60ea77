//! Freezing and unfreezing layers, and finding layers by name or index.

use std::sync::Arc;

use super::{Layer, Model, Node, Param};
use crate::{Error, Result};

/// A layer, given by name or by its index in Keras's `model.layers`. Negative indices count from the end: in VGG16
/// `layers[15]` and `layers[-4]` are both `block5_conv1`. [`Model::summary`] shows the indices.
///
/// Index 0 of a network is its input layer; a `Sequential` does not count its input. A nested model counts as one
/// layer, and its own layers are indexed within it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` says no layer; give its name, as in \"block5_conv1\", or its place: 5, or -1 for the last"
)]
pub trait LayerAt {
    /// The name or index.
    fn layer_at(&self) -> NameOrPlace<'_>;
}

/// Name or index of a layer.
#[derive(Clone, Copy, Debug)]
pub enum NameOrPlace<'a> {
    /// A layer's name.
    Name(&'a str),
    /// Index of a layer; a negative one counts from the end.
    Place(i64),
}

impl<T: AsRef<str> + ?Sized> LayerAt for &T {
    fn layer_at(&self) -> NameOrPlace<'_> {
        NameOrPlace::Name((*self).as_ref())
    }
}

impl LayerAt for i32 {
    fn layer_at(&self) -> NameOrPlace<'_> {
        NameOrPlace::Place(i64::from(*self))
    }
}

impl LayerAt for usize {
    fn layer_at(&self) -> NameOrPlace<'_> {
        NameOrPlace::Place(i64::try_from(*self).unwrap_or(i64::MAX))
    }
}

impl Model {
    /// Freezes all weights, like `trainable = False` in Keras. Batch normalisation then runs in inference mode, with
    /// its moving statistics.
    pub fn freeze(&self) {
        set_trainable(&self.params(), false);
    }

    /// Unfreezes all weights.
    ///
    /// Batch normalisation that was frozen stays in inference mode, even in a network with random weights. Keras
    /// differs: after `trainable = True` the layer uses batch statistics again, unless the model is called with
    /// `training=False`, as in Keras's fine-tuning guide. To use batch statistics again, call
    /// [`Model::unfreeze_statistics`]. [`Model::summary`] shows how many layers stay in inference mode.
    pub fn unfreeze(&self) {
        set_trainable(&self.params(), true);
    }

    /// Lets batch normalisation use and update batch statistics again after it was frozen and unfrozen. Use it for
    /// training with much data and large batches.
    pub fn unfreeze_statistics(&self) {
        self.params().iter().for_each(|param| param.set_inference_mode(false));
    }

    /// Freezes or unfreezes each layer, selected by name: `model.set_trainable(|name| name.ends_with("_bn"))`.
    pub fn set_trainable(&self, is_trainable: impl Fn(&str) -> bool) {
        self.layers().iter().for_each(|(name, layer)| set_trainable(&layer.params(), is_trainable(name)));
    }

    /// Unfreezes a layer and all layers after it. The layers before it do not change.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
    /// base.freeze();
    /// base.unfreeze_from("block5_conv1")?;
    /// base.unfreeze_from(-4)?; // the last four: the same ones
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownLayer`], which lists the known names; [`Error::Argument`] if the index is out of range.
    pub fn unfreeze_from(&self, layer: impl LayerAt) -> Result<()> {
        match layer.layer_at() {
            NameOrPlace::Name(name) => {
                let (layers, from) = self.found(name)?;
                layers[from..].iter().for_each(|(_, layer)| set_trainable(&layer.params(), true));
            }
            NameOrPlace::Place(place) => {
                let from = self.number_of(place)?;
                let layers = self.numbered_layers().into_iter().filter(|(number, _)| *number >= from);
                layers.for_each(|(_, node)| set_trainable(&node.layer.params(), true));
            }
        }
        Ok(())
    }

    /// Freezes a layer and all layers before it. The layers after it do not change.
    ///
    /// # Errors
    /// As [`Model::unfreeze_from`].
    pub fn freeze_until(&self, layer: impl LayerAt) -> Result<()> {
        match layer.layer_at() {
            NameOrPlace::Name(name) => {
                let (layers, until) = self.found(name)?;
                layers[..=until].iter().for_each(|(_, layer)| set_trainable(&layer.params(), false));
            }
            NameOrPlace::Place(place) => {
                let until = self.number_of(place)?;
                let layers = self.numbered_layers().into_iter().filter(|(number, _)| *number <= until);
                layers.for_each(|(_, node)| set_trainable(&node.layer.params(), false));
            }
        }
        Ok(())
    }

    /// Names of all layers in order, including those of nested models.
    pub fn layer_names(&self) -> Vec<String> {
        self.layers().into_iter().map(|(name, _)| name).collect()
    }

    /// Returns a layer by name or index. A name is also looked up in nested models.
    ///
    /// # Errors
    /// As [`Model::unfreeze_from`].
    pub fn layer(&self, layer: impl LayerAt) -> Result<Arc<dyn Layer>> {
        let place = match layer.layer_at() {
            NameOrPlace::Name(name) => {
                let (mut layers, at) = self.found(name)?;
                return Ok(layers.swap_remove(at).1);
            }
            NameOrPlace::Place(place) => place,
        };
        let wanted = self.number_of(place)?;
        if wanted == 0 && !self.is_sequential() {
            return Ok(self.nodes()[0].layer.clone());
        }
        let found = self.numbered_layers().into_iter().find(|(number, _)| *number == wanted);
        found.map(|(_, node)| node.layer.clone()).ok_or_else(|| Error::Argument {
            name: "layer",
            expected: "a layer that is not only in Keras's network, where it pads or prepares the input"
                .into(),
            found: place.to_string(),
        })
    }

    /// All layers with their names, in Keras's order. Nested models are replaced by their layers.
    pub(crate) fn layers(&self) -> Vec<(String, Arc<dyn Layer>)> {
        let mut layers = Vec::new();
        for node in self.nodes_by_depth() {
            match node.layer.model() {
                Some(model) => layers.extend(model.layers()),
                None => layers.push((node.name.clone(), node.layer.clone())),
            }
        }
        layers
    }

    /// Index of the node with this name, or of the nested model that contains such a layer.
    pub(crate) fn place_of(&self, name: &str) -> Result<usize> {
        let inside = |node: &Node| node.layer.model().is_some_and(|model| model.place_of(name).is_ok());
        let here = |node: &Node| node.layer.model().is_none() && node.name == name;
        let place = self.nodes().iter().position(|node| here(node) || inside(node));
        place.ok_or_else(|| self.unknown_layer(name))
    }

    /// All layers, and the index of the one with this name.
    fn found(&self, name: &str) -> Result<(Vec<Named>, usize)> {
        let layers = self.layers();
        let place = layers.iter().position(|(known, _)| known == name);
        place.map(|place| (layers, place)).ok_or_else(|| self.unknown_layer(name))
    }

    fn unknown_layer(&self, name: &str) -> Error {
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

/// A layer and its name.
type Named = (String, Arc<dyn Layer>);

fn set_trainable(params: &[Param], trainable: bool) {
    params.iter().for_each(|param| param.set_trainable(trainable));
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
