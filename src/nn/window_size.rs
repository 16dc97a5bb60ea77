//! Size and padding of a sliding window.

use serde::{Deserialize, Serialize};

use super::Context;
use crate::check::check;
use crate::{Error, Result};

/// Size of a window in pixels, or its step: a number for a square, or `(height, width)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WindowSize {
    /// A square of this side.
    Square(usize),
    /// Height and width.
    Rectangle(usize, usize),
}

impl WindowSize {
    /// Height and width.
    pub(crate) fn sides(self) -> [usize; 2] {
        match self {
            WindowSize::Square(side) => [side, side],
            WindowSize::Rectangle(height, width) => [height, width],
        }
    }

    /// The side of a square. The layers that call it refuse rectangles when they are built: see
    /// [`check_square`](Self::check_square).
    pub(super) fn side(self) -> usize {
        self.sides()[0]
    }

    /// Refuses rectangles, for a setting of a layer that has squares only.
    pub(super) fn check_square(self, name: &'static str) -> Result<()> {
        let [height, width] = self.sides();
        check(name, format!("({height}, {width})"), height == width, "the same number for height and width")
    }
}

impl From<usize> for WindowSize {
    fn from(side: usize) -> WindowSize {
        WindowSize::Square(side)
    }
}

impl From<(usize, usize)> for WindowSize {
    fn from((height, width): (usize, usize)) -> WindowSize {
        if height == width { WindowSize::Square(height) } else { WindowSize::Rectangle(height, width) }
    }
}

/// Padding of an image at its borders for a sliding window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Padding {
    /// No padding: the window stays inside the image.
    #[default]
    Valid,
    /// Zeros so that the output size is `ceil(input / stride)`. If the total is odd, the extra row is below and the
    /// extra column on the right.
    Same,
    /// This many zeros on each side, as in torchvision; less than the window's size.
    Explicit(usize),
}

impl Padding {
    /// Padding before and after a side of `length` pixels, for a window of `size` pixels and the given stride.
    pub(crate) fn amount(self, length: usize, size: usize, stride: usize) -> (usize, usize) {
        match self {
            Padding::Valid => (0, 0),
            Padding::Same => {
                let outputs = length.div_ceil(stride);
                let covered = outputs.saturating_sub(1).saturating_mul(stride).saturating_add(size);
                let total = covered.saturating_sub(length);
                (total / 2, total - total / 2)
            }
            Padding::Explicit(n) => (n, n),
        }
    }
}

/// Output shape `[C, H', W']` of a window of `[rows, columns]` that slides over `[C, H, W]`.
pub(crate) fn window_output(
    context: &Context,
    [rows, columns]: [usize; 2],
    stride: usize,
    padding: Padding,
) -> Result<[usize; 3]> {
    let [channels, height, width] = *context.inputs[0] else {
        return Err(Error::shape(context.name, "[channels, height, width]", context.inputs[0], ""));
    };
    let shortest = rows.min(columns);
    if shortest == 0 || stride == 0 {
        let found = format!("window {rows}x{columns}, stride {stride}");
        return Err(Error::Argument { name: "window and stride", expected: "at least 1".into(), found });
    }
    // A window that lies entirely in the padding has no input.
    if let Padding::Explicit(padding) = padding
        && padding >= shortest
    {
        let (expected, found) = (format!("less than the window, {shortest}"), padding.to_string());
        return Err(Error::Argument { name: "padding", expected, found });
    }
    let side = |length: usize, size: usize| {
        let (before, after) = padding.amount(length, size, stride);
        let padded = length.checked_add(before)?.checked_add(after)?;
        padded.checked_sub(size).map(|rest| rest / stride + 1)
    };
    match (side(height, rows), side(width, columns)) {
        (Some(h), Some(w)) => Ok([channels, h, w]),
        _ => {
            let expected = format!("at least {rows}x{columns} pixels");
            Err(Error::shape(context.name, expected, context.inputs[0], "use a larger input_shape"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_matches_tensorflow() {
        // Arguments: length, window, stride. Expected: the padding that TensorFlow computes.
        assert_eq!(Padding::Same.amount(224, 3, 1), (1, 1));
        assert_eq!(Padding::Same.amount(224, 3, 2), (0, 1));
        assert_eq!(Padding::Same.amount(7, 3, 2), (1, 1));
        assert_eq!(Padding::Same.amount(5, 1, 2), (0, 0));
    }
}
