//! Squeeze and excitation: scales each channel by a factor computed from all channel means (Hu et al. 2017).

use super::assembler::Assembler;
use crate::Result;
use crate::nn::{Activation, Conv2D, GlobalAveragePooling2D, Multiply, Reshape};

/// Squeeze and excitation of one block.
pub(super) struct Squeeze<'a> {
    /// Prefix of the layers' names.
    pub(super) name: &'a str,
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
        let (input, name) = (net.last(), self.name);
        net.layer(&format!("{name}_se_squeeze"), GlobalAveragePooling2D)?;
        net.layer(&format!("{name}_se_reshape"), Reshape::new((self.channels, 1, 1)))?;
        let reduce = Conv2D::new(self.narrow, 1).activation(self.inner);
        net.conv(&format!("{name}_se_reduce"), &[&self.stems[0]], reduce)?;
        let expand = Conv2D::new(self.channels, 1).activation(self.gate);
        net.conv(&format!("{name}_se_expand"), &[&self.stems[1]], expand)?;
        net.join(&format!("{name}_se_excite"), Multiply, &[input, net.last()])
    }
}
