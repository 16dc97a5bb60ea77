//! Pooling, and means and maxima over dimensions.

use super::convolution::Window;
use super::file::OnnxNode;
use super::importer::Importer;
use super::shapes::axes;
use super::view::{Value, View};
use crate::nn::{
    AveragePooling2D, GlobalAveragePooling1D, GlobalAveragePooling2D, GlobalMaxPooling2D, MaxPooling2D,
    Padding,
};

impl<'a> Importer<'a> {
    pub(super) fn add_pool(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let (mut input, [_, height, width]) = self.maps(node.input(0))?;
        let maps = [height, width];
        let mut window = Window::read(node, maps, None)?;
        let size = window.sides[0];
        if window.sides[1] != size || window.dilation != 1 {
            let (sides, dilation) = (window.sides, window.dilation);
            return Err(format!(
                "expected a square window without dilation, found {sides:?} with {dilation}"
            ));
        }
        let counts_padding = node.op == "AveragePool" && node.int("count_include_pad", 0)? != 0;
        if node.int("ceil_mode", 0)? != 0 {
            for (size_of_maps, padding) in maps.into_iter().zip(&mut window.padding) {
                let padded = size_of_maps + padding.iter().sum::<usize>();
                let rest = padded.saturating_sub(size) % window.stride;
                if rest > 0 && counts_padding {
                    return Err("`ceil_mode` with `count_include_pad` is not supported".into());
                }
                // A last window that lies in the padding only is not counted.
                let start = padded.saturating_sub(size) - rest + window.stride;
                if rest > 0 && start < size_of_maps + padding[0] {
                    padding[1] += window.stride - rest;
                }
            }
        }
        let label = self.label(node.output());
        if counts_padding && window.padding != [[0; 2]; 2] {
            input = self.zero_padding("", input, window.padding)?;
            window.padding = [[0; 2]; 2];
        }
        let Some(padding) = window.as_padding(maps).or_else(|| window.without_surplus(maps).as_padding(maps))
        else {
            return Err(format!("expected equal padding on all sides, found {:?}", window.padding));
        };
        let (strides, padding): (usize, Padding) = (window.stride, padding);
        let added = match node.op {
            "MaxPool" => {
                self.layer(&label, MaxPooling2D::new(size).strides(strides).padding(padding), &[input], &[])?
            }
            _ => self.layer(
                &label,
                AveragePooling2D::new(size).strides(strides).padding(padding),
                &[input],
                &[],
            )?,
        };
        self.set(node.output(), Value::View(View::of(added, self.shape(added))));
        Ok(())
    }

    pub(super) fn add_global_pool(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let (input, [channels, _, _]) = self.maps(node.input(0))?;
        let label = self.label(node.output());
        let added = match node.op {
            "GlobalMaxPool" => self.layer(&label, GlobalMaxPooling2D, &[input], &[])?,
            _ => self.layer(&label, GlobalAveragePooling2D, &[input], &[])?,
        };
        self.set(node.output(), Value::View(View::of(added, &[channels, 1, 1])));
        Ok(())
    }

    /// `ReduceMean` and `ReduceMax`.
    pub(super) fn add_reduction(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let mut view = self.layer_output(node.input(0))?;
        let rank = view.order.len() + 1;
        let given = match (node.ints("axes")?, node.input(1)) {
            (Some(axes), _) => axes.to_vec(),
            (None, "") => Vec::new(),
            (None, name) => self.weight(name)?.ints().unwrap_or_default().to_vec(),
        };
        let reduced = axes(&given, rank)?;
        let refuse = || {
            format!("expected height and width of images, or the tokens of a sequence; found axes {given:?}")
        };
        let stored = |view: &View| {
            let mut axes = reduced.iter().map(|axis| axis.checked_sub(1).map(|axis| view.order[axis]));
            let mut axes = axes.by_ref().collect::<Option<Vec<usize>>>().unwrap_or_default();
            axes.sort_unstable();
            axes
        };
        if rank == 4 && stored(&view) != [1, 2] {
            view = self.ordered_output(node.input(0))?;
        }
        let mut dims = view.dims();
        let label = self.label(node.output());
        let added = match (node.op, rank, stored(&view).as_slice()) {
            ("ReduceMean", 4, [1, 2]) => self.layer(&label, GlobalAveragePooling2D, &[view.node], &[])?,
            ("ReduceMax", 4, [1, 2]) => self.layer(&label, GlobalMaxPooling2D, &[view.node], &[])?,
            ("ReduceMean", 3, [0]) if view.is_in_order() => {
                self.layer(&label, GlobalAveragePooling1D, &[view.node], &[])?
            }
            _ => return Err(refuse()),
        };
        if node.int("keepdims", 1)? != 0 {
            reduced.iter().for_each(|axis| dims[axis - 1] = 1);
        } else {
            let is_kept = |axis: &usize| !reduced.contains(&(axis + 1));
            dims = (0..dims.len()).filter(is_kept).map(|axis| dims[axis]).collect();
        }
        self.set(node.output(), Value::View(View::of(added, &dims)));
        Ok(())
    }
}
