//! Inputs of an imported model.

use std::collections::HashSet;

use super::file::OnnxInput;
use super::importer::{Importer, text};
use super::tensor::is_float;
use crate::check::check_memory;

/// Largest size in a dimension of the input (65,536).
const MAX_SIDE: i64 = 1 << 16;

impl<'a> Importer<'a> {
    /// The shape of an input in the model, and the order of the file's dimensions in it.
    pub(super) fn input_shape(&mut self, input: &OnnxInput<'a>) -> Result<(Vec<usize>, Vec<usize>), String> {
        const UINT8: i64 = 2;
        let name = input.name;
        if !is_float(input.kind) && input.kind != UINT8 {
            return Err(format!("input `{name}`: expected floats or bytes, found another type"));
        }
        let Some([batch, dims @ ..]) = input.dims.as_deref() else {
            return Err(format!("input `{name}`: expected a shape [batch, …], found none"));
        };
        let size = |size: &Option<i64>| {
            size.filter(|size| (1..=MAX_SIDE).contains(size)).and_then(|size| usize::try_from(size).ok())
        };
        let Some(mut shape) =
            dims.iter().map(size).collect::<Option<Vec<usize>>>().filter(|shape| !shape.is_empty())
        else {
            let dims: Vec<String> =
                dims.iter().map(|size| size.map_or("?".into(), |size| size.to_string())).collect();
            return Err(format!(
                "input `{name}`: expected fixed sizes of 1 to {MAX_SIDE} after the batch, found [batch, {}]; export the \
                 model with a fixed image size",
                dims.join(", ")
            ));
        };
        check_memory("the input", &shape).map_err(text)?;
        self.batch = self.batch.or(*batch);
        let mut order: Vec<usize> = (0..shape.len()).collect();
        if shape.len() == 3 && self.is_read_as_channels_last(name) {
            self.has_channels_last_input = true;
            shape.rotate_right(1);
            order.rotate_left(1);
        }
        Ok((shape, order))
    }

    /// Whether an input's first change of layout is from channels last to channels first.
    fn is_read_as_channels_last(&self, input: &'a str) -> bool {
        let (mut open, mut seen) = (vec![input], HashSet::new());
        while let Some(value) = open.pop() {
            for &reader in self.readers.get(value).into_iter().flatten() {
                let node = &self.file.nodes[reader];
                match node.op {
                    "Transpose" if node.ints("perm") == Ok(Some(&[0, 3, 1, 2])) => return true,
                    "Add" | "Cast" | "Concat" | "Div" | "Identity" | "Mul" | "Pad" | "Sub"
                        if seen.insert(reader) =>
                    {
                        open.push(node.output());
                    }
                    _ => {}
                }
            }
        }
        false
    }
}
