//! Elementwise unary and binary operators.

use super::file::OnnxNode;
use super::function::{Binary, ElementwiseFunction, Function, MAX_OPERATORS, Unary};
use super::importer::Importer;
use super::tensor::Constant;
use super::view::{Value, View};
use crate::nn::{Activation, Affine, Multiply, PositionEmbedding, Reshape};

/// The function of a unary operator. `None` for other operators.
pub(super) fn unary(node: &OnnxNode, importer: &Importer) -> Result<Option<Unary>, String> {
    let number = |input: usize| -> Result<Option<f64>, String> {
        if node.input(input).is_empty() {
            return Ok(None);
        }
        let number = importer.weight(node.input(input))?.number();
        number.map(|number| Some(f64::from(number))).ok_or_else(|| "expected one number as a bound".into())
    };
    Ok(Some(match node.op {
        "Relu" => Unary::Activation(Activation::Relu),
        "Sigmoid" => Unary::Activation(Activation::Sigmoid),
        "Tanh" => Unary::Activation(Activation::Tanh),
        "HardSwish" => Unary::Activation(Activation::HardSwish),
        "Swish" if node.float("alpha", 1.0)? == 1.0 => Unary::Activation(Activation::Silu),
        "Gelu" => match node.text("approximate", "none")? {
            "tanh" => Unary::Activation(Activation::GeluTanh),
            _ => Unary::Activation(Activation::Gelu),
        },
        "HardSigmoid" => Unary::HardSigmoid {
            alpha: f64::from(node.float("alpha", 0.2)?),
            beta: f64::from(node.float("beta", 0.5)?),
        },
        "Clip" => {
            // Before opset 11 the bounds were attributes.
            let min = f64::from(node.float("min", f32::NEG_INFINITY)?);
            let max = f64::from(node.float("max", f32::INFINITY)?);
            Unary::Clip { min: number(1)?.unwrap_or(min), max: number(2)?.unwrap_or(max) }
        }
        "Erf" => Unary::Erf,
        "Exp" => Unary::Exp,
        "Neg" => Unary::Negate,
        "Reciprocal" => Unary::Reciprocal,
        "Sqrt" => Unary::Sqrt,
        _ => return Ok(None),
    }))
}

/// A constant as one number per channel: the dimension of the channels in the value, counted without the batch, and
/// the numbers. `None` if it has another shape.
pub(super) fn per_channel(constant: &Constant, dims: &[usize]) -> Option<(usize, Vec<f32>)> {
    let missing = (dims.len() + 1).checked_sub(constant.dims.len())?;
    let sizes: Vec<usize> = std::iter::repeat_n(1, missing).chain(constant.dims.iter().copied()).collect();
    let axis = sizes.iter().position(|size| *size != 1)?;
    let fits = axis > 0 && sizes[axis] == dims[axis - 1] && sizes[axis + 1..].iter().all(|size| *size == 1);
    fits.then(|| (axis - 1, constant.floats()))
}

/// Numbers per channel that a node adds, the node's output, and the name of the numbers.
type Shift<'a> = (Vec<f32>, &'a str, &'a str);

impl<'a> Importer<'a> {
    /// Applies a unary function to the node's input.
    pub(super) fn add_unary(&mut self, node: &'a OnnxNode<'a>, function: Unary) -> Result<(), String> {
        let name = node.input(0);
        let mut view = self.view(name)?;
        if view.function.operators >= MAX_OPERATORS {
            view = self.layer_output(name)?;
        }
        view.function = Function::unary(function, view.function);
        self.set(node.output(), Value::View(view));
        Ok(())
    }

    pub(super) fn add_binary(&mut self, node: &'a OnnxNode<'a>, operator: Binary) -> Result<(), String> {
        let (a, b) = (node.input(0), node.input(1));
        match (self.constant(a)?, self.constant(b)?) {
            (None, None) => self.add_values(node, operator),
            (None, Some(constant)) => self.add_constant(node, operator, a, &constant, false),
            (Some(constant), None) => self.add_constant(node, operator, b, &constant, true),
            (Some(_), Some(_)) => Err("constants of this type cannot be computed here".into()),
        }
    }

