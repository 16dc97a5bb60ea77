//! Imports self-attention as one layer.
//!
//! The weights are read from the projections. The layer is then compared with the nodes on random tokens. Attention of
//! another form is therefore an error, never a wrong model.

use std::collections::HashSet;

use candle_core::Tensor;

use super::attention_nodes::AttentionNodes;
use super::evaluation::Tensors;
use super::importer::{Importer, text};
use super::layer_names::{cleaned, layer_of};
use super::linear::{matrix, transposed};
use super::value_error;
use super::view::{Value, View};
use crate::check::check_memory;
use crate::nn::{Initializer, Mode, MultiHeadAttention};
use crate::{device, random};

/// Largest difference of the layer from the nodes, relative to the largest value (1e-4: rounding of f32).
const TOLERANCE: f32 = 1e-4;
/// Largest absolute value of the random tokens (5: the softmax is then far from uniform).
const LIMIT: f32 = 5.0;
/// Largest batch of a file with a fixed batch size (64: the nodes are computed for a whole batch).
const MAX_BATCH: usize = 64;

/// Weights of an attention, in the layout of the layer.
struct Weights {
    heads: usize,
    inside: usize,
    values: Vec<Vec<f32>>,
    /// Names of the weights in the file.
    names: Vec<String>,
}

/// A projection: its kernel `[units, inputs]` and its bias.
struct Projection {
    kernel: Vec<f32>,
    bias: Vec<f32>,
    inputs: usize,
    names: Vec<String>,
}

impl<'a> Importer<'a> {
    /// Adds the layer for self-attention that was found in the graph.
    pub(super) fn add_attention(&mut self, found: &AttentionNodes<'a>) -> Result<(), String> {
        let input = self.ordered_output(found.entry)?;
        let [tokens, width] = *input.shape else {
            let found = &input.shape;
            return Err(format!(
                "expected [batch, tokens, features], found the shape {found:?} without the batch"
            ));
        };
        let batch = self.batch.map_or(Some(2), |batch| usize::try_from(batch).ok());
        let batch = batch.filter(|batch| (1..=MAX_BATCH).contains(batch)).ok_or_else(|| {
            format!("expected a batch size from 1 to {MAX_BATCH}; export the model with a batch of any size")
        })?;
        check_memory("the tokens", &[batch, tokens, width]).map_err(text)?;
        let x = random::uniform(&mut random::seeded(0), &[batch, tokens, width], LIMIT, &device());
        let x = x.map_err(text)?;
        // While the nodes are computed, the batch size is known.
        let (values, own_batch) = (self.values.clone(), self.batch.replace(batch as i64));
        let evaluated = self.evaluate(&found.nodes, found.entry, x.clone());
        let read = evaluated.and_then(|tensors| {
            let weights = self.attention_weights(found, &tensors, batch)?;
            let result = tensors.get(found.end).cloned();
            Ok((weights, result.ok_or("expected a result that depends on the tokens")?))
        });
        (self.values, self.batch) = (values, own_batch);
        let (weights, expected) = read?;
        let label = self.attention_label(found, &weights.names);
        let layer = MultiHeadAttention::new(weights.heads)
            .key_dim(weights.inside / weights.heads)
            .kernel_initializer(Initializer::Zeros);
        let added = self.layer(&label, layer, &[input.node], &weights.values)?;
        let computed = self.built(added).forward(&[&x], Mode::Inference).map_err(text)?;
        if !is_close(&computed, &expected).map_err(value_error)? {
            return Err(
                "expected scaled dot-product attention without a mask, as `MultiHeadAttention` computes it; \
                        the nodes compute other values"
                    .into(),
            );
        }
        self.set(found.end, Value::View(View::of(added, &[tokens, width])));
        Ok(())
    }

    /// Reads the weights of an attention. The values of its nodes give the number of heads.
    fn attention_weights(
        &self,
        found: &AttentionNodes<'a>,
        tensors: &Tensors<'a>,
        batch: usize,
    ) -> Result<Weights, String> {
        let softmax = &self.file.nodes[found.softmax];
        let heads = match tensors.get(softmax.input(0)).map(|scores| scores.dims().to_vec()).as_deref() {
            Some([groups @ .., _, _]) => groups.iter().product::<usize>() / batch,
            _ => 0,
        };
        let mut parts = Vec::new();
        for index in self.in_order(found)? {
            parts.push(self.projection(index, found)?);
        }
        let rows: usize = parts.iter().map(|part| part.bias.len()).sum();
        let inside = rows / 3;
        if heads == 0 || inside == 0 || !rows.is_multiple_of(3) || !inside.is_multiple_of(heads) {
            return Err(format!(
                "expected queries, keys and values of equal sizes, found {rows} rows and {heads} heads"
            ));
        }
        let output = self.projection(found.output, found)?;
        let width = parts[0].inputs;
        if parts.iter().any(|part| part.inputs != width)
            || [output.bias.len(), output.inputs] != [width, inside]
        {
            return Err(format!("expected an output of {width} features, as the input"));
        }
        let names = parts.iter().chain([&output]).flat_map(|part| part.names.clone()).collect();
        let joined =
            |part: fn(&Projection) -> &Vec<f32>| parts.iter().flat_map(part).copied().collect::<Vec<f32>>();
        let values = vec![
            joined(|part| &part.kernel),
            joined(|part| &part.bias),
            output.kernel.clone(),
            output.bias.clone(),
        ];
        Ok(Weights { heads, inside, values, names })
    }

