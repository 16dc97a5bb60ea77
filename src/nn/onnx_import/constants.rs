//! Operators on constants, and the dispatch of each operator to its import function.

use std::rc::Rc;

use super::arithmetic::unary;
use super::file::{Attribute, OnnxNode};
use super::function::Binary;
use super::importer::Importer;
use super::shapes::{BATCH, axes};
use super::tensor::{Constant, Values, is_float};
use super::view::Value;

/// The supported operators, for errors.
const SUPPORTED: &str = "Add, AveragePool, BatchNormalization, Cast, Clip, Concat, Constant, Conv, Div, Dropout, Erf, \
                         Exp, Expand, Flatten, Gather, Gelu, Gemm, GlobalAveragePool, GlobalMaxPool, GroupNormalization, HardSigmoid, \
                         HardSwish, Identity, InstanceNormalization, LayerNormalization, MatMul, Max, MaxPool, Min, \
                         Mul, Neg, Pad, Pow, Reciprocal, ReduceMax, ReduceMean, Relu, Reshape, Shape, Sigmoid, \
                         Slice, Softmax, Sqrt, Squeeze, Sub, Swish, Tanh, Transpose, Unsqueeze";

/// Maximum number of values of a constant that `Concat`, `ConstantOfShape` or `Gather` computes (65,536: such constants
/// only describe shapes).
const MAX_FILLED: usize = 1 << 16;

fn binary(op: &str) -> Option<Binary> {
    Some(match op {
        "Add" => Binary::Add,
        "Sub" => Binary::Subtract,
        "Mul" => Binary::Multiply,
        "Div" => Binary::Divide,
        "Pow" => Binary::Power,
        _ => return None,
    })
}

impl<'a> Importer<'a> {
    /// Imports a node.
    pub(super) fn add(&mut self, index: usize) -> Result<(), String> {
        let node = &self.file.nodes[index];
        let unsupported = || {
            format!(
                "no layer computes it; supported are {SUPPORTED}. Export the model up to an earlier node, or without this \
                 operator"
            )
        };
        if node.output().is_empty() {
            return Err("expected an output, found none".into());
        }
        // `Gelu` has the same meaning in other domains. Their other operators are not supported.
        if !node.is_standard() && node.op != "Gelu" {
            return Err(unsupported());
        }
        if node.op == "Shape" {
            return self.add_shape(node);
        }
        if let Some(constant) = self.computed(node)? {
            self.count_values(&constant)?;
            self.set(node.output(), Value::Constant(Rc::new(constant)));
            return Ok(());
        }
        if let Some(function) = unary(node, self)? {
            return self.add_unary(node, function);
        }
        if let Some(operator) = binary(node.op) {
            return self.add_binary(node, operator);
        }
        match node.op {
            "AveragePool" | "MaxPool" => self.add_pool(node),
            "BatchNormalization" => self.add_batch_norm(node),
            "Cast" if !is_float(node.int("to", 1)?) => Err("expected floats as the result".into()),
            "Cast" | "Dropout" | "Identity" => self.pass(node),
            "Concat" => self.add_concatenation(node),
            "Conv" => self.add_convolution(node),
            "Flatten" => self.add_flatten(node),
            "Gather" | "Slice" => self.add_first_token(node),
            "Gemm" => self.add_gemm(node),
            "GlobalAveragePool" | "GlobalMaxPool" => self.add_global_pool(node),
            "GroupNormalization" | "InstanceNormalization" => self.add_group_norm(node),
            "LayerNormalization" => self.add_layer_norm(node),
            "MatMul" => self.add_product(node),
            "Max" | "Min" => self.add_bound(node),
            "Pad" => self.add_padding(node),
            "ReduceMax" | "ReduceMean" => self.add_reduction(node),
            "Reshape" => self.add_reshape(node),
            "Softmax" => self.add_softmax(node),
            "Squeeze" => self.add_squeeze(node),
            "Transpose" => self.add_transpose(node),
            "Unsqueeze" => self.add_unsqueeze(node),
            _ => Err(unsupported()),
        }
    }

