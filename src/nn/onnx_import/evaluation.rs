//! Computes nodes for given values, to compare them with a layer.

use std::collections::HashMap;
use std::rc::Rc;

use candle_core::{D, DType, Tensor};

use super::arithmetic::unary;
use super::file::OnnxNode;
use super::importer::{Importer, text};
use super::shapes::axes;
use super::tensor::Constant;
use super::value_error;
use super::view::Value;
use crate::check::check_memory;
use crate::device;

/// Values by name.
pub(super) type Tensors<'a> = HashMap<&'a str, Tensor>;

impl<'a> Importer<'a> {
    /// Computes nodes, in the given order, from the value of `entry`. Sizes become constants of the importer, so the
    /// caller restores its values.
    pub(super) fn evaluate(
        &mut self,
        nodes: &[usize],
        entry: &'a str,
        value: Tensor,
    ) -> Result<Tensors<'a>, String> {
        let mut tensors = HashMap::from([(entry, value)]);
        for &index in nodes {
            let node = &self.file.nodes[index];
            self.evaluate_node(node, &mut tensors).map_err(|problem| {
                format!("its node {index}, of the operator {}: {problem}", node.operator())
            })?;
        }
        Ok(tensors)
    }

    /// Computes one node. Its output becomes a tensor, or a constant of the importer if it does not depend on `entry`.
    fn evaluate_node(&mut self, node: &'a OnnxNode<'a>, tensors: &mut Tensors<'a>) -> Result<(), String> {
        if node.op == "Shape" {
            return match tensors.get(node.input(0)).map(|tensor| tensor.dims().to_vec()) {
                Some(dims) => self.set_sizes(node, dims.into_iter().map(|size| size as i64).collect()),
                None => self.add_shape(node),
            };
        }
        if !node.inputs.iter().any(|input| tensors.contains_key(input)) {
            let constant = self.computed(node)?.ok_or("its inputs are not known")?;
            self.set(node.output(), Value::Constant(Rc::new(constant)));
            return Ok(());
        }
        let outputs = self.outputs(node, tensors)?;
        for (name, tensor) in node.outputs.iter().zip(outputs) {
            tensors.insert(name, tensor);
        }
        Ok(())
    }

    /// A value as a tensor of floats.
    fn operand(&self, name: &str, tensors: &Tensors<'a>) -> Result<Tensor, String> {
        match tensors.get(name) {
            Some(tensor) => Ok(tensor.clone()),
            None => tensor_of(&*self.weight(name)?),
        }
    }

    /// The outputs of a node with at least one known tensor.
    fn outputs(&self, node: &'a OnnxNode<'a>, tensors: &Tensors<'a>) -> Result<Vec<Tensor>, String> {
        let x = self.operand(node.input(0), tensors)?;
        let second = || self.operand(node.input(1), tensors);
        let dims = x.dims().to_vec();
        if node.op == "Split" {
            return self.parts(node, &x);
        }
        let output = match node.op {
            "Add" | "Sub" | "Mul" | "Div" => {
                let y = second()?;
                check_broadcast(&dims, y.dims())?;
                match node.op {
                    "Add" => x.broadcast_add(&y),
                    "Sub" => x.broadcast_sub(&y),
                    "Mul" => x.broadcast_mul(&y),
                    _ => x.broadcast_div(&y),
                }
            }
            "MatMul" => {
                let y = second()?;
                check_product(&dims, y.dims())?;
                x.contiguous().and_then(|x| x.broadcast_matmul(&y.contiguous()?))
            }
            "Gemm" => return self.gemm(node, &x, tensors).map(|output| vec![output]),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => x.reshape(self.new_dims(node, &dims)?),
            "Transpose" => {
                let order = match node.ints("perm")? {
                    Some(order) => axes(order, dims.len())?,
                    None => (0..dims.len()).rev().collect(),
                };
                x.permute(order).and_then(|x| x.contiguous())
            }
            "Softmax" => {
                let axis = node.int("axis", if self.file.opset < 13 { 1 } else { -1 })?;
                if axis != -1 && usize::try_from(axis).map(|axis| axis + 1) != Ok(dims.len()) {
                    return Err(format!("attribute `axis`: expected the last dimension, found {axis}"));
                }
                candle_nn::ops::softmax(&x, D::Minus1)
            }
            "Gather" => {
                let indices = self.weight(node.input(1))?;
                let [axis] = *axes(&[node.int("axis", 0)?], dims.len())? else {
                    return Err("no axis".into());
                };
                let found = axes(indices.ints().ok_or("expected integers as indices")?, dims[axis])?;
                let shape = [&dims[..axis], &indices.dims, &dims[axis + 1..]].concat();
                select(&x, axis, &found).and_then(|selected| selected.reshape(shape))
            }
            "Slice" => {
                let mut part = x.clone();
                for (axis, positions) in self.slices(node, &dims)? {
                    part = select(&part, axis, &positions).map_err(value_error)?;
                }
                Ok(part)
            }
            "Concat" => {
                let [axis] = *axes(&[node.int("axis", 0)?], dims.len())? else {
                    return Err("no axis".into());
                };
                let all = node.inputs.iter().map(|input| self.operand(input, tensors));
                Tensor::cat(&all.collect::<Result<Vec<_>, _>>()?, axis)
            }
            "Expand" => {
                let sizes = self.weight(node.input(1))?;
                let target =
                    sizes.ints().unwrap_or_default().iter().map(|size| usize::try_from(*size).unwrap_or(1));
                let target: Vec<usize> = target.collect();
                check_broadcast(&dims, &target)?;
                let zeros = Tensor::zeros(target, DType::F32, x.device());
                zeros.and_then(|zeros| x.broadcast_add(&zeros))
            }
            "IsNaN" => x.ne(&x).and_then(|found| found.to_dtype(DType::F32)),
            "Where" => {
                let (yes, no) = (second()?, self.operand(node.input(2), tensors)?);
                let shape = x.shape().broadcast_shape_binary_op(yes.shape(), "where");
                let shape = shape.and_then(|shape| shape.broadcast_shape_binary_op(no.shape(), "where"));
                let shape = shape.map_err(value_error)?;
                check_memory("a result", shape.dims()).map_err(text)?;
                x.ne(0.0).and_then(|condition| {
                    let spread = |tensor: &Tensor| tensor.broadcast_as(&shape)?.contiguous();
                    spread(&condition)?.where_cond(&spread(&yes)?, &spread(&no)?)
                })
            }
            "Cast" | "Dropout" | "Identity" => Ok(x.clone()),
            _ => match unary(node, self)? {
                Some(function) => x.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).and_then(|values| {
                    let values: Vec<f32> =
                        values.iter().map(|value| function.at(f64::from(*value)) as f32).collect();
                    Tensor::from_vec(values, dims.as_slice(), x.device())
                }),
                None => return Err("it cannot be computed".into()),
            },
        };
        output.map(|output| vec![output]).map_err(value_error)
    }

    /// The output of `Gemm`.
    fn gemm(&self, node: &'a OnnxNode<'a>, x: &Tensor, tensors: &Tensors<'a>) -> Result<Tensor, String> {
        if node.int("transA", 0)? != 0 {
            return Err("expected the value itself as the first operand, found it transposed".into());
        }
        let mut kernel = self.operand(node.input(1), tensors)?;
        if node.int("transB", 0)? != 0 {
            kernel = kernel.t().map_err(value_error)?;
        }
        check_product(x.dims(), kernel.dims())?;
        let (alpha, beta) = (f64::from(node.float("alpha", 1.0)?), f64::from(node.float("beta", 1.0)?));
        let product = x.matmul(&kernel).and_then(|product| product * alpha).map_err(value_error)?;
        match node.input(2) {
            "" => Ok(product),
            name => {
                let bias = self.operand(name, tensors)?;
                check_broadcast(product.dims(), bias.dims())?;
                (bias * beta).and_then(|bias| product.broadcast_add(&bias)).map_err(value_error)
            }
        }
    }

    /// The outputs of `Split`.
    fn parts(&self, node: &'a OnnxNode<'a>, x: &Tensor) -> Result<Vec<Tensor>, String> {
        let [axis] = *axes(&[node.int("axis", 0)?], x.rank())? else { return Err("no axis".into()) };
        let (size, count) = (x.dims()[axis], node.outputs.len());
        let given = match (node.ints("split")?, node.input(1)) {
            (Some(sizes), _) => Some(sizes.to_vec()),
            (None, "") => None,
            (None, name) => Some(self.weight(name)?.ints().ok_or("expected integers as sizes")?.to_vec()),
        };
        let sizes: Vec<usize> = match given {
            Some(sizes) => sizes.iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect(),
            None => {
                // The last part may be smaller.
                let part = size.div_ceil(count);
                (0..count).map(|at| part.min(size.saturating_sub(at * part))).collect()
            }
        };
        let sum = sizes.iter().try_fold(0usize, |sum, size| sum.checked_add(*size));
        if sizes.len() != count || sum != Some(size) {
            return Err(format!("expected {count} sizes with the sum {size}, found {sizes:?}"));
        }
        let mut start = 0;
        let mut parts = Vec::new();
        for size in sizes {
            parts.push(x.narrow(axis, start, size).and_then(|part| part.contiguous()).map_err(value_error)?);
            start += size;
        }
        Ok(parts)
    }
}

