//! Layers as three-dimensional slabs, as in the figures of papers.

use crate::chart::svg::Svg;
use crate::chart::theme::{NEUTRAL, Rgb};

/// Heights of the slabs of the largest and the smallest feature maps, in pixels.
const TALLEST: f64 = 120.0;
const SHORTEST: f64 = 20.0;
/// Space for the slabs of one stage, including their depth, in pixels.
const STAGE_WIDTH: f64 = 74.0;
/// Space between slabs, and height of the arc of a shortcut, in pixels.
const GAP: f64 = 3.0;
const ARC: i32 = 16;
/// Height of the top face, as a share of the depth.
const RISE: f64 = 0.6;

/// A convolution, residual block, pooling layer or vector.
#[derive(Clone, Copy)]
pub(super) struct Slab {
    pub(super) channels: usize,
    /// Height of its feature maps, or length of a vector.
    pub(super) height: usize,
    pub(super) has_shortcut: bool,
    pub(super) is_pooling: bool,
    pub(super) is_vector: bool,
}

impl Slab {
    pub(super) fn vector(length: usize) -> Slab {
        Slab { channels: 1, height: length, has_shortcut: false, is_pooling: false, is_vector: true }
    }

    pub(super) fn without_shortcut(self) -> Slab {
        Slab { has_shortcut: false, ..self }
    }

    fn height(&self, largest: usize) -> f64 {
        if self.is_vector {
            return 24.0 + 6.5 * (self.height.max(1) as f64).log2();
        }
        SHORTEST + (TALLEST - SHORTEST) * (self.height as f64 / largest.max(1) as f64).sqrt().min(1.0)
    }

    /// Extent above and below the middle, in pixels, including an arc.
    pub(super) fn extent(&self, largest: usize) -> (i32, i32) {
        let half = self.height(largest) / 2.0;
        let arc = if self.has_shortcut { f64::from(ARC) } else { 0.0 };
        ((half + RISE * self.depth(largest) + arc) as i32 + 4, half as i32 + 2)
    }

    fn width(&self) -> f64 {
        match (self.is_vector, self.is_pooling) {
            (true, _) => 14.0,
            (_, true) => 4.0,
            _ => 3.0 + 1.0 * (self.channels.max(1) as f64).log2(),
        }
    }

    fn depth(&self, largest: usize) -> f64 {
        if self.is_vector { 0.0 } else { 0.2 * self.height(largest) }
    }
}

/// Draws slabs around a centre. Returns their left and right ends.
pub(super) fn draw_slabs(
    svg: &mut Svg,
    (centre, middle): (i32, i32),
    slabs: &[Slab],
    largest: usize,
    (fill, stroke): (&str, Rgb),
) -> (i32, i32) {
    let depth = slabs.last().map_or(0.0, |slab| slab.depth(largest));
    let widths: f64 = slabs.iter().map(Slab::width).sum();
    let room = STAGE_WIDTH - depth - GAP * slabs.len() as f64;
    let shrink = (room / widths).min(1.0);
    let total = widths * shrink + GAP * (slabs.len().max(1) - 1) as f64;
    let begin = f64::from(centre) - (total + depth) / 2.0;
    let mut x = begin;
    for slab in slabs {
        let (width, height, depth) = (slab.width() * shrink, slab.height(largest), slab.depth(largest));
        let (fill, stroke) = if slab.is_pooling { ("#d9d9d9", NEUTRAL) } else { (fill, stroke) };
        let (top, bottom) = (f64::from(middle) - height / 2.0, f64::from(middle) + height / 2.0);
        let (right, rise) = (x + width, RISE * depth);
        if depth > 0.0 {
            svg.polygon(
                &[(x, top), (x + depth, top - rise), (right + depth, top - rise), (right, top)],
                fill,
                stroke,
            );
            let side =
                [(right, top), (right + depth, top - rise), (right + depth, bottom - rise), (right, bottom)];
            svg.polygon(&side, fill, stroke);
        }
        svg.polygon(&[(x, top), (right, top), (right, bottom), (x, bottom)], fill, stroke);
        if slab.has_shortcut {
            let over = (top - rise - 2.0) as i32;
            svg.arc(((x - 1.0) as i32, (right + depth) as i32), over, ARC);
        }
        x = right + GAP;
    }
    (begin as i32, (begin + total + depth) as i32)
}
