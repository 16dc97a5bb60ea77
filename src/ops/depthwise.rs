//! Depthwise convolution: one kernel per channel, computed row by row without im2col.

use pulp::NullaryFnOnce;

use super::conv_geometry::{ConvGeometry, Span};
use super::sums::pair_sum;
use super::thread_pool::parallel_chunks_mut;

/// The kernel weights that contribute to one output row: for each, its index, the input row, the span
/// of outputs, and the first input column.
fn taps<'a>(
    geometry: &'a ConvGeometry,
    spans: &'a [Span],
    row: usize,
) -> impl Iterator<Item = (usize, usize, &'a Span, usize)> {
    let conv = geometry.conv;
    (0..geometry.window[0]).flat_map(move |y| {
        let input = (row * conv.stride + y * conv.dilation).checked_sub(conv.before[0]);
        let input = input.filter(|input| *input < geometry.input[0]);
        spans
            .iter()
            .enumerate()
            .filter_map(move |(x, span)| Some((y * geometry.window[1] + x, input?, span, span.first_input?)))
    })
}

/// A feature map with zeros around it. With stride 1, all outputs are sums over one long row of such a map. The
/// rows follow each other at a fixed distance, and the outputs between two rows are discarded.
struct Padded {
    /// Rows of `width` values; zeros after the last row, so that every block of outputs can be read.
    values: Vec<f32>,
    width: usize,
}

/// Outputs per block of the inner loop (64: four AVX-512 or eight AVX2 registers of sums).
const BLOCK: usize = 64;

impl Padded {
    /// Space for maps with `before` zeros in front of each side and `extent - 1` zeros in total.
    fn new(input: [usize; 2], before: [usize; 2], extent: [usize; 2], output: [usize; 2]) -> Padded {
        // The window of the last output ends inside the map.
        let sides = [0, 1].map(|axis| (output[axis] + extent[axis] - 1).max(input[axis] + before[axis]));
        Padded { values: vec![0.0; sides[0] * sides[1] + extent[1] + 2 * BLOCK], width: sides[1] }
    }

    /// Copies a map behind the zeros.
    fn fill(&mut self, map: &[f32], columns: usize, before: [usize; 2]) {
        for (row, map) in map.chunks(columns).enumerate() {
            let start = (row + before[0]) * self.width + before[1];
            self.values[start..start + columns].copy_from_slice(map);
        }
    }
}

/// The sums of one map, for stride 1.
struct Sums<'a> {
    padded: &'a Padded,
    /// Weights, and the distance of the pixels that they multiply from the output's place.
    taps: &'a [(usize, f32)],
    bias: f32,
    relu: bool,
    columns: usize,
    output: &'a mut [f32],
}

impl NullaryFnOnce for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (width, rows) = (self.padded.width, self.output.len() / self.columns);
        let mut long = [0f32; BLOCK];
        for start in (0..rows * width).step_by(BLOCK) {
            long.fill(self.bias);
            for &(offset, weight) in self.taps {
                let source = &self.padded.values[start + offset..][..BLOCK];
                long.iter_mut().zip(source).for_each(|(sum, value)| *sum += weight * value);
            }
            if self.relu {
                long.iter_mut().for_each(|value| *value = if *value < 0.0 { 0.0 } else { *value });
            }
            // The outputs of this block, without those between two rows.
            for row in start / width..rows.min((start + BLOCK).div_ceil(width)) {
                let (first, end) = (start.max(row * width), (start + BLOCK).min(row * width + self.columns));
                if first < end {
                    let target = row * self.columns + first - row * width;
                    self.output[target..target + end - first]
                        .copy_from_slice(&long[first - start..end - start]);
                }
            }
        }
    }
}

/// Weights of a channel, with the distances of their pixels in rows of `width` values.
fn long_taps(w: &[f32], geometry: &ConvGeometry, width: usize, flipped: bool) -> Vec<(usize, f32)> {
    let (columns, dilation) = (geometry.window[1], geometry.conv.dilation);
    let weight = |at: usize| if flipped { w[w.len() - 1 - at] } else { w[at] };
    (0..w.len()).map(|at| ((at / columns * width + at % columns) * dilation, weight(at))).collect()
}

/// Height and width of the image section under the window.
fn extent(geometry: &ConvGeometry) -> [usize; 2] {
    geometry.window.map(|side| (side - 1) * geometry.conv.dilation + 1)
}