/// A constant as a tensor of floats.
fn tensor_of(constant: &Constant) -> Result<Tensor, String> {
    Tensor::from_vec(constant.floats(), constant.dims.as_slice(), &device()).map_err(value_error)
}

/// The slices of a tensor at these positions of an axis.
fn select(x: &Tensor, axis: usize, positions: &[usize]) -> candle_core::Result<Tensor> {
    let positions: Vec<u32> = positions.iter().map(|at| *at as u32).collect();
    x.contiguous()?.index_select(&Tensor::from_slice(&positions, positions.len(), x.device())?, axis)
}

/// Checks that the result of broadcasting two shapes fits into memory.
fn check_broadcast(a: &[usize], b: &[usize]) -> Result<(), String> {
    let (long, short) = if a.len() < b.len() { (b, a) } else { (a, b) };
    let missing = long.len() - short.len();
    let whole = std::iter::repeat_n(&1, missing).chain(short).zip(long).map(|(a, b)| *a.max(b));
    check_memory("a result", &whole.collect::<Vec<_>>()).map_err(text)
}

/// Checks that two shapes can be multiplied as matrices, and that the product fits into memory.
fn check_product(a: &[usize], b: &[usize]) -> Result<(), String> {
    let ([batches_a @ .., _, inner], [batches_b @ .., rows, _]) = (a, b) else {
        return Err(format!("expected matrices, found the shapes {a:?} and {b:?}"));
    };
    if inner != rows {
        return Err(format!("expected matrices of one inner size, found the shapes {a:?} and {b:?}"));
    }
    let (long, short) =
        if batches_a.len() < batches_b.len() { (batches_b, batches_a) } else { (batches_a, batches_b) };
    let missing = long.len() - short.len();
    let whole = std::iter::repeat_n(&1, missing).chain(short).zip(long).map(|(a, b)| *a.max(b));
    let whole: Vec<usize> = whole.chain([a[a.len() - 2], b[b.len() - 1]]).collect();
    check_memory("a product", &whole).map_err(text)
}
