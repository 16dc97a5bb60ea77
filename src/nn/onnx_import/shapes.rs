//! Operators that change shape or layout, and those that do nothing in inference.

use super::file::OnnxNode;
use super::importer::Importer;
use super::tensor::Constant;
use super::view::{Value, View};
use crate::nn::Concatenate;

/// Placeholder in a list of sizes for the batch size, if the file does not fix it. It is not used in calculations.
pub(super) const BATCH: i64 = i64::MIN;

/// The axes of a tensor of this rank. A negative axis counts from the end.
pub(super) fn axes(axes: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let index = |axis: &i64| {
        let counted = if *axis < 0 { axis.checked_add(rank as i64) } else { Some(*axis) };
        counted.and_then(|axis| usize::try_from(axis).ok()).filter(|axis| *axis < rank)
    };
    let found: Option<Vec<usize>> = axes.iter().map(index).collect();
    found.ok_or_else(|| format!("expected axes of a tensor of {rank} dimensions, found {axes:?}"))
}

impl<'a> Importer<'a> {
    /// An operator that returns its input.
    pub(super) fn pass(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let value = self.value(node.input(0))?;
        self.set(node.output(), value);
        Ok(())
    }

    /// Sets a value to the node's input with other sizes.
    fn reshape(&mut self, node: &'a OnnxNode<'a>, dims: Vec<usize>) -> Result<(), String> {
        let name = node.input(0);
        let view = self.view(name)?;
        if dims.is_empty() {
            return Err("expected a result with at least one dimension after the batch, found none".into());
        }
        let reshaped = match view.reshaped(dims.clone()) {
            Some(reshaped) => reshaped,
            None => {
                View { shape: dims.clone(), order: (0..dims.len()).collect(), ..self.ordered_output(name)? }
            }
        };
        self.set(node.output(), Value::View(reshaped));
        Ok(())
    }

    pub(super) fn add_flatten(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let dims = self.view(node.input(0))?.dims();
        let axis = node.int("axis", 1)?;
        if axes(&[axis], dims.len() + 1)? != [1] {
            return Err(format!("attribute `axis`: expected 1, found {axis}"));
        }
        self.reshape(node, vec![dims.iter().product()])
    }

    pub(super) fn add_reshape(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let dims = self.view(node.input(0))?.dims();
        let shape = self.weight(node.input(1))?;
        let Some([batch, sizes @ ..]) = shape.ints() else {
            return Err("expected a list of sizes as the shape".into());
        };
        let count: usize = dims.iter().product();
        let refuse = || {
            let list = |size: &i64| if *size == BATCH { "batch".into() } else { size.to_string() };
            let sizes: Vec<String> = std::iter::once(batch).chain(sizes).map(list).collect();
            format!("expected a shape [batch, …] of {count} values, found [{}]", sizes.join(", "))
        };
        let is_batch = matches!(*batch, BATCH | 0 | -1) || Some(*batch) == self.batch;
        let open = sizes.iter().filter(|size| **size == -1).count();
        if !is_batch || open > 1 || open == 1 && *batch == -1 {
            return Err(refuse());
        }
        let keeps = node.int("allowzero", 0)? == 0;
        let mut found = Vec::with_capacity(sizes.len());
        for (axis, &size) in sizes.iter().enumerate() {
            // 0 means the size of the input.
            found.push(match size {
                0 if keeps => *dims.get(axis).ok_or_else(refuse)?,
                -1 => 1,
                _ => usize::try_from(size).ok().filter(|size| *size > 0).ok_or_else(refuse)?,
            });
        }
        let known =
            found.iter().try_fold(1usize, |product, size| product.checked_mul(*size)).ok_or_else(refuse)?;
        if let Some(axis) = sizes.iter().position(|size| *size == -1) {
            found[axis] = count / known;
        }
        if found.iter().product::<usize>() != count {
            return Err(refuse());
        }
        self.reshape(node, found)
    }

    /// The axes of `Squeeze` and `Unsqueeze` as the file has them: an attribute before opset 13, then an input.
    pub(super) fn given_axes(&self, node: &OnnxNode) -> Result<Option<Vec<i64>>, String> {
        match (node.ints("axes")?, node.input(1)) {
            (Some(axes), _) => Ok(Some(axes.to_vec())),
            (None, "") => Ok(None),
            (None, name) => Ok(Some(self.weight(name)?.ints().ok_or("expected integers as axes")?.to_vec())),
        }
    }

