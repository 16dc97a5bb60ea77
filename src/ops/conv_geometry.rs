//! Geometry of a convolution: its sizes, and the input pixels that each row of outputs reads.

use std::ops::Range;

/// A convolution of `[N, C, H, W]` with kernels `[filters, C / groups, height, width]`: for
/// [`candle_core::Tensor::apply_op2`], or, with a bias `[filters]`, [`candle_core::Tensor::apply_op3`].
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    /// Step of the window, in pixels.
    pub stride: usize,
    /// Distance between neighbouring pixels of the window.
    pub dilation: usize,
    /// Groups of channels, convolved independently.
    pub groups: usize,
    /// Padding: rows of zeros above and columns of zeros left of the image.
    pub before: [usize; 2],
    /// The output's height and width.
    pub output: [usize; 2],
    /// Whether a ReLU follows.
    pub relu: bool,
}

/// The sizes of one convolution. Channels and filters are those of one group.
#[derive(Clone, Copy)]
pub(super) struct ConvGeometry {
    pub(super) conv: Conv,
    pub(super) images: usize,
    pub(super) in_channels: usize,
    pub(super) filters: usize,
    /// Height and width of the input.
    pub(super) input: [usize; 2],
    /// Height and width of the kernel.
    pub(super) window: [usize; 2],
}

impl ConvGeometry {
    pub(super) fn input_pixels(&self) -> usize {
        self.input[0] * self.input[1]
    }

    pub(super) fn output_pixels(&self) -> usize {
        self.conv.output[0] * self.conv.output[1]
    }

    pub(super) fn window_pixels(&self) -> usize {
        self.window[0] * self.window[1]
    }

    /// Values in one window: the length of an im2col column.
    pub(super) fn patch_len(&self) -> usize {
        self.in_channels * self.window_pixels()
    }

    /// Whether the convolution is 1x1 with stride 1 and no padding, so that the input already is the
    /// im2col matrix.
    pub(super) fn is_pointwise(&self) -> bool {
        self.window == [1, 1] && self.conv.stride == 1 && self.conv.output == self.input
    }

    /// Whether each channel is a group of its own, with one filter.
    pub(super) fn is_depthwise(&self) -> bool {
        self.in_channels == 1 && self.filters == 1 && self.conv.groups > 1
    }

    /// For each column of the window, the outputs of a row for which it lies inside the image.
    pub(super) fn spans(&self) -> Vec<Span> {
        let Conv { stride, dilation, before, output, .. } = self.conv;
        let span = |x: usize| Span::new(x * dilation, before[1], stride, output[1], self.input[1]);
        (0..self.window[1]).map(span).collect()
    }

    /// Visits the im2col matrix of some channels and output rows, one row of outputs at a time.
    ///
    /// `visit` gets the channel, the input row (`None` in the padding), the offset in the matrix, and
    /// the outputs whose pixel lies inside the image.
    pub(super) fn for_each_column_row(
        &self,
        channels: usize,
        rows: &Range<usize>,
        mut visit: impl FnMut(usize, Option<usize>, usize, &Span),
    ) {
        let Conv { stride, dilation, before, output, .. } = self.conv;
        let spans = self.spans();
        let mut offset = 0;
        for channel in 0..channels {
            for y in 0..self.window[0] {
                for span in &spans {
                    for row in rows.clone() {
                        let row = (row * stride + y * dilation).checked_sub(before[0]);
                        visit(channel, row.filter(|row| *row < self.input[0]), offset, span);
                        offset += output[1];
                    }
                }
            }
        }
    }
}

/// The outputs of a row for which one pixel of the window lies inside the image.
pub(super) struct Span {
    pub(super) outputs: Range<usize>,
    /// The input column of the first such output, if there is one.
    pub(super) first_input: Option<usize>,
}

impl Span {
    fn new(offset: usize, before: usize, stride: usize, outputs: usize, inputs: usize) -> Span {
        let start = before.saturating_sub(offset).div_ceil(stride).min(outputs);
        let end = (inputs + before).saturating_sub(offset).div_ceil(stride).clamp(start, outputs);
        let first_input = (start < end).then(|| start * stride + offset - before);
        Span { outputs: start..end, first_input }
    }
}
