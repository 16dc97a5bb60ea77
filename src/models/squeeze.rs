//! Squeeze and excitation: scales each channel by a factor computed from all channel means (Hu et al. 2017).

use super::assembler::Assembler;
use crate::Result;
use crate::nn::{Activation, Conv2D, GlobalAveragePooling2D, Multiply, Reshape};

/// Squeeze and excitation of one block.
pub(super) struct Squeeze<'a> {
    /// Prefix of the layers' names.
    pub(super) name: &'a str,
    /// Suffixes of the layers' names: pooling, reshape, the two convolutions, and the product.
    pub(super) layers: [&'static str; 5],
    /// Names of the two convolutions in files.
    pub(super) stems: [String; 2],
    pub(super) channels: usize,
    /// Channels between the two convolutions.
    pub(super) narrow: usize,
    /// Activation between the two convolutions.
    pub(super) inner: Activation,
    /// Activation that gives the factors.
    pub(super) gate: Activation,
}

impl Squeeze<'_> {
    pub(super) fn add(&self, net: &mut Assembler) -> Result<()> {
        let input = net.last();
        let [pool, reshape, reduce, expand, product] =
            self.layers.map(|layer| format!("{}_{layer}", self.name));
        net.layer(&pool, GlobalAveragePooling2D)?;
        net.layer(&reshape, Reshape::new((self.channels, 1, 1)))?;
        net.conv(&reduce, &[&self.stems[0]], Conv2D::new(self.narrow, 1).activation(self.inner))?;
        net.conv(&expand, &[&self.stems[1]], Conv2D::new(self.channels, 1).activation(self.gate))?;
        net.join(&product, Multiply, &[input, net.last()])
    }
}