    /// The output of a node whose inputs are all constants.
    pub(super) fn computed(&self, node: &'a OnnxNode<'a>) -> Result<Option<Constant>, String> {
        if node.op == "Constant" {
            return self.constant_of(node).map(Some);
        }
        let mut inputs = Vec::new();
        for name in node.inputs.iter().filter(|name| !name.is_empty()) {
            match self.constant(name)? {
                Some(constant) => inputs.push(constant),
                None => return Ok(None),
            }
        }
        let Some(first) = inputs.first().cloned() else { return Ok(None) };
        let refuse = || "it cannot be computed from constants".to_owned();
        if let Some(operator) = unary(node, self)? {
            let values = first.floats().iter().map(|value| operator.at(f64::from(*value)) as f32).collect();
            return Ok(Some(Constant::from_floats(first.dims.clone(), values)));
        }
        Ok(Some(match node.op {
            "Cast" if is_float(node.int("to", 1)?) => {
                Constant::from_floats(first.dims.clone(), first.floats())
            }
            "Cast" => match &first.values {
                Values::Ints(_) => (*first).clone(),
                Values::Floats(values) => {
                    let values = values.iter().map(|value| *value as i64).collect();
                    Constant { dims: first.dims.clone(), values: Values::Ints(values) }
                }
            },
            "Dropout" | "Identity" => (*first).clone(),
            "Reshape" | "Unsqueeze" | "Squeeze" => {
                Constant { dims: self.new_dims(node, &first.dims)?, ..(*first).clone() }
            }
            "Transpose" => transposed(node, &first)?,
            "Concat" => {
                let mut all = Vec::new();
                for input in &inputs {
                    let is_list = input.dims.len() == 1;
                    all.extend_from_slice(input.ints().filter(|_| is_list).ok_or_else(refuse)?);
                    if all.len() > MAX_FILLED {
                        return Err(refuse());
                    }
                }
                Constant::from_ints(all)
            }
            "ConstantOfShape" => {
                let sizes: Option<Vec<usize>> =
                    first.ints().unwrap_or_default().iter().map(|size| usize::try_from(*size).ok()).collect();
                let dims = sizes.ok_or_else(refuse)?;
                let count = dims.iter().try_fold(1usize, |all, size| all.checked_mul(*size));
                let count = count.filter(|count| *count <= MAX_FILLED).ok_or_else(refuse)?;
                let value = match node.attributes.get("value") {
                    Some(Attribute::Tensor(tensor)) => self.decoded(tensor)?.values,
                    _ => Values::Floats(vec![0.0]),
                };
                let values = match value {
                    Values::Floats(values) => {
                        Values::Floats(vec![*values.first().ok_or_else(refuse)?; count])
                    }
                    Values::Ints(values) => Values::Ints(vec![*values.first().ok_or_else(refuse)?; count]),
                };
                Constant { dims, values }
            }
            "Gather" => {
                let indices = inputs.get(1).and_then(|indices| indices.ints()).ok_or_else(refuse)?;
                let [axis] = *axes(&[node.int("axis", 0)?], first.dims.len())? else { return Err(refuse()) };
                if indices.len().saturating_mul(first.dims.iter().product()) > MAX_FILLED {
                    return Err(refuse());
                }
                let found = first.selected(axis, &axes(indices, first.dims[axis])?);
                let shape = [&first.dims[..axis], &inputs[1].dims, &first.dims[axis + 1..]].concat();
                Constant { dims: shape, ..found }
            }
            "Slice" => {
                let mut found = (*first).clone();
                for (axis, positions) in self.slices(node, &first.dims)? {
                    found = found.selected(axis, &positions);
                }
                found
            }
            "Expand" | "Equal" | "Mod" | "Where" => {
                super::expansion::computed(node.op, &inputs).ok_or_else(refuse)?
            }
            op => match (binary(op), inputs.as_slice()) {
                (Some(operator), [a, b]) => combined(operator, a, b).ok_or_else(refuse)?,
                _ => return Ok(None),
            },
        }))
    }

