//! Convolution in which each channel has one kernel of its own: row by row, without columns.

use super::crew::each_piece;
use super::windows::{Span, Windows};

/// For each row of the kernel that meets the picture at an output row, and each of its columns:
/// the weight's number, the input row, and the span of outputs.
fn taps<'a>(
    sizes: &'a Windows,
    spans: &'a [Span],
    row: usize,
) -> impl Iterator<Item = (usize, usize, &'a Span, usize)> {
    let conv = sizes.conv;
    (0..sizes.window[0]).flat_map(move |y| {
        let input = (row * conv.stride + y * conv.dilation).checked_sub(conv.before[0]);
        let input = input.filter(|input| *input < sizes.input[0]);
        spans
            .iter()
            .enumerate()
            .filter_map(move |(x, span)| Some((y * sizes.window[1] + x, input?, span, span.from?)))
    })
}

pub(super) fn forward(sizes: &Windows, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let (spans, width) = (sizes.spans(), sizes.conv.output[1]);
    let mut output = vec![0f32; sizes.pictures * sizes.conv.groups * sizes.output_pixels()];
    each_piece(&mut output, sizes.output_pixels(), |at, output| {
        let x = &x[at * sizes.input_pixels()..][..sizes.input_pixels()];
        let channel = at % sizes.conv.groups;
        let w = &w[channel * sizes.window_pixels()..][..sizes.window_pixels()];
        let bias = bias.map_or(0.0, |bias| bias[channel]);
        for (row, output) in output.chunks_mut(width).enumerate() {
            output.fill(bias);
            for (weight, input, span, from) in taps(sizes, &spans, row) {
                let source = &x[input * sizes.input[1] + from..];
                let (target, w) = (&mut output[span.inside.clone()], w[weight]);
                match sizes.conv.stride {
                    1 => target.iter_mut().zip(source).for_each(|(t, s)| *t += w * s),
                    stride => {
                        target.iter_mut().zip(source.iter().step_by(stride)).for_each(|(t, s)| *t += w * s)
                    }
                }
            }
            if sizes.conv.relu {
                output.iter_mut().for_each(|value| *value = if *value < 0.0 { 0.0 } else { *value });
            }
        }
    });
    output
}

pub(super) fn input_gradient(sizes: &Windows, w: &[f32], gradient: &[f32]) -> Vec<f32> {
    let (spans, width) = (sizes.spans(), sizes.conv.output[1]);
    let mut result = vec![0f32; sizes.pictures * sizes.conv.groups * sizes.input_pixels()];
    each_piece(&mut result, sizes.input_pixels(), |at, result| {
        let gradient = &gradient[at * sizes.output_pixels()..][..sizes.output_pixels()];
        let w = &w[at % sizes.conv.groups * sizes.window_pixels()..][..sizes.window_pixels()];
        for (row, gradient) in gradient.chunks(width).enumerate() {
            for (weight, input, span, from) in taps(sizes, &spans, row) {
                let target = &mut result[input * sizes.input[1] + from..];
                let (source, w) = (&gradient[span.inside.clone()], w[weight]);
                match sizes.conv.stride {
                    1 => target.iter_mut().zip(source).for_each(|(t, s)| *t += w * s),
                    stride => target.iter_mut().step_by(stride).zip(source).for_each(|(t, s)| *t += w * s),
                }
            }
        }
    });
    result
}

pub(super) fn kernel_gradient(sizes: &Windows, x: &[f32], gradient: &[f32]) -> Vec<f32> {
    let (spans, width, channels) = (sizes.spans(), sizes.conv.output[1], sizes.conv.groups);
    let mut result = vec![0f32; channels * sizes.window_pixels()];
    each_piece(&mut result, sizes.window_pixels(), |channel, result| {
        let x = x.chunks(sizes.input_pixels()).skip(channel).step_by(channels);
        let gradient = gradient.chunks(sizes.output_pixels()).skip(channel).step_by(channels);
        for (x, gradient) in x.zip(gradient) {
            for (row, gradient) in gradient.chunks(width).enumerate() {
                for (weight, input, span, from) in taps(sizes, &spans, row) {
                    let source = x[input * sizes.input[1] + from..].iter().step_by(sizes.conv.stride);
                    result[weight] +=
                        gradient[span.inside.clone()].iter().zip(source).map(|(g, x)| g * x).sum::<f32>();
                }
            }
        }
    });
    result
}