/// The forward pass, with bias and ReLU.
pub(super) fn forward(geometry: &ConvGeometry, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let conv = geometry.conv;
    let (spans, width) = (geometry.spans(), conv.output[1]);
    let mut output = vec![0f32; geometry.images * conv.groups * geometry.output_pixels()];
    parallel_chunks_mut(&mut output, geometry.output_pixels(), |map, output| {
        let x = &x[map * geometry.input_pixels()..][..geometry.input_pixels()];
        let channel = map % conv.groups;
        let w = &w[channel * geometry.window_pixels()..][..geometry.window_pixels()];
        let bias = bias.map_or(0.0, |bias| bias[channel]);
        if conv.stride == 1 {
            let mut padded = Padded::new(geometry.input, conv.before, extent(geometry), conv.output);
            padded.fill(x, geometry.input[1], conv.before);
            let taps = &long_taps(w, geometry, padded.width, false);
            let (padded, relu) = (&padded, conv.relu);
            return pulp::Arch::new().dispatch(Sums { padded, taps, bias, relu, columns: width, output });
        }
        for (row, output) in output.chunks_mut(width).enumerate() {
            output.fill(bias);
            for (weight, input, span, from) in taps(geometry, &spans, row) {
                let source = &x[input * geometry.input[1] + from..];
                let (target, w) = (&mut output[span.outputs.clone()], w[weight]);
                target.iter_mut().zip(source.iter().step_by(conv.stride)).for_each(|(t, s)| *t += w * s);
            }
            if conv.relu {
                output.iter_mut().for_each(|value| *value = if *value < 0.0 { 0.0 } else { *value });
            }
        }
    });
    output
}

/// The gradient of the input.
pub(super) fn input_gradient(geometry: &ConvGeometry, w: &[f32], gradient: &[f32]) -> Vec<f32> {
    let conv = geometry.conv;
    let (spans, width, extent) = (geometry.spans(), conv.output[1], extent(geometry));
    let mut result = vec![0f32; geometry.images * conv.groups * geometry.input_pixels()];
    // With stride 1 it is a convolution of the gradient with the flipped kernel.
    let before = [0, 1].map(|axis| (extent[axis] - 1).checked_sub(conv.before[axis]));
    let before = match before {
        [Some(rows), Some(columns)] if conv.stride == 1 => Some([rows, columns]),
        _ => None,
    };
    parallel_chunks_mut(&mut result, geometry.input_pixels(), |map, result| {
        let gradient = &gradient[map * geometry.output_pixels()..][..geometry.output_pixels()];
        let w = &w[map % conv.groups * geometry.window_pixels()..][..geometry.window_pixels()];
        if let Some(before) = before {
            let mut padded = Padded::new(conv.output, before, extent, geometry.input);
            padded.fill(gradient, width, before);
            let taps = &long_taps(w, geometry, padded.width, true);
            let (padded, columns, output) = (&padded, geometry.input[1], result);
            return pulp::Arch::new().dispatch(Sums {
                padded,
                taps,
                bias: 0.0,
                relu: false,
                columns,
                output,
            });
        }
        for (row, gradient) in gradient.chunks(width).enumerate() {
            for (weight, input, span, from) in taps(geometry, &spans, row) {
                let target = &mut result[input * geometry.input[1] + from..];
                let (source, w) = (&gradient[span.outputs.clone()], w[weight]);
                match conv.stride {
                    1 => target.iter_mut().zip(source).for_each(|(t, s)| *t += w * s),
                    stride => target.iter_mut().step_by(stride).zip(source).for_each(|(t, s)| *t += w * s),
                }
            }
        }
    });
    result
}

/// The products of one channel's maps, for stride 1: one sum per weight.
struct Products<'a> {
    padded: &'a Padded,
    /// The gradient in rows of the padded map's width, with zeros between two rows.
    gradient: &'a [f32],
    offsets: &'a [(usize, f32)],
    sums: &'a mut [f32],
}

impl NullaryFnOnce for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (sum, (offset, _)) in self.sums.iter_mut().zip(self.offsets) {
            let source = &self.padded.values[*offset..][..self.gradient.len()];
            *sum += pair_sum(self.gradient, source, |gradient, value| gradient * value);
        }
    }
}

