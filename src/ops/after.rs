//! What follows a convolution that does not learn, done to its sums while they are in the cache.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use pulp::{NullaryFnOnce, Simd};

use super::Conv;
use super::channels_last::{Maps, either_way, planes};
use super::slices::{contiguous, values};

/// A scale and a shift for each filter, batch normalisation at rest; another tensor of the output's
/// shape that is added; a ReLU: the same operations in the same order as one after the other, so the
/// same bits.
#[derive(Clone, Debug, Default)]
pub struct After {
    pub(crate) bias: Option<Tensor>,
    pub(crate) affine: Option<(Tensor, Tensor)>,
    pub(crate) residual: Option<Tensor>,
    pub(crate) relu: bool,
}

/// The same as plain numbers: for all filters, and for the whole output.
#[derive(Clone, Copy, Default)]
pub(super) struct Epilogue<'a> {
    pub(super) bias: Option<&'a [f32]>,
    pub(super) affine: Option<(&'a [f32], &'a [f32])>,
    pub(super) residual: Option<&'a [f32]>,
    pub(super) relu: bool,
}

impl After {
    /// Calls a function with the numbers.
    pub(super) fn with<T>(&self, output: &[usize; 4], f: impl FnOnce(Epilogue) -> T) -> Result<T> {
        if let Some(found) = self.residual.as_ref().filter(|residual| residual.dims() != output) {
            bail!("expected {output:?} to add to a convolution, found {:?}", found.shape());
        }
        let bias = self.bias.as_ref().map(values).transpose()?;
        let scale = self.affine.as_ref().map(|(scale, _)| values(scale)).transpose()?;
        let shift = self.affine.as_ref().map(|(_, shift)| values(shift)).transpose()?;
        let residual = self.residual.as_ref().map(values).transpose()?;
        Ok(f(Epilogue {
            bias: bias.as_deref(),
            affine: scale.as_deref().zip(shift.as_deref()),
            residual: residual.as_deref(),
            relu: self.relu,
        }))
    }
}

impl Epilogue<'_> {
    /// For some filters; a residual stays that of all.
    pub(super) fn of_filters(self, filters: Range<usize>) -> Self {
        let affine = self.affine.map(|(scale, shift)| (&scale[filters.clone()], &shift[filters.clone()]));
        Epilogue { bias: self.bias.map(|bias| &bias[filters]), affine, ..self }
    }

    /// Does it to a vector of one output's filters.
    #[inline(always)]
    pub(super) fn of_vector<S: Simd>(&self, simd: S, mut sums: S::f32s, filter: usize) -> S::f32s {
        let vector = |values: &[f32]| S::as_simd_f32s(&values[filter..][..S::F32_LANES]).0[0];
        if let Some(bias) = self.bias {
            sums = simd.add_f32s(sums, vector(bias));
        }
        if let Some((scale, shift)) = self.affine {
            sums = simd.add_f32s(simd.mul_f32s(sums, vector(scale)), vector(shift));
        }
        if let Some(residual) = self.residual {
            sums = simd.add_f32s(sums, vector(residual));
        }
        if self.relu {
            // So that a NaN stays one.
            let zero = simd.splat_f32s(0.0);
            sums = simd.select_f32s(simd.less_than_f32s(sums, zero), zero, sums);
        }
        sums
    }

    /// For one filter: bias, scale and shift.
    #[inline(always)]
    pub(super) fn of(&self, filter: usize) -> (Option<f32>, Option<(f32, f32)>) {
        (self.bias.map(|bias| bias[filter]), self.affine.map(|(scale, shift)| (scale[filter], shift[filter])))
    }

    /// Does it to a row of one filter's outputs, the first of which stands at a place in the whole.
    pub(super) fn apply(&self, row: &mut [f32], filter: usize, at: usize) {
        if !self.is_nothing() {
            let (bias, affine) = self.of(filter);
            let residual = self.residual.map(|residual| &residual[at..at + row.len()]);
            pulp::Arch::new().dispatch(Apply { row, bias, affine, residual, relu: self.relu });
        }
    }

    /// What may be done to outputs of several pictures in one row, and what is left to do to each.
    pub(super) fn parted(self) -> (Self, Self) {
        match self.residual {
            None => (self, Epilogue::default()),
            Some(_) => (
                Epilogue { residual: None, relu: false, ..self },
                Epilogue { bias: None, affine: None, ..self },
            ),
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.bias.is_none() && self.affine.is_none() && self.residual.is_none() && !self.relu
    }
}

/// What is done to one row, in one pass.
struct Apply<'a> {
    row: &'a mut [f32],
    bias: Option<f32>,
    affine: Option<(f32, f32)>,
    residual: Option<&'a [f32]>,
    relu: bool,
}

impl NullaryFnOnce for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Apply { row, bias, affine, residual, relu } = self;
        if let Some(bias) = bias {
            row.iter_mut().for_each(|value| *value += bias);
        }
        let least = if relu { 0.0 } else { f32::NEG_INFINITY };
        // So that a NaN stays one.
        let above = |value: f32| if value < least { least } else { value };
        match (affine, residual) {
            (Some((scale, shift)), Some(residual)) => {
                let pairs = row.iter_mut().zip(residual);
                pairs.for_each(|(value, other)| *value = above(*value * scale + shift + other));
            }
            (Some((scale, shift)), None) => {
                row.iter_mut().for_each(|value| *value = above(*value * scale + shift));
            }
            (None, Some(residual)) => {
                row.iter_mut().zip(residual).for_each(|(value, other)| *value = above(*value + other));
            }
            (None, None) => row.iter_mut().for_each(|value| *value = above(*value)),
        }
    }
}

/// A convolution that does not learn with what follows it.
pub(crate) struct AtOnce {
    pub(crate) conv: Conv,
    pub(crate) after: After,
}

impl AtOnce {
    /// Of maps that lie either way.
    pub(crate) fn apply(mut self, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        self.after.residual = self.after.residual.as_ref().map(planes).transpose()?;
        let is_pointwise = self.conv.sizes(x.shape(), w.shape())?.is_pointwise() && self.conv.groups == 1;
        let x = if is_pointwise { either_way(x)? } else { planes(x)? };
        x.apply_op2_no_bwd(w, &self)
    }
}

impl CustomOp2 for AtOnce {
    fn name(&self) -> &'static str {
        "convolution-and-what-follows"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = self.conv.sizes(xl.shape(), wl.shape())?;
        let [rows, columns] = self.conv.output;
        let shape = [sizes.pictures, sizes.filters * self.conv.groups, rows, columns];
        let (x, w) = (Maps::of(x, xl)?, contiguous(w, wl)?);
        let output = self.after.with(&shape, |epilogue| sizes.forward(x, w, &epilogue))?;
        Ok((CpuStorage::F32(output), shape.to_vec().into()))
    }
}
