//! Reductions of feature maps in bfloat16, whose layout is NHWC: matrices with one row per pixel. Blocks sum parts of the
//! rows, and a second kernel adds the parts in a fixed order.

use crate::kernels::int;
use crate::raw::Argument::{Array as A, BFloats as B, Float, Int, Optional, OptionalBFloats};
use crate::raw::{Array, Gpu};
use crate::{MapShape, NormalizationOperands, Output, Result};

/// Channels that a block sums: `LANES` in `channels_last.cu`.
const LANES: usize = 32;
/// Smallest number of rows in a part (64: four for each thread of a block).
const MIN_ROWS: usize = 64;
/// Maximum number of parts, which one thread adds (256).
const MAX_PARTS: usize = 256;

/// The rows of a matrix in parts.
struct Parts {
    rows: usize,
    channels: usize,
    /// Rows of each part but the last, which may have fewer.
    part_rows: usize,
}

impl Parts {
    fn new([rows, channels]: [usize; 2]) -> Parts {
        Parts { rows, channels, part_rows: rows.div_ceil(MAX_PARTS).max(MIN_ROWS) }
    }

    /// The number of parts.
    fn count(&self) -> usize {
        self.rows.div_ceil(self.part_rows)
    }

    /// The number of blocks that sum them.
    fn blocks(&self) -> usize {
        self.count() * self.channels.div_ceil(LANES)
    }

    /// The number of values.
    fn values(&self) -> usize {
        self.rows * self.channels
    }
}

impl Gpu {
    /// [`Gpu::batch_statistics`]. `results` are mean, 1/σ, and the moving mean and variance.
    pub(crate) fn batch_statistics_of_rows(
        &self,
        x: &Array,
        results: [&Array; 4],
        maps: MapShape,
        epsilon: f32,
        momentum: f64,
    ) -> Result<()> {
        const NAME: &str = "statistics_of_parts";
        let channels = maps.channels;
        let parts = Parts::new([maps.batch * maps.inner, channels]);
        int(NAME, parts.values())?;
        let found = self.array(2 * parts.count() * channels)?;
        let sizes =
            [Int(int(NAME, parts.rows)?), Int(int(NAME, channels)?), Int(int(NAME, parts.part_rows)?)];
        let operands = [B(x, parts.values()), A(&found, found.len())];
        self.launch_blocks(NAME, parts.blocks(), &[&operands[..], &sizes].concat())?;
        let operands = [A(&found, found.len())];
        let results = results.map(|array| A(array, channels));
        let factors = [Float(epsilon), Float(momentum as f32), Float((1.0 - momentum) as f32)];
        let arguments = [&operands[..], &results, &sizes, &factors].concat();
        self.launch_each("batch_statistics_of_parts", channels, &arguments)
    }

    /// [`Gpu::normalize_backward_sums`].
    pub(crate) fn normalize_sums_of_rows(
        &self,
        operands: &NormalizationOperands,
        sums: &Array,
        [gamma, beta]: [Option<&Array>; 2],
        output: Output,
    ) -> Result<()> {
        const NAME: &str = "normalize_sums_of_parts";
        let &NormalizationOperands { dy, x, y, function, statistics, maps } = operands;
        let channels = maps.channels;
        let parts = Parts::new([maps.batch * maps.inner, channels]);
        let count = parts.values();
        int(NAME, count)?;
        let found = self.array(2 * parts.count() * channels)?;
        let arguments = [
            B(dy, count),
            B(x, count),
            OptionalBFloats(y, count),
            A(statistics.mean, channels),
            A(statistics.spread, channels),
            A(&found, found.len()),
            Int(int(NAME, parts.rows)?),
            Int(int(NAME, channels)?),
            Int(int(NAME, parts.part_rows)?),
            Float(statistics.epsilon),
            Int(i32::from(statistics.is_moving)),
            Int(function.number()),
        ];
        self.launch_blocks(NAME, parts.blocks(), &arguments)?;
        self.add_parts(&found, Some(sums), [beta, gamma], [2 * channels, channels], output)
    }

    /// [`Gpu::bias_backward`], for a matrix of rows and channels.
    pub(crate) fn bias_backward_of_rows(
        &self,
        dy: &Array,
        db: &Array,
        sides: [usize; 2],
        output: Output,
    ) -> Result<()> {
        const NAME: &str = "sums_of_parts";
        let (parts, channels) = (Parts::new(sides), sides[1]);
        int(NAME, parts.values())?;
        let found = self.array(parts.count() * channels)?;
        let arguments = [
            B(dy, parts.values()),
            A(&found, found.len()),
            Int(int(NAME, parts.rows)?),
            Int(int(NAME, channels)?),
            Int(int(NAME, parts.part_rows)?),
        ];
        self.launch_blocks(NAME, parts.blocks(), &arguments)?;
        self.add_parts(&found, None, [Some(db), None], [channels; 2], output)
    }

    /// Adds parts of `columns` sums. The first `channels` sums are also the first gradient, the others the second.
    fn add_parts(
        &self,
        parts: &Array,
        sums: Option<&Array>,
        [first, second]: [Option<&Array>; 2],
        [columns, channels]: [usize; 2],
        output: Output,
    ) -> Result<()> {
        const NAME: &str = "add_parts";
        let arguments = [
            A(parts, parts.len()),
            Optional(sums, columns),
            Optional(first, channels),
            Optional(second, channels),
            Int(int(NAME, parts.len() / columns.max(1))?),
            Int(int(NAME, columns)?),
            Int(int(NAME, channels)?),
            Int(output.adds()),
        ];
        self.launch_each(NAME, columns, &arguments)
    }

    /// [`Gpu::global_mean`].
    pub(crate) fn means_of_samples(&self, x: &Array, y: &Array, [channels, inner]: [usize; 2]) -> Result<()> {
        const NAME: &str = "means_of_samples";
        let (maps, count) = (y.len(), y.len() * inner);
        int(NAME, count)?;
        let arguments = [B(x, count), A(y, maps), Int(int(NAME, channels)?), Int(int(NAME, inner)?)];
        self.launch_blocks(NAME, sample_blocks(maps, channels), &arguments)
    }

    /// [`Gpu::scale_maps_backward`].
    pub(crate) fn products_of_samples(
        &self,
        [dy, x]: [&Array; 2],
        factors: &Array,
        [channels, inner]: [usize; 2],
        output: Output,
    ) -> Result<()> {
        const NAME: &str = "products_of_samples";
        let (maps, count) = (factors.len(), factors.len() * inner);
        int(NAME, count)?;
        let arguments = [
            B(dy, count),
            B(x, count),
            B(factors, maps),
            Int(int(NAME, channels)?),
            Int(int(NAME, inner)?),
            Int(output.adds()),
        ];
        self.launch_blocks(NAME, sample_blocks(maps, channels), &arguments)
    }
}

/// The number of blocks that reduce feature maps of whole samples.
fn sample_blocks(maps: usize, channels: usize) -> usize {
    maps / channels.max(1) * channels.div_ceil(LANES)
}
