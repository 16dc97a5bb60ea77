//! Freezing and unfreezing layers, and finding layers by name or index.

use std::sync::Arc;

use super::layer_path::FoundLayer;
use super::{Layer, Model, Param};
use crate::{Error, Result};

/// A layer, given by name or by its index in Keras's `model.layers`. Negative indices count from the end: in VGG16
/// `layers[15]` and `layers[-4]` are both `block5_conv1`. [`Model::summary`] shows the indices.
///
/// Indices are those of Keras for VGG16, ResNet50, ResNet101, ResNet152, DenseNet121, MobileNetV2 and EfficientNetB0 to
/// B4. Other networks have other layers in Keras, or are not in Keras: their layers are counted as they are here.
///
/// Index 0 of a network is its input layer; a `Sequential` does not count its input. A nested model counts as one
/// layer, and its own layers are indexed within it.
///
/// A name is first looked up in the model itself, then in nested models, where it must be unique. A path names the
/// nested model before the layer, `vgg16/block5_conv1`, and is always unique. The name of a nested model means all its
/// layers.
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
    /// A layer's name, or its path: `vgg16/block5_conv1`.
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
    /// [`Error::UnknownLayer`], which lists the known names; [`Error::Argument`] if the index is out of range, or several
    /// nested models have a layer with this name.
    pub fn unfreeze_from(&self, layer: impl LayerAt) -> Result<()> {
        match layer.layer_at() {
            NameOrPlace::Name(name) => {
                let layers = self.found_layers();
                let (from, _) = self.range_of(name, &layers)?;
                layers[from..].iter().for_each(|found| set_trainable(&found.layer.params(), true));
            }
            NameOrPlace::Place(place) => {
                let from = self.number_of(place)?;
                let layers = self.numbered_layers().into_iter().filter(|(number, _)| *number >= from);
                layers.for_each(|(_, index)| set_trainable(&self.nodes()[index].layer.params(), true));
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
                let layers = self.found_layers();
                let (_, until) = self.range_of(name, &layers)?;
                layers[..=until].iter().for_each(|found| set_trainable(&found.layer.params(), false));
            }
            NameOrPlace::Place(place) => {
                let until = self.number_of(place)?;
                let layers = self.numbered_layers().into_iter().filter(|(number, _)| *number <= until);
                layers.for_each(|(_, index)| set_trainable(&self.nodes()[index].layer.params(), false));
            }
        }
        Ok(())
    }

    /// Names of all layers in order, including those of nested models.
    pub fn layer_names(&self) -> Vec<String> {
        self.layers().into_iter().map(|(name, _)| name).collect()
    }

    /// Returns a layer by name, path or index. A name is also looked up in nested models, where it must be unique;
    /// a path begins with the nested model's name: `vgg16/block5_conv1`.
    ///
    /// # Errors
    /// As [`Model::unfreeze_from`].
    pub fn layer(&self, layer: impl LayerAt) -> Result<Arc<dyn Layer>> {
        Ok(self.layer_at_path(&self.path_at(layer.layer_at())?))
    }

    /// The indices of the nodes that lead to a layer.
    pub(super) fn path_at(&self, layer: NameOrPlace) -> Result<Vec<usize>> {
        let place = match layer {
            NameOrPlace::Name(name) => return self.path_of(name),
            NameOrPlace::Place(place) => place,
        };
        let wanted = self.number_of(place)?;
        if wanted == 0 && !self.is_sequential() {
            return Ok(vec![0]);
        }
        let found = self.numbered_layers().into_iter().find(|(number, _)| *number == wanted);
        found.map(|(_, index)| vec![index]).ok_or_else(|| Error::Argument {
            name: "layer",
            expected: "a layer that is not only in Keras's network, where it pads or prepares the input"
                .into(),
            found: place.to_string(),
        })
    }

    /// The position in [`Model::found_layers`] of the first and the last layer that a name or path means: of a nested model,
    /// those of its layers.
    fn range_of(&self, name: &str, layers: &[FoundLayer]) -> Result<(usize, usize)> {
        let path = self.path_of(name)?;
        let is_meant = |found: &FoundLayer| found.path.starts_with(&path);
        let first = layers.iter().position(is_meant);
        first.zip(layers.iter().rposition(is_meant)).ok_or_else(|| self.unknown_layer(name))
    }
}

fn set_trainable(params: &[Param], trainable: bool) {
    params.iter().for_each(|param| param.set_trainable(trainable));
}