    /// These sizes after an `Unsqueeze`.
    pub(super) fn unsqueezed(&self, node: &OnnxNode, mut dims: Vec<usize>) -> Result<Vec<usize>, String> {
        let given = self.given_axes(node)?.ok_or("expected axes, found none")?;
        let mut added = axes(&given, dims.len() + given.len())?;
        added.sort_unstable();
        added.dedup();
        if added.len() != given.len() {
            return Err(format!("expected different axes, found {given:?}"));
        }
        added.into_iter().for_each(|axis| dims.insert(axis, 1));
        Ok(dims)
    }

    pub(super) fn add_squeeze(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let dims = self.view(node.input(0))?.dims();
        let removed = match self.given_axes(node)? {
            Some(given) => axes(&given, dims.len() + 1)?,
            None => (1..=dims.len()).filter(|axis| dims[axis - 1] == 1).collect(),
        };
        if removed.iter().any(|&axis| axis == 0 || dims[axis - 1] != 1) {
            return Err(format!("expected axes of size 1 of [batch, {dims:?}], found {removed:?}"));
        }
        let kept = (1..=dims.len()).filter(|axis| !removed.contains(axis)).map(|axis| dims[axis - 1]);
        self.reshape(node, kept.collect())
    }

    pub(super) fn add_unsqueeze(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        const ANY: usize = usize::MAX;
        let dims = self.view(node.input(0))?.dims();
        match self.unsqueezed(node, [vec![ANY], dims].concat())?.as_slice() {
            [ANY, dims @ ..] => self.reshape(node, dims.to_vec()),
            _ => Err("expected axes after the batch, found 0".into()),
        }
    }

    pub(super) fn add_transpose(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let view = self.view(node.input(0))?;
        let rank = view.order.len() + 1;
        let order = match node.ints("perm")? {
            Some(order) => axes(order, rank)?,
            None => (0..rank).rev().collect(),
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if order.first() != Some(&0) || !sorted.into_iter().eq(0..rank) {
            return Err(format!(
                "expected an order of {rank} dimensions that begins with the batch, found {order:?}"
            ));
        }
        let order: Vec<usize> = order[1..].iter().map(|axis| axis - 1).collect();
        self.set(node.output(), Value::View(view.permuted(&order)));
        Ok(())
    }

    pub(super) fn add_concatenation(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let &[first, ..] = node.inputs.as_slice() else { return Err("expected inputs, found none".into()) };
        if self.constant(first)?.is_some() {
            return self.add_leading_tokens(node);
        }
        let order = self.view(first)?.order;
        let [axis] = *axes(&[node.int("axis", 1)?], order.len() + 1)? else {
            unreachable!("one axis was given")
        };
        if axis == 0 {
            return Err("expected a concatenation within each sample, found the batch axis".into());
        }
        let mut views = Vec::new();
        for &input in &node.inputs {
            views.push(self.layer_output(input)?);
        }
        if views.iter().any(|view| view.order != order) {
            views.clear();
            for &input in &node.inputs {
                views.push(self.ordered_output(input)?);
            }
        }
        let view = views[0].clone();
        let nodes: Vec<_> = views.iter().map(|view| view.node).collect();
        let layer = Concatenate::default().axis(view.order[axis - 1] as isize + 1);
        let label = self.label(node.output());
        let added = self.layer(&label, layer, &nodes, &[])?;
        let shape = self.shape(added).to_vec();
        self.set(node.output(), Value::View(View { node: added, shape, ..view }));
        Ok(())
    }

    /// The sizes of a value as a constant.
    pub(super) fn add_shape(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let sizes: Vec<i64> = match self.value(node.input(0))? {
            Value::Constant(constant) => constant.dims.iter().map(|size| *size as i64).collect(),
            Value::View(view) => {
                let sizes = view.dims().into_iter().map(|size| size as i64);
                std::iter::once(self.batch.unwrap_or(BATCH)).chain(sizes).collect()
            }
        };
        self.set_sizes(node, sizes)
    }

    /// Sets the output of `Shape` for a value of these sizes.
    pub(super) fn set_sizes(&mut self, node: &'a OnnxNode<'a>, sizes: Vec<i64>) -> Result<(), String> {
        let rank = sizes.len() as i64;
        let bound =
            |value: i64| (if value < 0 { value.saturating_add(rank) } else { value }).clamp(0, rank) as usize;
        let (start, end) = (bound(node.int("start", 0)?), bound(node.int("end", rank)?));
        let sizes = sizes.get(start..end).unwrap_or_default().to_vec();
        self.set(node.output(), Value::Constant(Constant::from_ints(sizes).into()));
        Ok(())
    }
}
