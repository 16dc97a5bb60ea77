//! Normalisations.

use super::file::OnnxNode;
use super::importer::Importer;
use super::view::{Value, View};
use crate::nn::{BatchNormalization, Build, GroupNormalization, LayerNormalization};

/// Default epsilon of ONNX's normalisations.
const EPSILON: f32 = 1e-5;

impl<'a> Importer<'a> {
    pub(super) fn add_batch_norm(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        if node.int("training_mode", 0)? != 0 {
            return Err("expected a model exported for inference, found one for training".into());
        }
        let view = self.arranged(node.input(0))?;
        let mut weights = Vec::new();
        for input in 1..5 {
            weights.push(self.weight(node.input(input))?.floats());
        }
        let layer = BatchNormalization::default()
            .epsilon(f64::from(node.float("epsilon", EPSILON)?))
            .momentum(f64::from(node.float("momentum", 0.9)?));
        self.add_norm(node, view, layer, weights)
    }

    pub(super) fn add_layer_norm(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let view = self.settled(node.input(0))?;
        let axis = node.int("axis", -1)?;
        if axis != -1 && usize::try_from(axis) != Ok(view.order.len()) {
            return Err(format!("attribute `axis`: expected the last dimension, found {axis}"));
        }
        let weights = self.scale_and_shift(node)?;
        let layer = LayerNormalization::default().epsilon(f64::from(node.float("epsilon", EPSILON)?));
        // Channels last for this operator only: the layer has a form for channels first.
        if view.is_channels_last() {
            return self.add_norm(node, view, layer.axis(1), weights);
        }
        let view = self.arranged(node.input(0))?;
        self.add_norm(node, view, layer, weights)
    }

    pub(super) fn add_group_norm(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let view = self.arranged(node.input(0))?;
        // An instance is a group of one channel.
        let channels = view.shape[0];
        let groups = match node.op {
            "InstanceNormalization" => channels,
            _ => usize::try_from(node.int("num_groups", 0)?).unwrap_or(0),
        };
        let weights = self.scale_and_shift(node)?;
        let layer = GroupNormalization::new(groups).epsilon(f64::from(node.float("epsilon", EPSILON)?));
        self.add_norm(node, view, layer, weights)
    }

    /// Scale and shift of a node; a missing shift is 0.
    fn scale_and_shift(&self, node: &OnnxNode) -> Result<Vec<Vec<f32>>, String> {
        let scale = self.weight(node.input(1))?.floats();
        let shift = match node.input(2) {
            "" => vec![0.0; scale.len()],
            name => self.weight(name)?.floats(),
        };
        Ok(vec![scale, shift])
    }

    fn add_norm<B: Build>(
        &mut self,
        node: &'a OnnxNode<'a>,
        view: View,
        layer: B,
        weights: Vec<Vec<f32>>,
    ) -> Result<(), String> {
        let label = self.weighted_label(&[node.input(1)], node, node.output());
        let added = self.layer(&label, layer, &[view.node], &weights)?;
        self.set(node.output(), Value::View(View { node: added, ..view }));
        Ok(())
    }
}
