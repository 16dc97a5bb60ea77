//! Convolutions that do not learn. Their kernels are brought once into the order in which they are
//! read, and their outputs lie channels last.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::Conv;
use super::after::After;
use super::by_panels::Panels;
use super::channels_last::{is_channels_last, pixels, seen_as_maps};
use super::crew::all;
use super::products::LANES;
use super::slices::{contiguous, values};
use super::winograd::{Transformed, suits};

/// Maps of so few channels, such as pictures, are soon turned so that the channels come last.
const COLOURS: usize = 4;

/// Which order kernels are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As Winograd's algorithm takes them.
    Transformed,
    /// As a matrix product of pixels takes them.
    Panels,
}

impl Order {
    /// That by which a convolution gains, if there is one.
    pub(crate) fn of(conv: &Conv, kernels: &Tensor, x: &Tensor) -> Option<Order> {
        let &[filters, channels, height, width] = kernels.dims() else { return None };
        if suits(conv, [height, width], [filters, channels]) {
            return Some(Order::Transformed);
        }
        let whole = conv.groups == 1 && filters.is_multiple_of(LANES);
        (whole && (channels <= COLOURS || is_channels_last(x.layout()))).then_some(Order::Panels)
    }
}

#[derive(Debug)]
enum Ordered {
    Transformed(Transformed),
    Panels(Panels),
}

/// Kernels that do not learn, in another order.
#[derive(Debug)]
pub(crate) struct Kernels {
    shape: Shape,
    ordered: Ordered,
    /// How often the kernels had been changed, if that was known.
    changes: Option<u64>,
    /// Of the kernels that these were made of.
    fingerprint: u64,
}

impl Kernels {
    /// Brings kernels into an order, unless these are the ones of before. They are known by how often
    /// they were changed, or, where that is not known, by their numbers.
    pub(crate) fn of(
        kernels: &Tensor,
        changes: Option<u64>,
        order: Order,
        known: Option<&Arc<Kernels>>,
    ) -> Result<Arc<Kernels>> {
        let known = known.filter(|known| known.order() == order);
        if let Some(known) = known.filter(|known| changes.is_some() && known.changes == changes) {
            return Ok(known.clone());
        }
        let (filters, channels, height, width) = kernels.dims4()?;
        let values = values(kernels)?;
        let fingerprint = fingerprint(&values);
        if let Some(known) = known.filter(|known| known.fingerprint == fingerprint && changes.is_none()) {
            return Ok(known.clone());
        }
        let ordered = match order {
            Order::Transformed => Ordered::Transformed(Transformed::of(&values, [filters, channels], false)),
            Order::Panels => Ordered::Panels(Panels::of(&values, channels, height * width)),
        };
        Ok(Arc::new(Kernels { shape: kernels.shape().clone(), ordered, changes, fingerprint }))
    }

    fn order(&self) -> Order {
        match self.ordered {
            Ordered::Transformed(_) => Order::Transformed,
            Ordered::Panels(_) => Order::Panels,
        }
    }
}

/// Numbers of a task.
const PART: usize = 1 << 14;

/// A number that another set of kernels has not, as quickly as they can be read.
fn fingerprint(values: &[f32]) -> u64 {
    let mix = |hash: u64, value: u64| (hash.rotate_left(5) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let of = |at: usize| {
        let part = &values[at * PART..values.len().min((at + 1) * PART)];
        // None of the lanes waits for another.
        let mut lanes = [at as u64; 8];
        let (blocks, rest) = part.as_chunks::<16>();
        for block in blocks {
            for (lane, [a, b]) in lanes.iter_mut().zip(block.as_chunks::<2>().0) {
                *lane = mix(*lane, u64::from(a.to_bits()) << 32 | u64::from(b.to_bits()));
            }
        }
        rest.iter().map(|value| value.to_bits().into()).chain(lanes).fold(at as u64, mix)
    };
    all(values.len().div_ceil(PART), of).into_iter().fold(0, u64::wrapping_add)
}

/// The convolution of `[N, C, H, W]`, as an operation on `[N, H, W, C]`, with kernels that do not learn.
pub(crate) struct AtRest {
    pub(crate) conv: Conv,
    pub(crate) kernels: Arc<Kernels>,
    pub(crate) after: After,
}

impl AtRest {
    /// The outputs, channels last.
    pub(crate) fn apply(mut self, x: &Tensor) -> Result<Tensor> {
        // As the output is made.
        self.after.residual = self.after.residual.as_ref().map(pixels).transpose()?;
        seen_as_maps(&pixels(x)?.apply_op1_no_bwd(&self)?)
    }
}

impl CustomOp1 for AtRest {
    fn name(&self) -> &'static str {
        "convolution-at-rest"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (pictures, height, width, channels) = layout.shape().dims4()?;
        let maps = Shape::from((pictures, channels, height, width));
        let windows = self.conv.sizes(&maps, &self.kernels.shape)?;
        let [rows, columns] = self.conv.output;
        let shape = [pictures, rows, columns, windows.filters];
        let x = contiguous(x, layout)?;
        let output = self.after.with(&shape, |epilogue| match &self.kernels.ordered {
            Ordered::Transformed(kernels) => {
                kernels.convolve(&self.conv, x, [pictures, height, width], epilogue)
            }
            Ordered::Panels(panels) => panels.convolve(&windows, x, epilogue),
        })?;
        Ok((CpuStorage::F32(output), shape.to_vec().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::values;

    #[test]
    fn kernels_are_ordered_anew_when_they_change() -> Result<()> {
        let (w, other) = (values(1, &[32, 32, 3, 3]), values(2, &[32, 32, 3, 3]));
        for changes in [None, Some(0)] {
            let first = Kernels::of(&w, changes, Order::Transformed, None)?;
            let changed = changes.map(|changes| changes + 1);
            assert!(Arc::ptr_eq(&first, &Kernels::of(&w, changes, Order::Transformed, Some(&first))?));
            assert!(!Arc::ptr_eq(&first, &Kernels::of(&w, changes, Order::Panels, Some(&first))?));
            assert!(!Arc::ptr_eq(&first, &Kernels::of(&other, changed, Order::Transformed, Some(&first))?));
            // Lent since, and changed or not.
            assert!(Arc::ptr_eq(&first, &Kernels::of(&w, None, Order::Transformed, Some(&first))?));
            assert!(!Arc::ptr_eq(&first, &Kernels::of(&other, None, Order::Transformed, Some(&first))?));
        }
        Ok(())
    }
}