    /// The positions that `Slice` takes of a value with these sizes, for each of its axes.
    pub(super) fn slices(&self, node: &OnnxNode, dims: &[usize]) -> Result<Vec<(usize, Vec<usize>)>, String> {
        let list = |input: usize, name: &str| -> Result<Option<Vec<i64>>, String> {
            match (node.ints(name)?, node.input(input)) {
                (Some(values), _) => Ok(Some(values.to_vec())),
                (None, "") => Ok(None),
                (None, name) => Ok(Some(self.weight(name)?.ints().unwrap_or_default().to_vec())),
            }
        };
        let refuse = || "expected starts and ends, one for each axis".to_owned();
        let (starts, ends) = (list(1, "starts")?.ok_or_else(refuse)?, list(2, "ends")?.ok_or_else(refuse)?);
        let all: Vec<i64> = (0..starts.len() as i64).collect();
        let sliced = axes(&list(3, "axes")?.unwrap_or(all), dims.len())?;
        let steps = list(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), sliced.len(), steps.len()] != [starts.len(); 3] {
            return Err(refuse());
        }
        let mut found = Vec::new();
        for (position, &axis) in sliced.iter().enumerate() {
            let (size, step) = (dims[axis] as i64, steps[position]);
            let counted = |bound: i64| if bound < 0 { bound.saturating_add(size) } else { bound };
            let (start, end) = (counted(starts[position]), counted(ends[position]));
            let indices: Vec<usize> = match step {
                1.. => (start.clamp(0, size)..end.clamp(0, size))
                    .step_by(step as usize)
                    .map(|at| at as usize)
                    .collect(),
                0 => return Err("expected steps other than 0".into()),
                _ => {
                    let range = (end.clamp(-1, size - 1) + 1)..=start.clamp(-1, size - 1);
                    range.rev().step_by(step.unsigned_abs() as usize).map(|at| at as usize).collect()
                }
            };
            found.push((axis, indices));
        }
        Ok(found)
    }

    fn constant_of(&self, node: &OnnxNode) -> Result<Constant, String> {
        let attribute = |name: &str| node.attributes.get(name);
        if let Some(Attribute::Tensor(tensor)) = attribute("value") {
            return self.decoded(tensor);
        }
        Ok(
            match (
                attribute("value_int"),
                attribute("value_float"),
                attribute("value_ints"),
                attribute("value_floats"),
            ) {
                (Some(Attribute::Int(value)), ..) => {
                    Constant { dims: Vec::new(), values: Values::Ints(vec![*value]) }
                }
                (_, Some(Attribute::Float(value)), ..) => Constant::from_floats(Vec::new(), vec![*value]),
                (_, _, Some(Attribute::Ints(values)), _) => Constant::from_ints(values.clone()),
                (.., Some(Attribute::Floats(values))) => {
                    Constant::from_floats(vec![values.len()], values.clone())
                }
                _ => return Err("expected a dense tensor or numbers as the value".into()),
            },
        )
    }

    /// The sizes of a constant with these sizes after a node that changes them.
    pub(super) fn new_dims(&self, node: &OnnxNode, dims: &[usize]) -> Result<Vec<usize>, String> {
        let count: usize = dims.iter().product();
        let found: Vec<usize> = match node.op {
            "Squeeze" => {
                let removed = self.given_axes(node)?.map(|given| axes(&given, dims.len())).transpose()?;
                let is_removed =
                    |axis: usize| removed.as_ref().map_or(dims[axis] == 1, |axes| axes.contains(&axis));
                (0..dims.len()).filter(|axis| !is_removed(*axis)).map(|axis| dims[axis]).collect()
            }
            "Unsqueeze" => self.unsqueezed(node, dims.to_vec())?,
            "Flatten" => {
                let [axis] = *axes(&[node.int("axis", 1)?], dims.len() + 1)? else {
                    unreachable!("one axis was given")
                };
                vec![dims[..axis].iter().product(), dims[axis..].iter().product()]
            }
            _ => {
                let shape = self.weight(node.input(1))?;
                let sizes = shape.ints().unwrap_or_default();
                let keeps = node.int("allowzero", 0)? == 0;
                // 0 means the size of the input.
                let kept = |(axis, size): (usize, &i64)| match size {
                    0 if keeps => dims.get(axis).map_or(0, |size| *size as i64),
                    size => *size,
                };
                let sizes: Vec<i64> = sizes.iter().enumerate().map(kept).collect();
                let known: i64 = sizes
                    .iter()
                    .filter(|size| **size > 0)
                    .try_fold(1i64, |all, size| all.checked_mul(*size))
                    .unwrap_or(0);
                let length = |size: &i64| match *size {
                    -1 if known > 0 => Some(count / known as usize),
                    size => usize::try_from(size).ok(),
                };
                sizes.iter().map(length).collect::<Option<_>>().unwrap_or_default()
            }
        };
        match found.iter().try_fold(1usize, |all, size| all.checked_mul(*size)) == Some(count) {
            true => Ok(found),
            false => Err(format!("expected a shape of {count} values for a constant, found {found:?}")),
        }
    }
}

