//! Builds an architecture layer by layer, and records the names of each layer's weights in files.

use crate::nn::{
    Activation, BatchNormalization, Conv2D, Dense, Initializer, Labels, LayerSpec, Model, ModelBuilder,
    MultiHeadAttention, NodeId, PositionEmbedding, Preprocessing,
};
use crate::weights::TensorStems;
use crate::{Result, random};

/// Builder of a network, with the names of its weights in files.
pub(crate) struct Assembler {
    builder: ModelBuilder,
    stems: Vec<TensorStems>,
    initializer: Initializer,
    alpha: f64,
    /// Rate of stochastic depth that the last blocks approach.
    pub(crate) drop_connect_rate: f32,
    last: NodeId,
    image_sides: [usize; 2],
}

impl Assembler {
    /// Starts a network. Without a seed the weights are zeros, to be loaded from a file.
    pub(crate) fn new(
        name: &str,
        input_shape: &[usize],
        seed: Option<u64>,
        initializer: Initializer,
        alpha: f64,
    ) -> Result<Assembler> {
        let random = random::seeded(seed.unwrap_or_default());
        let builder = ModelBuilder::with_random(name, input_shape, random)?;
        let initializer = if seed.is_some() { initializer } else { Initializer::Zeros };
        let last = builder.input();
        let image_sides = [1, 2].map(|axis| input_shape.get(axis).copied().unwrap_or(1));
        Ok(Assembler {
            builder,
            stems: Vec::new(),
            initializer,
            alpha,
            drop_connect_rate: 0.0,
            last,
            image_sides,
        })
    }

    pub(crate) fn drop_connect_rate(self, drop_connect_rate: f32) -> Assembler {
        Assembler { drop_connect_rate, ..self }
    }

    /// Number of channels for a layer that has `published` channels in the paper.
    pub(crate) fn width(&self, published: usize) -> usize {
        ((published as f64 * self.alpha).round() as usize).max(1)
    }

    /// Like [`Assembler::width`], but rounded as in EfficientNet's `round_filters`: a multiple of eight, and at
    /// least nine tenths of the unrounded width.
    pub(crate) fn width_in_eights(&self, published: f64) -> usize {
        round_to_eight(published * self.alpha)
    }

    /// Height and width of the images.
    pub(crate) fn image_sides(&self) -> [usize; 2] {
        self.image_sides
    }

    /// Whether the network has a layer with weights of this name.
    pub(crate) fn has(&self, layer: &str) -> bool {
        self.stems.iter().any(|stems| stems.layer == layer)
    }

    /// The layer that was added last.
    pub(crate) fn last(&self) -> NodeId {
        self.last
    }

    /// Shape of the last layer's output.
    pub(crate) fn output_shape(&self) -> &[usize] {
        self.builder.output_shape(self.last)
    }

    /// Continues from another layer than the last one.
    pub(crate) fn branch_from(&mut self, node: NodeId) {
        self.last = node;
    }

    /// Adds a layer without weights after the last one.
    pub(crate) fn layer(&mut self, name: &str, layer: impl Into<LayerSpec>) -> Result<()> {
        self.join(name, layer, &[self.last])
    }

    /// Adds a layer with several inputs.
    pub(crate) fn join(&mut self, name: &str, layer: impl Into<LayerSpec>, inputs: &[NodeId]) -> Result<()> {
        self.last = self.builder.add(name, layer.into(), inputs)?;
        Ok(())
    }

    pub(crate) fn conv(&mut self, name: &str, stems: &[&str], conv: Conv2D) -> Result<()> {
        self.weighted(name, stems, conv.kernel_initializer(self.initializer))
    }

    pub(crate) fn batch_norm(&mut self, name: &str, stems: &[&str], norm: BatchNormalization) -> Result<()> {
        self.weighted(name, stems, norm)
    }

    pub(crate) fn dense(&mut self, name: &str, stems: &[&str], units: usize, last: Activation) -> Result<()> {
        self.weighted(name, stems, Dense::new(units).activation(last).kernel_initializer(self.initializer))
    }

    /// Adds a dense layer inside the network.
    pub(crate) fn kernel(&mut self, name: &str, stems: &[&str], layer: Dense) -> Result<()> {
        self.weighted(name, stems, layer.kernel_initializer(self.initializer))
    }

    pub(crate) fn attention(&mut self, name: &str, stem: &str, layer: MultiHeadAttention) -> Result<()> {
        self.weighted(name, &[stem], layer.kernel_initializer(self.initializer))
    }

    /// Adds position embeddings of a grid of patches. Those of a file for another grid are interpolated.
    pub(crate) fn positions(
        &mut self,
        name: &str,
        stem: &str,
        grid: [usize; 2],
        layer: PositionEmbedding,
    ) -> Result<()> {
        self.weighted(name, &[stem], layer)?;
        if let Some(stems) = self.stems.last_mut() {
            stems.grid = Some(grid);
        }
        Ok(())
    }

    /// Adds a layer with weights, which have the given names in files.
    pub(crate) fn weighted(&mut self, name: &str, stems: &[&str], layer: impl Into<LayerSpec>) -> Result<()> {
        let stems = stems.iter().map(|stem| stem.to_string()).collect();
        self.stems.push(TensorStems { layer: name.to_owned(), stems, grid: None });
        self.layer(name, layer)
    }

    /// Returns the network, and the names of its weights. The other arguments are metadata of the weights.
    pub(crate) fn finish(
        mut self,
        preprocessing: Preprocessing,
        labels: Option<Labels>,
        pretrained: bool,
        of_keras: bool,
    ) -> Result<(Model, Vec<TensorStems>)> {
        self.builder.describe(preprocessing, labels, pretrained, of_keras);
        Ok((self.builder.finish(self.last)?, self.stems))
    }
}

/// The nearest multiple of eight that is at least nine tenths of the number: EfficientNet's `round_filters`.
pub(crate) fn round_to_eight(channels: f64) -> usize {
    let width = ((channels + 4.0) as usize / 8 * 8).max(8);
    if (width as f64) < 0.9 * channels { width + 8 } else { width }
}
