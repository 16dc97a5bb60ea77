//! Walks an architecture's table: layer by layer into a model, with the name that each layer's
//! weights have in files.

use crate::nn::{
    Activation, BatchNormalization, Conv2D, Dense, Initializer, LayerSpec, Model, ModelBuilder, NodeId,
};
use crate::{Result, random};

/// A layer, and the stem of its tensors' names in torchvision's files.
pub(crate) struct TensorStem {
    pub(crate) layer: String,
    pub(crate) stem: String,
}

/// A model in the making, with the names of its weights.
pub(crate) struct Assembler {
    builder: ModelBuilder,
    stems: Vec<TensorStem>,
    initializer: Initializer,
    last: NodeId,
}

impl Assembler {
    /// Begins a model; without a seed its weights begin as zeros, to be filled from a file.
    pub(crate) fn new(name: &str, input_shape: &[usize], seed: Option<u64>) -> Result<Assembler> {
        let random = random::seeded(seed.unwrap_or_default());
        let builder = ModelBuilder::with_random(name, input_shape, random)?;
        let initializer = if seed.is_some() { Initializer::GlorotUniform } else { Initializer::Zeros };
        let last = builder.input();
        Ok(Assembler { builder, stems: Vec::new(), initializer, last })
    }

    /// The layer added last.
    pub(crate) fn last(&self) -> NodeId {
        self.last
    }

    /// Goes on from another layer than the last: a branch.
    pub(crate) fn branch_from(&mut self, node: NodeId) {
        self.last = node;
    }

    /// Adds a layer without weights on the last one.
    pub(crate) fn layer(&mut self, name: &str, layer: impl Into<LayerSpec>) -> Result<()> {
        self.join(name, layer, &[self.last])
    }

    /// Adds a layer on several.
    pub(crate) fn join(&mut self, name: &str, layer: impl Into<LayerSpec>, inputs: &[NodeId]) -> Result<()> {
        self.last = self.builder.add(name, layer, inputs)?;
        Ok(())
    }

    pub(crate) fn conv(&mut self, name: &str, stem: String, conv: Conv2D) -> Result<()> {
        self.weighted(name, stem, conv.kernel_initializer(self.initializer))
    }

    pub(crate) fn batch_norm(&mut self, name: &str, stem: String, norm: BatchNormalization) -> Result<()> {
        self.weighted(name, stem, norm)
    }

    pub(crate) fn dense(
        &mut self,
        name: &str,
        stem: &str,
        units: usize,
        activation: Activation,
    ) -> Result<()> {
        let dense = Dense::new(units).activation(activation).kernel_initializer(self.initializer);
        self.weighted(name, stem.to_owned(), dense)
    }

    fn weighted(&mut self, name: &str, stem: String, layer: impl Into<LayerSpec>) -> Result<()> {
        self.stems.push(TensorStem { layer: name.to_owned(), stem });
        self.layer(name, layer)
    }

    pub(crate) fn finish(self) -> (Model, Vec<TensorStem>) {
        (self.builder.finish(self.last), self.stems)
    }
}
