//! Tokens of vision transformers: a class token before the others, and the first token.

use super::file::OnnxNode;
use super::importer::Importer;
use super::shapes::axes;
use super::view::{Value, View};
use crate::nn::{ClassToken, FirstToken};

impl<'a> Importer<'a> {
    /// Adds the layers for a concatenation of constant tokens and the tokens of a sample.
    pub(super) fn add_leading_tokens(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let problem = "expected constant tokens before the tokens of a sample";
        let Some((&last, leading)) = node.inputs.split_last() else { return Err(problem.into()) };
        let view = self.ordered_output(last)?;
        let [mut count, width] = *view.shape else { return Err(problem.into()) };
        if axes(&[node.int("axis", 1)?], 3)? != [1] {
            return Err("expected a concatenation of tokens, along the dimension after the batch".into());
        }
        let mut tokens = Vec::new();
        for name in leading {
            let constant = self.constant(name)?.ok_or(problem)?;
            match *constant.dims {
                [1, _, features] if features == width => {
                    tokens.extend(constant.floats().chunks(width).map(<[f32]>::to_vec));
                }
                _ => {
                    return Err(format!(
                        "{problem} of shape [1, tokens, {width}], found {:?}",
                        constant.dims
                    ));
                }
            }
        }
        let label = self.weighted_label(leading, node, node.output());
        let mut added = view.node;
        // Each layer puts its token before all others, so the last one comes first.
        for token in tokens.into_iter().rev() {
            added = self.layer(&label, ClassToken, &[added], &[token])?;
            count += 1;
        }
        self.set(node.output(), Value::View(View::of(added, &[count, width])));
        Ok(())
    }

    /// Adds the layer for a `Gather` or `Slice` of the first token.
    pub(super) fn add_first_token(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let problem = "expected the selection of the first token of a sequence";
        let view = self.ordered_output(node.input(0))?;
        let [tokens, width] = *view.shape else {
            return Err(format!("{problem}, found the shape {:?} without the batch", view.shape));
        };
        let dims = if node.op == "Gather" {
            let indices = self.weight(node.input(1))?;
            let axis = axes(&[node.int("axis", 0)?], 3)?;
            let found = axes(indices.ints().ok_or("expected integers as indices")?, tokens);
            if axis != [1] || found.as_deref() != Ok(&[0]) || indices.dims.len() > 1 {
                return Err(format!("{problem}, found the indices {:?} of axis {axis:?}", indices.floats()));
            }
            [&indices.dims[..], &[width]].concat()
        } else {
            // The batch is not sliced, so its size does not matter.
            let slices = self.slices(node, &[1, tokens, width])?;
            match slices.as_slice() {
                [(1, positions)] if *positions == [0] => vec![1, width],
                _ => return Err(format!("{problem}, found another slice of [batch, {tokens}, {width}]")),
            }
        };
        let label = self.label(node.output());
        let added = self.layer(&label, FirstToken, &[view.node], &[])?;
        self.set(node.output(), Value::View(View { shape: dims.clone(), ..View::of(added, &dims) }));
        Ok(())
    }
}