    /// The projections to queries, keys and values in this order, or the single one.
    fn in_order(&self, found: &AttentionNodes<'a>) -> Result<Vec<usize>, String> {
        if let [single] = *found.projections {
            return Ok(vec![single]);
        }
        let (scores, context) = (&self.file.nodes[found.scores], &self.file.nodes[found.context]);
        let mut order = Vec::new();
        for value in [scores.input(0), scores.input(1), context.input(1)] {
            let mut before =
                found.projections.iter().copied().filter(|index| self.leads_to(*index, value, found));
            match (before.next(), before.next()) {
                (Some(index), None) => order.push(index),
                _ => return Err("expected one projection each to queries, keys and values".into()),
            }
        }
        Ok(order)
    }

    /// Whether a node is among those that compute a value.
    fn leads_to(&self, index: usize, value: &str, found: &AttentionNodes<'a>) -> bool {
        let (mut open, mut seen) = (vec![value], HashSet::new());
        while let Some(value) = open.pop() {
            let Some(&producer) = self.producers.get(value) else { continue };
            if producer == index {
                return true;
            }
            let is_inside = value != found.entry && found.nodes.contains(&producer);
            if is_inside && seen.insert(producer) {
                open.extend(&self.file.nodes[producer].inputs);
            }
        }
        false
    }

    /// Reads the kernel and the bias of a projection.
    fn projection(&self, index: usize, found: &AttentionNodes<'a>) -> Result<Projection, String> {
        let node = &self.file.nodes[index];
        let weight = self.weight(node.input(1))?;
        let [rows, columns] = matrix(&weight)?;
        let is_transposed = node.op == "Gemm" && node.int("transB", 0)? != 0;
        let (mut kernel, [units, inputs]) = match is_transposed {
            true => (weight.floats(), [rows, columns]),
            false => (transposed(&weight.floats(), [rows, columns]), [columns, rows]),
        };
        let (mut bias, mut name, mut beta) = (None, "", 1.0);
        if node.op == "Gemm" {
            let alpha = node.float("alpha", 1.0)?;
            kernel.iter_mut().for_each(|value| *value *= alpha);
            (name, beta) = (node.input(2), node.float("beta", 1.0)?);
        } else if let Some(next) = self.only_reader(node.output()).filter(|next| found.nodes.contains(next))
            && self.file.nodes[next].op == "Add"
        {
            let next = &self.file.nodes[next];
            name = if next.input(0) == node.output() { next.input(1) } else { next.input(0) };
        }
        if !name.is_empty() {
            let values = self.weight(name)?.floats();
            let values = values.iter().map(|value| value * beta).collect::<Vec<f32>>();
            if values.len() != units {
                return Err(format!("expected a bias of {units} values, found {}", values.len()));
            }
            bias = Some(values);
        }
        let names = [node.input(1), name].map(str::to_owned).to_vec();
        Ok(Projection { kernel, bias: bias.unwrap_or_else(|| vec![0.0; units]), inputs, names })
    }

    /// The name of the layer: what the names of the weights, or of the nodes, have in common.
    fn attention_label(&self, found: &AttentionNodes<'a>, weights: &[String]) -> String {
        let of_weight = |name: &String| Some(layer_of(name)?.rsplit_once('.')?.0.to_owned());
        if let Some(label) = weights.iter().find_map(of_weight) {
            return label;
        }
        match cleaned(self.file.nodes[found.softmax].name).rsplit_once('/') {
            Some((label, _)) => label.to_owned(),
            None => self.label(found.end),
        }
    }
}

/// Whether two results differ by rounding only.
fn is_close(found: &Tensor, expected: &Tensor) -> candle_core::Result<bool> {
    if found.dims() != expected.dims() {
        return Ok(false);
    }
    let largest = |tensor: &Tensor| tensor.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
    let (difference, scale) = (largest(&(found - expected)?)?, largest(expected)?);
    Ok(difference <= TOLERANCE * scale)
}
