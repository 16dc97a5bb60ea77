//! A drawing surface. Shapes have the coordinates of the subject, and a pose maps them to the image.

use image::{Rgb, RgbImage};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use tiny_skia::{
    Color, FillRule, GradientStop, LineCap, LinearGradient, Paint, PathBuilder, Pixmap, Point,
    RadialGradient, Shader, SpreadMode, Stroke, Transform,
};

/// Red, green and blue, each from 0 to 1.
pub(super) type Colour = [f32; 3];

/// An image under construction.
pub(super) struct Canvas {
    pixels: Pixmap,
    /// Transform from the subject's coordinates to pixels.
    pose: Transform,
}

impl Canvas {
    /// Creates a square image of `side` pixels. Its centre is `(0, 0)`, its edges are at -1 and 1, and
    /// the second axis points down.
    pub(super) fn new(side: u32) -> Canvas {
        let pixels = Pixmap::new(side.max(1), side.max(1)).expect("a side of at least one pixel");
        let half = side as f32 / 2.0;
        Canvas { pixels, pose: Transform::from_row(half, 0.0, 0.0, half, half, half) }
    }

    /// Calls `paint` with its shapes moved, rotated (in degrees) and scaled.
    pub(super) fn posed(
        &mut self,
        (x, y): (f32, f32),
        turn: f32,
        (width, height): (f32, f32),
        paint: impl FnOnce(&mut Canvas),
    ) {
        let before = self.pose;
        self.pose = before.pre_translate(x, y).pre_rotate(turn).pre_scale(width, height);
        paint(self);
        self.pose = before;
    }

    /// Draws an ellipse, rotated by `turn` degrees.
    pub(super) fn ellipse(&mut self, (x, y): (f32, f32), (rx, ry): (f32, f32), turn: f32, colour: Colour) {
        self.posed((x, y), turn, (rx, ry), |canvas| {
            let mut path = PathBuilder::new();
            path.push_circle(0.0, 0.0, 1.0);
            canvas.fill(path, colour);
        });
    }

    /// Draws a polygon with straight sides.
    pub(super) fn polygon(&mut self, points: &[(f32, f32)], colour: Colour) {
        let mut path = PathBuilder::new();
        for (at, (x, y)) in points.iter().enumerate() {
            if at == 0 { path.move_to(*x, *y) } else { path.line_to(*x, *y) }
        }
        path.close();
        self.fill(path, colour);
    }

    /// Draws a closed curve with the points as control points. It passes through the midpoints between
    /// them.
    pub(super) fn blob(&mut self, points: &[(f32, f32)], colour: Colour) {
        let middle = |a: (f32, f32), b: (f32, f32)| ((a.0 + b.0) / 2.0, (a.1 + b.1) / 2.0);
        let mut path = PathBuilder::new();
        for at in 0..points.len() {
            let (here, next) = (points[at], points[(at + 1) % points.len()]);
            if at == 0 {
                let start = middle(points[points.len() - 1], here);
                path.move_to(start.0, start.1);
            }
            let end = middle(here, next);
            path.quad_to(here.0, here.1, end.0, end.1);
        }
        path.close();
        self.fill(path, colour);
    }

    /// Draws a line with round ends from the first to the last point. The points between are control
    /// points.
    pub(super) fn line(&mut self, points: &[(f32, f32)], width: f32, colour: Colour) {
        let mut path = PathBuilder::new();
        match *points {
            [(ax, ay), (bx, by), (cx, cy)] => {
                path.move_to(ax, ay);
                path.quad_to(bx, by, cx, cy);
            }
            _ => points
                .iter()
                .enumerate()
                .for_each(|(at, (x, y))| if at == 0 { path.move_to(*x, *y) } else { path.line_to(*x, *y) }),
        }
        let stroke = Stroke { width, line_cap: LineCap::Round, ..Stroke::default() };
        if let Some(path) = path.finish() {
            self.pixels.stroke_path(&path, &paint(colour), &stroke, self.pose, None);
        }
    }