    /// `Min` and `Max` with a number.
    pub(super) fn add_bound(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let problem = "expected a value and a number";
        let [a, b] = *node.inputs.as_slice() else { return Err(problem.into()) };
        let (value, bound) = match (self.constant(a)?, self.constant(b)?) {
            (None, Some(bound)) => (a, bound),
            (Some(bound), None) => (b, bound),
            _ => return Err(problem.into()),
        };
        let bound = f64::from(bound.number().ok_or(problem)?);
        let mut view = self.view(value)?;
        let (min, max) = if node.op == "Max" { (bound, f64::INFINITY) } else { (f64::NEG_INFINITY, bound) };
        if view.function.operators >= MAX_OPERATORS {
            view = self.layer_output(value)?;
        }
        view.function = Function::unary(Unary::Clip { min, max }, view.function);
        self.set(node.output(), Value::View(view));
        Ok(())
    }

    /// A binary operator of a value and a constant. `is_first`: the constant is the left operand.
    fn add_constant(
        &mut self,
        node: &'a OnnxNode<'a>,
        operator: Binary,
        name: &'a str,
        constant: &Constant,
        is_first: bool,
    ) -> Result<(), String> {
        let mut view = self.view(name)?;
        let dims = view.dims();
        if let Some(number) = constant.number().filter(|_| constant.dims.len() <= dims.len() + 1) {
            if view.function.operators >= MAX_OPERATORS {
                view = self.layer_output(name)?;
            }
            let number = Function::number(number);
            view.function = match is_first {
                true => Function::binary(operator, number, view.function),
                false => Function::binary(operator, view.function, number),
            };
            self.set(node.output(), Value::View(view));
            return Ok(());
        }
        if let Some((axis, values)) = per_channel(constant, &dims) {
            return self.add_affine(node, operator, name, is_first, axis, values);
        }
        let without_batch = constant.dims.strip_prefix(&[1]).filter(|rest| rest.len() == dims.len());
        if operator == Binary::Add && dims.len() == 2 && without_batch.unwrap_or(&constant.dims) == dims {
            let view = self.ordered_output(name)?;
            let label = self.label(node.output());
            let added = self.layer(&label, PositionEmbedding, &[view.node], &[constant.floats()])?;
            self.set(node.output(), Value::View(View::of(added, &dims)));
            return Ok(());
        }
        Err(format!(
            "expected a constant with one number, or one for each channel of [batch, {dims:?}]; found one of shape {:?}",
            constant.dims
        ))
    }

    /// Scales or shifts each channel.
    fn add_affine(
        &mut self,
        node: &'a OnnxNode<'a>,
        operator: Binary,
        name: &'a str,
        is_first: bool,
        axis: usize,
        values: Vec<f32>,
    ) -> Result<(), String> {
        let (mut scale, mut shift) = (None, None);
        let negated = |values: &[f32]| values.iter().map(|value| -value).collect::<Vec<f32>>();
        match operator {
            Binary::Add => shift = Some(values),
            Binary::Subtract if is_first => {
                scale = Some(vec![-1.0; values.len()]);
                shift = Some(values);
            }
            Binary::Subtract => shift = Some(negated(&values)),
            Binary::Multiply => scale = Some(values),
            Binary::Divide if !is_first => scale = Some(values.iter().map(|value| value.recip()).collect()),
            Binary::Divide | Binary::Power => return Err("expected one number as the constant".into()),
        }
        let view = self.layer_output(name)?;
        let mut output = node.output();
        if shift.is_none()
            && let Some((values, next, _)) = self.absorb_shift(output, &view.dims(), axis)?
        {
            (shift, output) = (Some(values), next);
        }
        let layer = Affine::default()
            .axis(view.order[axis] as isize + 1)
            .scale(scale.is_some())
            .center(shift.is_some());
        let constant = if is_first { node.input(0) } else { node.input(1) };
        let label = self.weighted_label(&[constant], node, output);
        let weights: Vec<Vec<f32>> = scale.into_iter().chain(shift).collect();
        let added = self.layer(&label, layer, &[view.node], &weights)?;
        self.set(output, Value::View(View { node: added, ..view }));
        Ok(())
    }

