//! Depthwise convolution: one kernel per channel, computed row by row without im2col.

use super::conv_geometry::{ConvGeometry, Span};
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

/// The forward pass, with bias and ReLU.
pub(super) fn forward(geometry: &ConvGeometry, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let (spans, width) = (geometry.spans(), geometry.conv.output[1]);
    let mut output = vec![0f32; geometry.images * geometry.conv.groups * geometry.output_pixels()];
    parallel_chunks_mut(&mut output, geometry.output_pixels(), |map, output| {
        let x = &x[map * geometry.input_pixels()..][..geometry.input_pixels()];
        let channel = map % geometry.conv.groups;
        let w = &w[channel * geometry.window_pixels()..][..geometry.window_pixels()];
        let bias = bias.map_or(0.0, |bias| bias[channel]);
        for (row, output) in output.chunks_mut(width).enumerate() {
            output.fill(bias);
            for (weight, input, span, from) in taps(geometry, &spans, row) {
                let source = &x[input * geometry.input[1] + from..];
                let (target, w) = (&mut output[span.outputs.clone()], w[weight]);
                match geometry.conv.stride {
                    1 => target.iter_mut().zip(source).for_each(|(t, s)| *t += w * s),
                    stride => {
                        target.iter_mut().zip(source.iter().step_by(stride)).for_each(|(t, s)| *t += w * s)
                    }
                }
            }
            if geometry.conv.relu {
                output.iter_mut().for_each(|value| *value = if *value < 0.0 { 0.0 } else { *value });
            }
        }
    });
    output
}

/// The gradient of the input.
pub(super) fn input_gradient(geometry: &ConvGeometry, w: &[f32], gradient: &[f32]) -> Vec<f32> {
    let (spans, width) = (geometry.spans(), geometry.conv.output[1]);
    let mut result = vec![0f32; geometry.images * geometry.conv.groups * geometry.input_pixels()];
    parallel_chunks_mut(&mut result, geometry.input_pixels(), |map, result| {
        let gradient = &gradient[map * geometry.output_pixels()..][..geometry.output_pixels()];
        let w = &w[map % geometry.conv.groups * geometry.window_pixels()..][..geometry.window_pixels()];
        for (row, gradient) in gradient.chunks(width).enumerate() {
            for (weight, input, span, from) in taps(geometry, &spans, row) {
                let target = &mut result[input * geometry.input[1] + from..];
                let (source, w) = (&gradient[span.outputs.clone()], w[weight]);
                match geometry.conv.stride {
                    1 => target.iter_mut().zip(source).for_each(|(t, s)| *t += w * s),
                    stride => target.iter_mut().step_by(stride).zip(source).for_each(|(t, s)| *t += w * s),
                }
            }
        }
    });
    result
}

/// The gradient of the kernels.
pub(super) fn kernel_gradient(geometry: &ConvGeometry, x: &[f32], gradient: &[f32]) -> Vec<f32> {
    let (spans, width, channels) = (geometry.spans(), geometry.conv.output[1], geometry.conv.groups);
    let mut result = vec![0f32; channels * geometry.window_pixels()];
    parallel_chunks_mut(&mut result, geometry.window_pixels(), |channel, result| {
        let x = x.chunks(geometry.input_pixels()).skip(channel).step_by(channels);
        let gradient = gradient.chunks(geometry.output_pixels()).skip(channel).step_by(channels);
        for (x, gradient) in x.zip(gradient) {
            for (row, gradient) in gradient.chunks(width).enumerate() {
                for (weight, input, span, from) in taps(geometry, &spans, row) {
                    let source = x[input * geometry.input[1] + from..].iter().step_by(geometry.conv.stride);
                    result[weight] +=
                        gradient[span.outputs.clone()].iter().zip(source).map(|(g, x)| g * x).sum::<f32>();
                }
            }
        }
    });
    result
}