/// The gradient of the kernels.
pub(super) fn kernel_gradient(geometry: &ConvGeometry, x: &[f32], gradient: &[f32]) -> Vec<f32> {
    let conv = geometry.conv;
    let (spans, width, channels) = (geometry.spans(), conv.output[1], conv.groups);
    let mut result = vec![0f32; channels * geometry.window_pixels()];
    parallel_chunks_mut(&mut result, geometry.window_pixels(), |channel, result| {
        let x = x.chunks(geometry.input_pixels()).skip(channel).step_by(channels);
        let gradient = gradient.chunks(geometry.output_pixels()).skip(channel).step_by(channels);
        if conv.stride == 1 {
            let mut padded = Padded::new(geometry.input, conv.before, extent(geometry), conv.output);
            let offsets = long_taps(result, geometry, padded.width, false);
            let mut long = vec![0f32; conv.output[0] * padded.width];
            for (x, gradient) in x.zip(gradient) {
                padded.fill(x, geometry.input[1], conv.before);
                for (long, row) in long.chunks_mut(padded.width).zip(gradient.chunks(width)) {
                    long[..width].copy_from_slice(row);
                }
                let (padded, gradient, offsets) = (&padded, &*long, &*offsets);
                pulp::Arch::new().dispatch(Products { padded, gradient, offsets, sums: result });
            }
            return;
        }
        for (x, gradient) in x.zip(gradient) {
            for (row, gradient) in gradient.chunks(width).enumerate() {
                for (weight, input, span, from) in taps(geometry, &spans, row) {
                    let source = x[input * geometry.input[1] + from..].iter().step_by(conv.stride);
                    result[weight] +=
                        gradient[span.outputs.clone()].iter().zip(source).map(|(g, x)| g * x).sum::<f32>();
                }
            }
        }
    });
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Conv;
    use crate::ops::tests::{flat, random_tensor};

    /// Sums over all outputs and weights of `visit(output, input, weight)`, for inputs inside the image.
    fn for_each_product(geometry: &ConvGeometry, mut visit: impl FnMut(usize, usize, usize)) {
        let (conv, [rows, columns]) = (geometry.conv, geometry.input);
        for (at, weight) in
            (0..geometry.output_pixels()).flat_map(|at| (0..geometry.window_pixels()).map(move |w| (at, w)))
        {
            let place = |output: usize, weight: usize, axis: usize| {
                (output * conv.stride + weight * conv.dilation).checked_sub(conv.before[axis])
            };
            let row = place(at / conv.output[1], weight / geometry.window[1], 0);
            let column = place(at % conv.output[1], weight % geometry.window[1], 1);
            if let (Some(row), Some(column)) =
                (row.filter(|row| *row < rows), column.filter(|c| *c < columns))
            {
                visit(at, row * columns + column, weight);
            }
        }
    }

    #[test]
    fn outputs_and_gradients_match_the_definition() {
        // Input, window, stride, dilation, zeros before and after each side.
        for (input, window, stride, dilation, padding) in [
            ([7, 5], [7, 7], 1, 1, 3),
            ([1, 1], [3, 3], 1, 1, 1),
            ([9, 80], [3, 70], 1, 1, 1),
            ([80, 3], [70, 2], 1, 1, 1),
            ([14, 14], [3, 3], 1, 3, 2),
            ([20, 66], [5, 5], 1, 1, 0),
            ([11, 9], [5, 3], 2, 1, 2),
        ] {
            let output = [0, 1].map(|axis: usize| {
                (input[axis] + 2 * padding - (window[axis] - 1) * dilation - 1) / stride + 1
            });
            let conv = Conv { stride, dilation, groups: 2, before: [padding; 2], output, relu: false };
            let geometry = ConvGeometry { conv, images: 1, in_channels: 1, filters: 1, input, window };
            let x = flat(&random_tensor(1, &[2, geometry.input_pixels()]));
            let w = flat(&random_tensor(2, &[2, geometry.window_pixels()]));
            let gradient = flat(&random_tensor(3, &[2, geometry.output_pixels()]));
            let mut expected = [vec![0f64; gradient.len()], vec![0f64; x.len()], vec![0f64; w.len()]];
            expected[0].iter_mut().for_each(|sum| *sum = 0.5);
            for channel in 0..2 {
                for_each_product(&geometry, |at, from, weight| {
                    let at = at + channel * geometry.output_pixels();
                    let from = from + channel * geometry.input_pixels();
                    let weight = weight + channel * geometry.window_pixels();
                    expected[0][at] += f64::from(x[from]) * f64::from(w[weight]);
                    expected[1][from] += f64::from(gradient[at]) * f64::from(w[weight]);
                    expected[2][weight] += f64::from(gradient[at]) * f64::from(x[from]);
                });
            }
            let found = [
                forward(&geometry, &x, &w, Some(&[0.5, 0.5])),
                input_gradient(&geometry, &w, &gradient),
                kernel_gradient(&geometry, &x, &gradient),
            ];
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.len(), expected.len());
                let largest = expected.iter().fold(0f64, |largest, value| largest.max(value.abs()));
                let error =
                    found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
                assert!(error < 1e-5 * largest, "{input:?} {window:?}: {error} of {largest}");
            }
        }
    }
}
