//! Epilogue of a fused inference convolution: bias, batch normalisation, residual and ReLU, applied to
//! the convolution's sums while they are in the cache.

use std::ops::Range;

use candle_core::{Result, Tensor, bail};
use pulp::{NullaryFnOnce, Simd};

use super::tensor_values::values;

/// The operations after a convolution: a bias per filter, a scale and a shift per filter (batch
/// normalisation in inference mode), a residual of the output's shape, a ReLU.
///
/// Fused or run one by one, the operations and their order are the same, so the result is bit-identical.
#[derive(Clone, Debug, Default)]
pub struct Epilogue {
    pub(crate) bias: Option<Tensor>,
    pub(crate) affine: Option<(Tensor, Tensor)>,
    pub(crate) residual: Option<Tensor>,
    pub(crate) relu: bool,
}

/// The values of an [`Epilogue`]: one per filter, and a residual of the whole output.
#[derive(Clone, Copy, Default)]
pub(super) struct EpilogueValues<'a> {
    pub(super) bias: Option<&'a [f32]>,
    pub(super) affine: Option<(&'a [f32], &'a [f32])>,
    pub(super) residual: Option<&'a [f32]>,
    pub(super) relu: bool,
}

impl Epilogue {
    /// Calls `f` with the values of the tensors.
    pub(super) fn with_values<T>(
        &self,
        output: &[usize; 4],
        f: impl FnOnce(EpilogueValues) -> T,
    ) -> Result<T> {
        if let Some(residual) = self.residual.as_ref().filter(|residual| residual.dims() != output) {
            bail!("expected a residual of shape {output:?}, found {:?}", residual.shape());
        }
        let bias = self.bias.as_ref().map(values).transpose()?;
        let scale = self.affine.as_ref().map(|(scale, _)| values(scale)).transpose()?;
        let shift = self.affine.as_ref().map(|(_, shift)| values(shift)).transpose()?;
        let residual = self.residual.as_ref().map(values).transpose()?;
        Ok(f(EpilogueValues {
            bias: bias.as_deref(),
            affine: scale.as_deref().zip(shift.as_deref()),
            residual: residual.as_deref(),
            relu: self.relu,
        }))
    }
}

impl EpilogueValues<'_> {
    /// The epilogue of some filters. The residual stays that of all filters.
    pub(super) fn of_filters(self, filters: Range<usize>) -> Self {
        let affine = self.affine.map(|(scale, shift)| (&scale[filters.clone()], &shift[filters.clone()]));
        EpilogueValues { bias: self.bias.map(|bias| &bias[filters]), affine, ..self }
    }

    /// Applies the epilogue to one SIMD vector: some filters of one output pixel.
    #[inline(always)]
    pub(super) fn apply_to_vector<S: Simd>(&self, simd: S, mut sums: S::f32s, filter: usize) -> S::f32s {
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
            // A comparison instead of `max`, so that NaN propagates.
            let zero = simd.splat_f32s(0.0);
            sums = simd.select_f32s(simd.less_than_f32s(sums, zero), zero, sums);
        }
        sums
    }

    /// Bias, scale and shift of one filter.
    #[inline(always)]
    pub(super) fn filter_values(&self, filter: usize) -> (Option<f32>, Option<(f32, f32)>) {
        (self.bias.map(|bias| bias[filter]), self.affine.map(|(scale, shift)| (scale[filter], shift[filter])))
    }

    /// Applies the epilogue to a row of one filter's outputs that begins at `offset` in the whole output.
    pub(super) fn apply_to_row(&self, row: &mut [f32], filter: usize, offset: usize) {
        if !self.is_identity() {
            let (bias, affine) = self.filter_values(filter);
            let residual = self.residual.map(|residual| &residual[offset..offset + row.len()]);
            pulp::Arch::new().dispatch(RowEpilogue { row, bias, affine, residual, relu: self.relu });
        }
    }

    /// Splits the epilogue: the operations before the residual, which apply to several images in one
    /// row, and the rest, which applies to each image.
    pub(super) fn split_at_residual(self) -> (Self, Self) {
        match self.residual {
            None => (self, EpilogueValues::default()),
            Some(_) => (
                EpilogueValues { residual: None, relu: false, ..self },
                EpilogueValues { bias: None, affine: None, ..self },
            ),
        }
    }

    pub(super) fn is_identity(&self) -> bool {
        self.bias.is_none() && self.affine.is_none() && self.residual.is_none() && !self.relu
    }
}

/// Applies an epilogue to one row in one pass.
struct RowEpilogue<'a> {
    row: &'a mut [f32],
    bias: Option<f32>,
    affine: Option<(f32, f32)>,
    residual: Option<&'a [f32]>,
    relu: bool,
}

impl NullaryFnOnce for RowEpilogue<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let RowEpilogue { row, bias, affine, residual, relu } = self;
        if let Some(bias) = bias {
            row.iter_mut().for_each(|value| *value += bias);
        }
        let lower_bound = if relu { 0.0 } else { f32::NEG_INFINITY };
        // A comparison instead of `max`, so that NaN propagates.
        let clamp = |value: f32| if value < lower_bound { lower_bound } else { value };
        match (affine, residual) {
            (Some((scale, shift)), Some(residual)) => {
                let pairs = row.iter_mut().zip(residual);
                pairs.for_each(|(value, other)| *value = clamp(*value * scale + shift + other));
            }
            (Some((scale, shift)), None) => {
                row.iter_mut().for_each(|value| *value = clamp(*value * scale + shift));
            }
            (None, Some(residual)) => {
                row.iter_mut().zip(residual).for_each(|(value, other)| *value = clamp(*value + other));
            }
            (None, None) => row.iter_mut().for_each(|value| *value = clamp(*value)),
        }
    }
}
