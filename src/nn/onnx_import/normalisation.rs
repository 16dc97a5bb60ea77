//! Normalisations.

use super::arithmetic::per_channel;
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
        let view = self.ordered_output(node.input(0))?;
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
        let view = self.layer_output(node.input(0))?;
        let axis = node.int("axis", -1)?;
        if axis != -1 && usize::try_from(axis) != Ok(view.order.len()) {
            return Err(format!("attribute `axis`: expected the last dimension, found {axis}"));
        }
        let weights = self.scale_and_shift(node)?;
        let layer = LayerNormalization::default().epsilon(f64::from(node.float("epsilon", EPSILON)?));
        // The value is channels last for this operator only: the layer also supports channels first.
        if view.is_channels_last() {
            return self.add_norm(node, view, layer.axis(1), weights);
        }
        let view = self.ordered_output(node.input(0))?;
        self.add_norm(node, view, layer, weights)
    }

    pub(super) fn add_group_norm(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        if node.op == "InstanceNormalization" && self.add_grouped_instances(node)? {
            return Ok(());
        }
        let view = self.ordered_output(node.input(0))?;
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

    /// Imports an instance normalisation of groups of channels, followed by a scale and a shift per channel, as a group
    /// normalisation. Returns false if the nodes do not have this form. The nodes after it are absorbed.
    pub(super) fn add_grouped_instances(&mut self, node: &'a OnnxNode<'a>) -> Result<bool, String> {
        let view = self.view(node.input(0))?;
        let dims = self.shape(view.node).to_vec();
        let [groups, _] = *view.shape else { return Ok(false) };
        let units = self.scale_and_shift(node)?;
        let are = |values: &[f32], unit: f32| values.iter().all(|value| *value == unit);
        if !view.is_in_order()
            || !dims[0].is_multiple_of(groups)
            || !are(&units[0], 1.0)
            || !are(&units[1], 0.0)
        {
            return Ok(false);
        }
        let Some(reshape) = self.only_reader(node.output()).filter(|&index| self.restores(index, &dims))
        else {
            return Ok(false);
        };
        let restored = self.file.nodes[reshape].output();
        let Some(scaling) = self.only_reader(restored).filter(|&index| self.file.nodes[index].op == "Mul")
        else {
            return Ok(false);
        };
        let mul = &self.file.nodes[scaling];
        let other = if mul.input(0) == restored { mul.input(1) } else { mul.input(0) };
        let Ok(Some(scale)) = self.constant(other) else { return Ok(false) };
        let Some((0, scale)) = per_channel(&scale, &dims) else { return Ok(false) };
        let Some((shift, output, name)) = self.absorb_shift(mul.output(), &dims, 0)? else {
            return Ok(false);
        };
        self.absorb(reshape);
        self.absorb(scaling);
        let input = match view.function.is_identity() {
            true => view.node,
            false => self.apply(&view.function, view.node, "")?,
        };
        let epsilon = f64::from(node.float("epsilon", EPSILON)?);
        let label = self.weighted_label(&[other, name], node, output);
        let layer = GroupNormalization::new(groups).epsilon(epsilon);
        let added = self.layer(&label, layer, &[input], &[scale, shift])?;
        self.set(output, Value::View(View::of(added, &dims)));
        Ok(true)
    }

    /// Whether a node is a reshape to these sizes.
    fn restores(&self, index: usize, dims: &[usize]) -> bool {
        let node = &self.file.nodes[index];
        let sizes = node.input(1);
        if node.op != "Reshape" {
            return false;
        }
        if let Ok(Some(constant)) = self.constant(sizes) {
            let found =
                constant.ints().unwrap_or_default().iter().skip(1).map(|size| usize::try_from(*size).ok());
            return found.eq(dims.iter().map(|size| Some(*size)));
        }
        // The sizes of an earlier value, which a later node computes.
        let producer = self.producers.get(sizes).map(|&index| &self.file.nodes[index]);
        let source =
            producer.filter(|node| node.op == "Shape").and_then(|node| self.view(node.input(0)).ok());
        source.is_some_and(|view| view.dims() == dims)
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