    /// Fills the whole image with a gradient in a random direction.
    pub(super) fn background(&mut self, from: Colour, to: Colour, random: &mut ChaCha8Rng) {
        let (sin, cos) = random.random_range(0.0..std::f32::consts::TAU).sin_cos();
        let stops = vec![GradientStop::new(0.0, opaque(from)), GradientStop::new(1.0, opaque(to))];
        let ends = (Point::from_xy(-cos, -sin), Point::from_xy(cos, sin));
        let gradient = LinearGradient::new(ends.0, ends.1, stops, SpreadMode::Pad, Transform::identity());
        self.cover(gradient.unwrap_or(Shader::SolidColor(opaque(from))));
    }

    /// Adds light from one side: brightens around a point and darkens away from it.
    pub(super) fn light(&mut self, random: &mut ChaCha8Rng) {
        let (x, y) = (random.random_range(-1.0..1.0), random.random_range(-1.0..1.0f32));
        let strength = random.random_range(0.0..0.35);
        let lit = |value: f32, alpha: f32| Color::from_rgba(value, value, value, alpha).expect("from 0 to 1");
        let stops = vec![
            GradientStop::new(0.0, lit(1.0, strength)),
            GradientStop::new(0.5, lit(0.5, 0.0)),
            GradientStop::new(1.0, lit(0.0, strength)),
        ];
        let at = Point::from_xy(x, y);
        let radius = random.random_range(1.2..2.5);
        if let Some(shader) =
            RadialGradient::new(at, 0.0, at, radius, stops, SpreadMode::Pad, Transform::identity())
        {
            self.cover(shader);
        }
    }

    fn cover(&mut self, shader: Shader) {
        let paint = Paint { shader, ..Paint::default() };
        let mut path = PathBuilder::new();
        path.move_to(-1.1, -1.1);
        for (x, y) in [(1.1, -1.1), (1.1, 1.1), (-1.1, 1.1)] {
            path.line_to(x, y);
        }
        path.close();
        if let Some(path) = path.finish() {
            self.pixels.fill_path(&path, &paint, FillRule::Winding, self.pose, None);
        }
    }

    fn fill(&mut self, path: PathBuilder, colour: Colour) {
        // An empty path draws nothing.
        if let Some(path) = path.finish() {
            self.pixels.fill_path(&path, &paint(colour), FillRule::Winding, self.pose, None);
        }
    }

    /// Returns the image with random noise of up to `noise` grey levels on each channel.
    pub(super) fn finish(self, noise: f32, random: &mut ChaCha8Rng) -> RgbImage {
        RgbImage::from_fn(self.pixels.width(), self.pixels.height(), |x, y| {
            let pixel = self.pixels.pixel(x, y).expect("inside");
            Rgb([pixel.red(), pixel.green(), pixel.blue()].map(|value| {
                // The sum of two uniform numbers has a peak in the middle, like real noise.
                let noise = noise * (random.random::<f32>() + random.random::<f32>() - 1.0);
                (f32::from(value) + noise).clamp(0.0, 255.0) as u8
            }))
        })
    }
}

fn opaque(colour: Colour) -> Color {
    let [r, g, b] = colour.map(|value| value.clamp(0.0, 1.0));
    Color::from_rgba(r, g, b, 1.0).expect("from 0 to 1")
}

fn paint(colour: Colour) -> Paint<'static> {
    Paint { shader: Shader::SolidColor(opaque(colour)), ..Paint::default() }
}

/// Returns a random colour.
pub(super) fn any_colour(random: &mut ChaCha8Rng) -> Colour {
    [(); 3].map(|()| random.random_range(0.05..0.95))
}

/// Interpolates between two colours.
pub(super) fn mix(a: Colour, b: Colour, share: f32) -> Colour {
    [0, 1, 2].map(|at| a[at] + (b[at] - a[at]) * share)
}

/// Returns a random colour near another.
pub(super) fn near(colour: Colour, distance: f32, random: &mut ChaCha8Rng) -> Colour {
    colour.map(|value| (value + random.random_range(-distance..=distance)).clamp(0.0, 1.0))
}

/// Makes a colour lighter (factor above 1) or darker (factor below 1).
pub(super) fn shade(colour: Colour, factor: f32) -> Colour {
    colour.map(|value| (value * factor).clamp(0.0, 1.0))
}
