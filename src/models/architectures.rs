//! All architectures, by name.

use super::convnext::*;
use super::densenet::DENSENET121;
use super::efficientnet::*;
use super::mobilenet::*;
use super::network::{Architecture, Network};
use super::registry::models;
use super::regnet::*;
use super::residual::*;
use super::vgg16::{VGG16, VGG16_BN};
use super::vision_transformer::*;
use crate::weights::Weights;
use crate::{Error, Result};

pub(super) static ALL: [&Architecture; 46] = [
    &VGG16,
    &VGG16_BN,
    &RESNET18,
    &RESNET34,
    &RESNET50,
    &RESNET101,
    &RESNET152,
    &DENSENET121,
    &MOBILENET_V2,
    &MOBILENET_V3_SMALL,
    &MOBILENET_V3_LARGE,
    &EFFICIENTNET_B0,
    &EFFICIENTNET_B1,
    &EFFICIENTNET_B2,
    &EFFICIENTNET_B3,
    &EFFICIENTNET_B4,
    &EFFICIENTNET_V2_S,
    &EFFICIENTNET_LITE0,
    &REGNETY_002,
    &REGNETY_004,
    &REGNETY_006,
    &REGNETY_008,
    &REGNETY_016,
    &REGNETY_032,
    &CONVNEXT_ATTO,
    &CONVNEXT_FEMTO,
    &CONVNEXT_PICO,
    &CONVNEXT_NANO,
    &CONVNEXT_TINY,
    &CONVNEXT_SMALL,
    &CONVNEXT_BASE,
    &CONVNEXTV2_ATTO,
    &CONVNEXTV2_FEMTO,
    &CONVNEXTV2_PICO,
    &CONVNEXTV2_NANO,
    &CONVNEXTV2_TINY,
    &CONVNEXTV2_BASE,
    &VIT_TINY,
    &VIT_SMALL,
    &VIT_BASE,
    &DEIT_TINY,
    &DEIT_SMALL,
    &DEIT_BASE,
    &DEIT3_SMALL_16,
    &DINOV2_SMALL_14,
    &DINOV2_BASE_14,
];

impl Network {
    /// Configures a network by its name: `convnext_tiny`, `resnet18`, … [`models`](super::models) lists them. The name
    /// may also be Keras's, such as `EfficientNetB3`, or that of weights, such as `convnext_tiny.in12k_ft_in1k`.
    ///
    /// ```
    /// use headstart::models::Network;
    /// use headstart::prelude::*;
    /// let base = Network::named("convnext_atto", Weights::Random(0))?.include_top(false).input_shape((3, 64, 64));
    /// assert_eq!(base.build()?.output_shape(), [320, 2, 2]);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such network; the message lists the names.
    pub fn named(name: &str, weights: Weights) -> Result<Network> {
        let of_keras = models().iter().find(|model| model.keras.as_deref() == Some(name));
        let architecture = of_keras.map_or(name, |model| &model.name).split('.').next().unwrap_or_default();
        if let Some(known) = ALL.iter().find(|known| known.name == architecture) {
            return Ok(Network::by_name(known, weights, false));
        }
        // timm's prefix `tf_` means TensorFlow's padding and epsilon.
        let is_variant = |known: &&&Architecture| known.keras.is_some() || known.of_tensorflow;
        let plain = architecture.strip_prefix("tf_");
        let known = plain.and_then(|plain| ALL.iter().filter(is_variant).find(|known| known.name == plain));
        known.map(|known| Network::by_name(known, weights, true)).ok_or_else(|| {
            let names: Vec<&str> = ALL.iter().map(|architecture| architecture.name).collect();
            let expected = format!("one of {}", names.join(", "));
            Error::Argument { name: "network", expected, found: name.to_owned() }
        })
    }
}
