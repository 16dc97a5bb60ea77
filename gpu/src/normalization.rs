//! Batch normalisation.

use crate::kernels::int;
use crate::raw::Argument::{Array as A, Float, Int, Optional, OptionalValues as OptionalV, Values as V};
use crate::raw::{Array, Element, Gpu};
use crate::{Activation, Output, Result};

/// The sizes of feature maps `[batch, channels, inner]`, where `inner` is the number of pixels of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapShape {
    /// Samples.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Pixels of a feature map.
    pub inner: usize,
}

impl MapShape {
    /// The number of values.
    pub fn count(self) -> usize {
        self.batch * self.channels * self.inner
    }
}

/// The statistics that a normalisation uses, each with one value per channel.
#[derive(Clone, Copy, Debug)]
pub struct Statistics<'a> {
    /// The mean.
    pub mean: &'a Array,
    /// 1/σ of the batch ([`Gpu::batch_statistics`]), or a moving variance.
    pub spread: &'a Array,
    /// Whether `spread` is a variance. Then the statistics do not depend on the input.
    pub is_moving: bool,
    /// Added to a variance before the square root.
    pub epsilon: f32,
}

/// The operands of the backward pass of a normalisation.
#[derive(Clone, Copy, Debug)]
pub struct NormalizationOperands<'a> {
    /// The gradient of the output.
    pub dy: &'a Array,
    /// The input of the forward pass.
    pub x: &'a Array,
    /// The output of the forward pass, if it ends with an activation.
    pub y: Option<&'a Array>,
    /// The activation.
    pub function: Activation,
    /// The statistics of the forward pass.
    pub statistics: Statistics<'a>,
    /// The sizes.
    pub maps: MapShape,
}

impl Gpu {
    /// Computes mean and 1/σ of each channel of a batch, and updates the moving mean and variance. `momentum` is the
    /// weight of their old values.
    ///
    /// # Errors
    /// [`crate::Error::Length`] if an array is too short; [`crate::Error::Cuda`].
    pub fn batch_statistics(
        &self,
        x: &Array,
        [mean, spread]: [&Array; 2],
        [moving_mean, moving_variance]: [&Array; 2],
        maps: MapShape,
        epsilon: f32,
        momentum: f64,
    ) -> Result<()> {
        const NAME: &str = "batch_statistics";
        if x.element() == Element::BFloat16 {
            let results = [mean, spread, moving_mean, moving_variance];
            return self.batch_statistics_of_rows(x, results, maps, epsilon, momentum);
        }
        let MapShape { batch, channels, inner } = maps;
        int(NAME, maps.count())?;
        let arguments = [
            A(x, maps.count()),
            A(mean, channels),
            A(spread, channels),
            A(moving_mean, channels),
            A(moving_variance, channels),
            Int(int(NAME, batch)?),
            Int(int(NAME, channels)?),
            Int(int(NAME, inner)?),
            Float(epsilon),
            Float(momentum as f32),
            Float((1.0 - momentum) as f32),
        ];
        self.launch_blocks(NAME, channels, &arguments)
    }

    /// `y = f((x - mean) · gamma / σ + beta + residual)`
    ///
    /// # Errors
    /// As [`Gpu::batch_statistics`].
    #[allow(clippy::too_many_arguments, reason = "the operands of a fused operation")]
    pub fn normalize(
        &self,
        x: &Array,
        statistics: Statistics,
        [gamma, beta]: [&Array; 2],
        residual: Option<&Array>,
        y: &Array,
        maps: MapShape,
        function: Activation,
    ) -> Result<()> {
        const NAME: &str = "normalize";
        let count = maps.count();
        let [channels, inner] = y.element().sides([maps.channels, maps.inner]);
        let arguments = [
            V(x, count),
            A(statistics.mean, channels),
            A(statistics.spread, channels),
            A(gamma, channels),
            A(beta, channels),
            OptionalV(residual, count),
            V(y, count),
            Int(int(NAME, count)?),
            Int(int(NAME, channels)?),
            Int(int(NAME, inner)?),
            Float(statistics.epsilon),
            Int(i32::from(statistics.is_moving)),
            Int(function.number()),
        ];
        self.launch_each(NAME, count, &arguments)
    }

    /// The gradients of gamma and beta, each of which may be omitted, and the sums that
    /// [`Gpu::normalize_backward`] takes: `[2, channels]`.
    ///
    /// # Errors
    /// As [`Gpu::batch_statistics`].
    pub fn normalize_backward_sums(
        &self,
        operands: &NormalizationOperands,
        sums: &Array,
        [gamma, beta]: [Option<&Array>; 2],
        output: Output,
    ) -> Result<()> {
        const NAME: &str = "normalize_backward_sums";
        if operands.x.element() == Element::BFloat16 {
            return self.normalize_sums_of_rows(operands, sums, [gamma, beta], output);
        }
        let &NormalizationOperands { dy, x, y, function, statistics, maps } = operands;
        let (count, channels) = (maps.count(), maps.channels);
        int(NAME, count)?;
        let arguments = [
            A(dy, count),
            A(x, count),
            Optional(y, count),
            A(statistics.mean, channels),
            A(statistics.spread, channels),
            A(sums, 2 * channels),
            Optional(gamma, channels),
            Optional(beta, channels),
            Int(int(NAME, maps.batch)?),
            Int(int(NAME, channels)?),
            Int(int(NAME, maps.inner)?),
            Float(statistics.epsilon),
            Int(i32::from(statistics.is_moving)),
            Int(function.number()),
            Int(output.adds()),
        ];
        self.launch_blocks(NAME, channels, &arguments)
    }

    /// The gradients of the input and of the residual, each of which may be omitted. `sums` are those of
    /// [`Gpu::normalize_backward_sums`], and `None` if the statistics do not depend on the input.
    ///
    /// # Errors
    /// As [`Gpu::batch_statistics`].
    pub fn normalize_backward(
        &self,
        operands: &NormalizationOperands,
        gamma: &Array,
        sums: Option<&Array>,
        dx: Option<(&Array, Output)>,
        residual: Option<(&Array, Output)>,
    ) -> Result<()> {
        const NAME: &str = "normalize_backward";
        let &NormalizationOperands { dy, x, y, function, statistics, maps } = operands;
        let count = maps.count();
        let rows = maps.batch * maps.inner;
        let [channels, inner] = x.element().sides([maps.channels, maps.inner]);
        let adds = |gradient: Option<(&Array, Output)>| Int(gradient.map_or(0, |(_, output)| output.adds()));
        let arguments = [
            V(dy, count),
            V(x, count),
            OptionalV(y, count),
            A(statistics.mean, channels),
            A(statistics.spread, channels),
            A(gamma, channels),
            Optional(sums, 2 * channels),
            OptionalV(dx.map(|(array, _)| array), count),
            OptionalV(residual.map(|(array, _)| array), count),
            Int(int(NAME, count)?),
            Int(int(NAME, rows / inner.max(1))?),
            Int(int(NAME, channels)?),
            Int(int(NAME, inner)?),
            Float(statistics.epsilon),
            Int(i32::from(statistics.is_moving)),
            Int(function.number()),
            adds(dx),
            adds(residual),
        ];
        self.launch_each(NAME, count, &arguments)
    }
}