    /// The numbers per channel that the only reader of a value adds to it, that node's output, and the constant's name.
    /// The node is absorbed.
    pub(super) fn absorb_shift(
        &mut self,
        value: &str,
        dims: &[usize],
        axis: usize,
    ) -> Result<Option<Shift<'a>>, String> {
        let Some(index) = self.only_reader(value) else { return Ok(None) };
        let next = &self.file.nodes[index];
        if next.op != "Add" || !next.is_standard() {
            return Ok(None);
        }
        let other = if next.input(0) == value { next.input(1) } else { next.input(0) };
        // The other value may be computed by a later node than this one.
        let Ok(Some(constant)) = self.constant(other) else { return Ok(None) };
        let Some((_, values)) = per_channel(&constant, dims).filter(|(found, _)| *found == axis) else {
            return Ok(None);
        };
        self.absorb(index);
        Ok(Some((values, next.output(), other)))
    }

    /// The activation that the only reader of a value applies to it, and that node's output. The node is absorbed.
    pub(super) fn absorb_activation(&mut self, value: &'a str) -> Result<(Activation, &'a str), String> {
        let Some(index) = self.only_reader(value) else { return Ok((Activation::Linear, value)) };
        let next = &self.file.nodes[index];
        let function = if next.is_standard() && next.input(0) == value { unary(next, self)? } else { None };
        let known = function.and_then(|function| Function::unary(function, Function::argument()).recognise());
        let Some(ElementwiseFunction::Activation(activation)) = known else {
            return Ok((Activation::Linear, value));
        };
        self.absorb(index);
        Ok((activation, next.output()))
    }

    /// A binary operator of two computed values.
    fn add_values(&mut self, node: &'a OnnxNode<'a>, operator: Binary) -> Result<(), String> {
        let (a, b) = (node.input(0), node.input(1));
        let [mut x, mut y] = [self.view(a)?, self.view(b)?];
        if x.is_of_same_values(&y) && x.function.operators + y.function.operators < MAX_OPERATORS {
            x.function = Function::binary(operator, x.function, y.function);
            self.set(node.output(), Value::View(x));
            return Ok(());
        }
        let is_swapped = x.dims().iter().product::<usize>() < y.dims().iter().product();
        let names = if is_swapped { [b, a] } else { [a, b] };
        // Both values in the dimension order of the larger one.
        let larger = self.layer_output(names[0])?;
        let smaller = self.layer_output(names[1])?;
        [x, y] = match smaller.in_order_of(&larger.order) {
            Some(transposed) => [larger, transposed],
            None => [self.ordered_output(names[0])?, self.ordered_output(names[1])?],
        };
        let label = self.label(node.output());
        let mut other = y.node;
        if *y.shape != *self.shape(other) {
            other = self.layer("", Reshape::new(y.shape.clone()), &[other], &[])?;
        }
        let added = if x.shape == y.shape {
            let operands = if is_swapped { [other, x.node] } else { [x.node, other] };
            self.merge(operator, operands, &label)?
        } else {
            let fits = x.shape.len() == y.shape.len()
                && x.shape.iter().zip(&y.shape).all(|(whole, size)| size == whole || *size == 1);
            if operator != Binary::Multiply || !fits {
                let (x, y) = (x.dims(), y.dims());
                return Err(format!(
                    "expected two values of one shape, found [batch, {x:?}] and [batch, {y:?}]"
                ));
            }
            self.layer(&label, Multiply, &[x.node, other], &[])?
        };
        self.set(node.output(), Value::View(View { node: added, ..x }));
        Ok(())
    }
}
