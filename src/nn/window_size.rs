//! Size of a sliding window.

use serde::{Deserialize, Serialize};

/// Size of a window in pixels: a number for a square, or `(height, width)`.
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
