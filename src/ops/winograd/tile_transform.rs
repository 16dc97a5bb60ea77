//! Winograd transforms of tiles: of inputs, of outputs, and of output gradients.

use std::ops::Range;

use pulp::NullaryFnOnce;

use super::transform::{
    IN, Lanes, OUT, POSITIONS, gradient_transform_line, input_transform_line, output_transform_line,
    position_stride, transform_2d,
};
use crate::ops::Conv;
use crate::ops::epilogue::EpilogueValues;
use crate::ops::output_ptr::OutputPtr;
use crate::ops::packed_gemm::LANES;

/// The grid of tiles over one image.
pub(super) struct TileGrid {
    input: [usize; 2],
    output: [usize; 2],
    before: [usize; 2],
    /// Rows and columns of tiles.
    tiles: [usize; 2],
}

impl TileGrid {
    /// The grid of a convolution with an input of this height and width.
    pub(super) fn new(conv: &Conv, input: [usize; 2]) -> TileGrid {
        let Conv { output, before, .. } = *conv;
        TileGrid { input, output, before, tiles: output.map(|side| side.div_ceil(OUT)) }
    }

    /// Number of tiles of an image.
    pub(super) fn tiles_per_image(&self) -> usize {
        self.tiles[0] * self.tiles[1]
    }

    /// Position of a tile of the batch: its image, the row and column of its first output, and the numbers of
    /// output rows and columns inside the image.
    fn output_tile(&self, tile: usize) -> (usize, [usize; 2], [usize; 2]) {
        let (image, tile) = (tile / self.tiles_per_image(), tile % self.tiles_per_image());
        let start = [tile / self.tiles[1] * OUT, tile % self.tiles[1] * OUT];
        (image, start, [0, 1].map(|axis| (self.output[axis] - start[axis]).min(OUT)))
    }

    /// Along one axis: the input positions of a tile that lie inside the image, and the input pixel of
    /// the first of them.
    fn input_range(&self, axis: usize, tile: usize) -> (Range<usize>, usize) {
        let (start, before) = (tile * OUT, self.before[axis]);
        let from = before.saturating_sub(start).min(IN);
        let to = (self.input[axis] + before).saturating_sub(start).clamp(from, IN);
        (from..to, (start + from).saturating_sub(before))
    }
}

/// Input transform `B' d B` of some tiles, to the 36 tile positions.
pub(super) struct InputTransform<'a> {
    pub(super) grid: &'a TileGrid,
    /// NHWC.
    pub(super) x: &'a [f32],
    pub(super) tiles: Range<usize>,
    pub(super) channels: usize,
    /// Order: tile position ([`position_stride`] apart), tile, channel.
    pub(super) target: &'a mut [f32],
}

impl NullaryFnOnce for InputTransform<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let InputTransform { grid, x, tiles, channels, target } = self;
        let [height, width] = grid.input;
        let (tiles_per_image, position_stride) =
            (grid.tiles_per_image(), position_stride(tiles.len(), channels));
        let mut d = [[0f32; LANES]; POSITIONS];
        for (index, tile) in tiles.clone().enumerate() {
            let image = &x[tile / tiles_per_image * channels * height * width..][..channels * height * width];
            let (rows, top) = grid.input_range(0, tile % tiles_per_image / grid.tiles[1]);
            let (columns, left) = grid.input_range(1, tile % tiles_per_image % grid.tiles[1]);
            if rows.len() < IN || columns.len() < IN {
                d = [[0f32; LANES]; POSITIONS];
            }
            for first in (0..channels).step_by(LANES) {
                for row in rows.clone() {
                    let line = (top + row - rows.start) * width + left;
                    for column in columns.clone() {
                        let pixel = (line + column - columns.start) * channels + first;
                        d[row * IN + column].copy_from_slice(&image[pixel..][..LANES]);
                    }
                }
                let transformed = transform_2d(&d, [IN, IN], input_transform_line);
                for (position, lanes) in transformed.iter().enumerate() {
                    target[position * position_stride + index * channels + first..][..LANES]
                        .copy_from_slice(lanes);
                }
            }
        }
    }
}