/// A constant with its dimensions permuted.
fn transposed(node: &OnnxNode, constant: &Constant) -> Result<Constant, String> {
    let rank = constant.dims.len();
    let order = match node.ints("perm")? {
        Some(order) => axes(order, rank)?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return Err(format!("expected a permutation of {rank} dimensions, found {order:?}"));
    }
    let dims: Vec<usize> = order.iter().map(|&axis| constant.dims[axis]).collect();
    let mut strides = vec![1; rank];
    for axis in (1..rank).rev() {
        strides[axis - 1] = strides[axis] * constant.dims[axis];
    }
    let source = |mut index: usize| {
        let mut at = 0;
        for (axis, size) in dims.iter().enumerate().rev() {
            at += index % size * strides[order[axis]];
            index /= size;
        }
        at
    };
    let count = dims.iter().product();
    let values = match &constant.values {
        Values::Floats(values) => Values::Floats((0..count).map(|index| values[source(index)]).collect()),
        Values::Ints(values) => Values::Ints((0..count).map(|index| values[source(index)]).collect()),
    };
    Ok(Constant { dims, values })
}

/// An operator of two constants, one of which may be a single number.
fn combined(operator: Binary, a: &Constant, b: &Constant) -> Option<Constant> {
    let (dims, count) = match (a.number(), b.number()) {
        (_, Some(_)) => (a.dims.clone(), a.dims.iter().product()),
        (Some(_), None) => (b.dims.clone(), b.dims.iter().product()),
        _ if a.dims == b.dims => (a.dims.clone(), a.dims.iter().product()),
        _ => return None,
    };
    let at = |length: usize, index: usize| if length == 1 { 0 } else { index };
    let values = match (&a.values, &b.values) {
        (Values::Ints(a), Values::Ints(b)) => {
            let value = |index: usize| {
                let (a, b) = (a[at(a.len(), index)], b[at(b.len(), index)]);
                if [a, b].contains(&BATCH) {
                    return None;
                }
                match operator {
                    Binary::Add => a.checked_add(b),
                    Binary::Subtract => a.checked_sub(b),
                    Binary::Multiply => a.checked_mul(b),
                    Binary::Divide => a.checked_div(b),
                    Binary::Power => None,
                }
            };
            Values::Ints((0..count).map(value).collect::<Option<Vec<i64>>>()?)
        }
        _ => {
            let (a, b) = (a.floats(), b.floats());
            let value = |index: usize| {
                let (a, b) = (a[at(a.len(), index)], b[at(b.len(), index)]);
                match operator {
                    Binary::Add => a + b,
                    Binary::Subtract => a - b,
                    Binary::Multiply => a * b,
                    Binary::Divide => a / b,
                    Binary::Power => a.powf(b),
                }
            };
            Values::Floats((0..count).map(value).collect())
        }
    };
    Some(Constant { dims, values })
}
