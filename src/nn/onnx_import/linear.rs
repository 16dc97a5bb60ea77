//! Matrix products with weights: dense layers.

use super::file::OnnxNode;
use super::importer::Importer;
use super::tensor::Constant;
use super::view::{Value, View};
use crate::nn::{Activation, Dense, Initializer};

/// The transposed matrix.
pub(super) fn transposed(matrix: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| matrix[row * columns + column])).collect()
}

/// The sizes of a constant matrix: rows and columns.
pub(super) fn matrix(constant: &Constant) -> Result<[usize; 2], String> {
    match *constant.dims {
        [rows, columns] if rows > 0 && columns > 0 => Ok([rows, columns]),
        _ => Err(format!("expected a matrix as the weight, found the shape {:?}", constant.dims)),
    }
}

impl<'a> Importer<'a> {
    /// `alpha · x · W + beta · b` of vectors.
    pub(super) fn add_gemm(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        if node.int("transA", 0)? != 0 {
            return Err("expected the value itself as the first operand, found it transposed".into());
        }
        let kernel = self.weight(node.input(1))?;
        let [rows, columns] = matrix(&kernel)?;
        // A layer's kernel is `[units, inputs]`.
        let (mut values, [units, inputs]) = match node.int("transB", 0)? {
            0 => (transposed(&kernel.floats(), [rows, columns]), [columns, rows]),
            _ => (kernel.floats(), [rows, columns]),
        };
        let scaled = |values: &mut Vec<f32>, factor: f32| {
            if factor != 1.0 {
                values.iter_mut().for_each(|value| *value *= factor);
            }
        };
        scaled(&mut values, node.float("alpha", 1.0)?);
        let bias = match node.input(2) {
            "" => None,
            name => {
                let constant = self.weight(name)?;
                let mut bias = constant.floats();
                if bias.len() == 1 {
                    bias = vec![bias[0]; units];
                }
                if bias.len() != units {
                    return Err(format!(
                        "expected a bias of {units} values, found the shape {:?}",
                        constant.dims
                    ));
                }
                scaled(&mut bias, node.float("beta", 1.0)?);
                Some(bias)
            }
        };
        let dims = self.view(node.input(0))?.dims();
        if dims != [inputs] {
            return Err(format!("expected an input [batch, {inputs}], found [batch, {dims:?}]"));
        }
        self.add_dense(node, values, units, bias)
    }

    /// `x · W` over the last dimension.
    pub(super) fn add_product(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let kernel = self.weight(node.input(1))?;
        let [inputs, units] = matrix(&kernel)?;
        let dims = self.view(node.input(0))?.dims();
        if dims.last() != Some(&inputs) {
            return Err(format!("expected an input of {inputs} features, found [batch, {dims:?}]"));
        }
        self.add_dense(node, transposed(&kernel.floats(), [inputs, units]), units, None)
    }

    fn add_dense(
        &mut self,
        node: &'a OnnxNode<'a>,
        kernel: Vec<f32>,
        units: usize,
        mut bias: Option<Vec<f32>>,
    ) -> Result<(), String> {
        let input = self.ordered_output(node.input(0))?;
        let mut output = node.output();
        let last = input.shape.len() - 1;
        let mut shift = "";
        if bias.is_none() {
            let mut dims = input.shape.clone();
            dims[last] = units;
            if let Some((values, next, name)) = self.absorb_shift(output, &dims, last)? {
                (bias, output, shift) = (Some(values), next, name);
            }
        }
        let (mut activation, mut output) = self.absorb_activation(output)?;
        if activation == Activation::Linear
            && let Some((index, next)) = self.softmax_after(output, last + 1)?
        {
            self.absorb(index);
            (activation, output) = (Activation::Softmax, next);
        }
        let layer = Dense::new(units).activation(activation).use_bias(bias.is_some());
        let layer = layer.channels_last(input.shape.len() == 3).kernel_initializer(Initializer::Zeros);
        let label = self.weighted_label(&[node.input(1), shift], node, output);
        let weights: Vec<Vec<f32>> = std::iter::once(kernel).chain(bias).collect();
        let added = self.layer(&label, layer, &[input.node], &weights)?;
        self.set(output, Value::View(View::of(added, self.shape(added))));
        Ok(())
    }

    /// The softmax over the last dimension that is the only reader of a value. `rank` does not count the batch.
    fn softmax_after(&self, value: &str, rank: usize) -> Result<Option<(usize, &'a str)>, String> {
        let Some(index) = self.only_reader(value) else { return Ok(None) };
        let next = &self.file.nodes[index];
        let is_softmax = next.is_standard() && next.op == "Softmax" && self.is_over_last(next, rank)?;
        Ok(is_softmax.then(|| (index, next.output())))
    }

    /// Whether a softmax is over the last dimension of a value. `rank` does not count the batch.
    fn is_over_last(&self, node: &OnnxNode, rank: usize) -> Result<bool, String> {
        // Before opset 13, softmax flattened all dimensions from the axis on.
        let default = if self.file.opset < 13 { 1 } else { -1 };
        let axis = node.int("axis", default)?;
        Ok(axis == -1 || usize::try_from(axis) == Ok(rank))
    }

    pub(super) fn add_softmax(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let mut view = self.layer_output(node.input(0))?;
        // A softmax of feature maps is over the channels, which come first in our layers.
        let is_of_maps = view.shape.len() == 3;
        if !is_of_maps {
            view = self.ordered_output(node.input(0))?;
        }
        let channels = view.order.iter().position(|axis| *axis == 0);
        let axis = usize::try_from(node.int("axis", -1)?).ok();
        // Before opset 13, a softmax over the channels of `[N, C, H, W]` was over the pixels too.
        let is_over_channels = self.file.opset >= 13 && axis == channels.map(|at| at + 1);
        let is_over_last = self.is_over_last(node, view.shape.len())?;
        let is_right = match is_of_maps {
            true => is_over_channels || is_over_last && channels == Some(2),
            false => is_over_last,
        };
        if !is_right {
            return Err(
                "expected a softmax over the last dimension, or over the channels of feature maps".into()
            );
        }
        let label = self.label(node.output());
        let added = self.layer(&label, Activation::Softmax, &[view.node], &[])?;
        self.set(node.output(), Value::View(View { node: added, ..view }));
        Ok(())
    }
}