/// Output transform `A' m A` of some tiles and filters, followed by the epilogue.
pub(super) struct OutputTransform<'a> {
    pub(super) grid: &'a TileGrid,
    /// Order: tile position ([`position_stride`] apart), tile, filter.
    pub(super) sums: &'a [f32],
    pub(super) tiles: Range<usize>,
    pub(super) filters: Range<usize>,
    /// Number of filters of the output.
    pub(super) total_filters: usize,
    /// The epilogue of all filters; its residual is NHWC.
    pub(super) epilogue: EpilogueValues<'a>,
    /// The whole output, NHWC. No other task writes these filters of these tiles.
    pub(super) target: &'a OutputPtr,
}

impl NullaryFnOnce for OutputTransform<'_> {
    type Output = ();

    // Index loops over lanes: several arrays are indexed at once.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn call(self) {
        let OutputTransform { grid, sums, tiles, filters, total_filters, epilogue, target } = self;
        let [height, width] = grid.output;
        let position_stride = position_stride(tiles.len(), filters.len());
        for (index, tile) in tiles.clone().enumerate() {
            let (image, [y, x], [rows, columns]) = grid.output_tile(tile);
            for first in (0..filters.len()).step_by(LANES) {
                let mut m = [[0f32; LANES]; POSITIONS];
                for (position, lanes) in m.iter_mut().enumerate() {
                    let start = position * position_stride + index * filters.len() + first;
                    lanes.copy_from_slice(&sums[start..][..LANES]);
                }
                let transformed = transform_2d(&m, [IN, OUT], output_transform_line);
                let filter = filters.start + first;
                let lanes =
                    |all: &[f32]| Lanes::try_from(&all[filter..][..LANES]).expect("a slice of LANES values");
                let bias = epilogue.bias.map(lanes);
                let affine = epilogue.affine.map(|(scale, shift)| (lanes(scale), lanes(shift)));
                for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                    let mut values = transformed[row * IN + column];
                    let pixel = (image * height + y + row) * width + x + column;
                    if let Some(bias) = bias {
                        for lane in 0..LANES {
                            values[lane] += bias[lane];
                        }
                    }
                    if let Some((scale, shift)) = affine {
                        for lane in 0..LANES {
                            values[lane] = values[lane] * scale[lane] + shift[lane];
                        }
                    }
                    if let Some(residual) = epilogue.residual {
                        let residual = &residual[pixel * total_filters + filter..][..LANES];
                        for lane in 0..LANES {
                            values[lane] += residual[lane];
                        }
                    }
                    if epilogue.relu {
                        for value in &mut values {
                            // A comparison instead of `max`, so that NaN propagates.
                            *value = if *value < 0.0 { 0.0 } else { *value };
                        }
                    }
                    // SAFETY: the tile's own outputs.
                    unsafe {
                        target
                            .at(pixel * total_filters + filter)
                            .copy_from_nonoverlapping(values.as_ptr(), LANES)
                    };
                }
            }
        }
    }
}

/// Gradient transform `A d A'` of some tiles, to the 36 tile positions.
pub(super) struct GradientTransform<'a> {
    pub(super) grid: &'a TileGrid,
    /// NHWC.
    pub(super) gradient: &'a [f32],
    pub(super) tiles: Range<usize>,
    pub(super) filters: usize,
    /// Order: tile position ([`position_stride`] apart), tile, filter.
    pub(super) target: &'a mut [f32],
}

impl NullaryFnOnce for GradientTransform<'_> {
    type Output = ();

    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn call(self) {
        let GradientTransform { grid, gradient, tiles, filters, target } = self;
        let [height, width] = grid.output;
        let position_stride = position_stride(tiles.len(), filters);
        for (index, tile) in tiles.clone().enumerate() {
            let (image, [y, x], [rows, columns]) = grid.output_tile(tile);
            let image = &gradient[image * filters * height * width..][..filters * height * width];
            for first in (0..filters).step_by(LANES) {
                // Outputs outside the image have gradient zero.
                let mut d = [[0f32; LANES]; POSITIONS];
                for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                    let pixel = ((y + row) * width + x + column) * filters + first;
                    d[row * IN + column].copy_from_slice(&image[pixel..][..LANES]);
                }
                let transformed = transform_2d(&d, [OUT, IN], gradient_transform_line);
                for (position, lanes) in transformed.iter().enumerate() {
                    target[position * position_stride + index * filters + first..][..LANES]
                        .copy_from_slice(lanes);
                }
            }
        }
    }
}
