//! Where a convolution's windows lie: its sizes, and the pixels that each row of outputs sees.

use std::ops::Range;

use super::Conv;

/// The sizes of one convolution.
#[derive(Clone, Copy)]
pub(super) struct Windows {
    pub(super) conv: Conv,
    pub(super) pictures: usize,
    /// Of one group.
    pub(super) inputs: usize,
    /// Of one group.
    pub(super) filters: usize,
    pub(super) input: [usize; 2],
    pub(super) window: [usize; 2],
}

impl Windows {
    pub(super) fn input_pixels(&self) -> usize {
        self.input[0] * self.input[1]
    }

    pub(super) fn output_pixels(&self) -> usize {
        self.conv.output[0] * self.conv.output[1]
    }

    pub(super) fn window_pixels(&self) -> usize {
        self.window[0] * self.window[1]
    }

    /// Numbers in one window.
    pub(super) fn column(&self) -> usize {
        self.inputs * self.window_pixels()
    }

    /// Whether the input's pixels already are the columns.
    pub(super) fn is_pointwise(&self) -> bool {
        self.window == [1, 1] && self.conv.stride == 1 && self.conv.output == self.input
    }

    /// Whether each channel has one kernel of its own.
    pub(super) fn is_depthwise(&self) -> bool {
        self.inputs == 1 && self.filters == 1 && self.conv.groups > 1
    }

    /// For each column of the window, the outputs for which it lies inside the picture.
    pub(super) fn spans(&self) -> Vec<Span> {
        let Conv { stride, dilation, before, output, .. } = self.conv;
        let span = |x: usize| Span::new(x * dilation, before[1], stride, output[1], self.input[1]);
        (0..self.window[1]).map(span).collect()
    }

    /// For each row of each window's pixel: its channel, its input row if that is inside, where it
    /// stands among the columns, and which of its pixels are inside.
    pub(super) fn each_row(
        &self,
        channels: usize,
        rows: &Range<usize>,
        mut visit: impl FnMut(usize, Option<usize>, usize, &Span),
    ) {
        let Conv { stride, dilation, before, output, .. } = self.conv;
        let spans = self.spans();
        let mut at = 0;
        for channel in 0..channels {
            for y in 0..self.window[0] {
                for span in &spans {
                    for row in rows.clone() {
                        let row = (row * stride + y * dilation).checked_sub(before[0]);
                        visit(channel, row.filter(|row| *row < self.input[0]), at, span);
                        at += output[1];
                    }
                }
            }
        }
    }
}

/// The outputs of a row for which one pixel of the window lies inside the picture.
pub(super) struct Span {
    pub(super) inside: Range<usize>,
    /// The first of those input pixels, if there is one.
    pub(super) from: Option<usize>,
}

impl Span {
    fn new(offset: usize, before: usize, stride: usize, outputs: usize, inputs: usize) -> Span {
        let start = before.saturating_sub(offset).div_ceil(stride).min(outputs);
        let end = (inputs + before).saturating_sub(offset).div_ceil(stride).clamp(start, outputs);
        let from = (start < end).then(|| start * stride + offset - before);
        Span { inside: start..end, from }
    }
}
