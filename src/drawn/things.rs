//! Objects and patterns: all subjects that are not animals.

use std::f32::consts::TAU;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::canvas::{Canvas, Colour, any_colour, near, shade};

const GLASS: Colour = [0.7, 0.82, 0.9];

pub(super) fn car(canvas: &mut Canvas, random: &mut ChaCha8Rng) {
    let body = any_colour(random);
    let (roof, height) = (random.random_range(0.35..0.65), random.random_range(0.3..0.5));
    canvas.polygon(
        &[(-roof, -0.1), (-roof * 0.7, -0.1 - height), (roof * 0.6, -0.1 - height), (roof * 1.2, -0.1)],
        shade(body, 0.9),
    );
    canvas.polygon(
        &[(-roof * 0.8, -0.12), (-roof * 0.58, -0.05 - height), (0.0, -0.05 - height), (0.0, -0.12)],
        GLASS,
    );
    canvas.polygon(
        &[(0.08, -0.12), (0.08, -0.05 - height), (roof * 0.52, -0.05 - height), (roof, -0.12)],
        GLASS,
    );
    canvas.blob(&[(-1.1, -0.15), (1.1, -0.15), (1.2, 0.35), (-1.2, 0.35)], body);
    for x in [-0.6, 0.6] {
        let size = random.random_range(0.2..0.27);
        canvas.ellipse((x, 0.35), (size, size), 0.0, [0.08; 3]);
        canvas.ellipse((x, 0.35), (size * 0.5, size * 0.5), 0.0, [0.7; 3]);
    }
}

pub(super) fn boat(canvas: &mut Canvas, random: &mut ChaCha8Rng) {
    let hull = any_colour(random);
    let mast = random.random_range(0.8..1.1);
    canvas.line(&[(0.0, 0.3), (0.0, -mast)], 0.07, [0.35, 0.22, 0.12]);
    canvas.polygon(
        &[(0.06, -mast), (0.06, 0.15), (random.random_range(0.5..0.85), 0.15)],
        near([0.93, 0.92, 0.88], 0.15, random),
    );
    if random.random_bool(0.7) {
        canvas.polygon(&[(-0.06, -mast * 0.85), (-0.06, 0.15), (-0.6, 0.15)], any_colour(random));
    }
    canvas.polygon(&[(-0.95, 0.3), (0.95, 0.3), (0.6, 0.75), (-0.65, 0.75)], hull);
}

pub(super) fn house(canvas: &mut Canvas, random: &mut ChaCha8Rng) {
    let wall = near([0.8, 0.72, 0.6], 0.2, random);
    let width = random.random_range(0.6..0.85);
    canvas.polygon(&[(-width, -0.1), (width, -0.1), (width, 0.9), (-width, 0.9)], wall);
    canvas.polygon(
        &[(-width - 0.15, -0.1), (0.0, random.random_range(-1.0..-0.6)), (width + 0.15, -0.1)],
        near([0.6, 0.25, 0.2], 0.2, random),
    );
    canvas.polygon(
        &[(-0.15, 0.9), (-0.15, 0.4), (0.15, 0.4), (0.15, 0.9)],
        near([0.35, 0.22, 0.14], 0.15, random),
    );
    for x in [-width * 0.6, width * 0.6] {
        canvas.polygon(&[(x - 0.14, 0.1), (x + 0.14, 0.1), (x + 0.14, 0.38), (x - 0.14, 0.38)], GLASS);
    }
}

pub(super) fn tree(canvas: &mut Canvas, random: &mut ChaCha8Rng) {
    let (green, trunk) = (near([0.2, 0.48, 0.2], 0.15, random), near([0.4, 0.26, 0.15], 0.08, random));
    canvas.line(&[(0.0, 0.95), (0.0, 0.0)], random.random_range(0.15..0.3), trunk);
    if random.random_bool(0.5) {
        for (level, width) in [(0.35, 0.75), (-0.05, 0.6), (-0.45, 0.42)] {
            canvas.polygon(&[(-width, level), (0.0, level - 0.6), (width, level)], near(green, 0.04, random));
        }
    } else {
        for _ in 0..9 {
            let at = (random.random_range(-0.5..0.5), random.random_range(-0.8..0.0));
            let size = random.random_range(0.25..0.42);
            canvas.ellipse(at, (size, size), 0.0, near(green, 0.06, random));
        }
    }
}

pub(super) fn flower(canvas: &mut Canvas, random: &mut ChaCha8Rng) {
    let (petals, colour) = (random.random_range(5..10), any_colour(random));
    canvas.line(&[(0.0, 0.0), (random.random_range(-0.2..0.2), 0.6), (0.0, 1.1)], 0.09, [0.2, 0.5, 0.2]);
    for petal in 0..petals {
        let angle = petal as f32 / petals as f32 * TAU;
        let (sin, cos) = angle.sin_cos();
        canvas.ellipse(
            (cos * 0.45, sin * 0.45 - 0.2),
            (0.34, 0.18),
            angle.to_degrees(),
            near(colour, 0.05, random),
        );
    }
    canvas.ellipse((0.0, -0.2), (0.22, 0.22), 0.0, near([0.9, 0.75, 0.2], 0.1, random));
}

pub(super) fn cup(canvas: &mut Canvas, random: &mut ChaCha8Rng) {
    let (colour, foot) = (any_colour(random), random.random_range(0.35..0.6));
    canvas.line(&[(0.5, -0.35), (1.25, -0.1), (0.45, 0.45)], 0.14, shade(colour, 0.85));
    canvas.polygon(&[(-0.62, -0.6), (0.62, -0.6), (foot, 0.75), (-foot, 0.75)], colour);
    canvas.ellipse((0.0, -0.6), (0.62, 0.18), 0.0, shade(colour, 1.2));
    canvas.ellipse((0.0, -0.58), (0.52, 0.13), 0.0, [0.25, 0.15, 0.1]);
}

pub(super) fn fish(canvas: &mut Canvas, random: &mut ChaCha8Rng) {
    let colour = any_colour(random);
    let (long, high) = (random.random_range(0.6..0.85), random.random_range(0.3..0.55));
    canvas.polygon(
        &[(long * 0.7, 0.0), (long + 0.45, -0.4), (long + 0.3, 0.0), (long + 0.45, 0.4)],
        shade(colour, 0.8),
    );
    canvas.polygon(&[(-0.2, -high * 0.8), (0.15, -high - 0.3), (0.35, -high * 0.7)], shade(colour, 0.8));
    canvas.ellipse((0.0, 0.0), (long, high), 0.0, colour);
    for _ in 0..random.random_range(0..4) {
        let x = random.random_range(-0.2..0.5);
        canvas.line(&[(x, -high * 0.6), (x + 0.08, 0.0), (x, high * 0.6)], 0.09, near(colour, 0.35, random));
    }
    canvas.ellipse((-long * 0.6, -high * 0.2), (0.11, 0.11), 0.0, [0.95; 3]);
    canvas.ellipse((-long * 0.6, -high * 0.2), (0.06, 0.06), 0.0, [0.05; 3]);
}

pub(super) fn butterfly(canvas: &mut Canvas, random: &mut ChaCha8Rng) {
    let (colour, second) = (any_colour(random), any_colour(random));
    let (upper, lower) = (random.random_range(0.42..0.6), random.random_range(0.28..0.42));
    for side in [-1.0, 1.0] {
        canvas.ellipse((side * 0.48, -0.3), (upper, upper * 0.7), side * -35.0, colour);
        canvas.ellipse((side * 0.4, 0.35), (lower, lower * 0.85), side * 40.0, shade(colour, 0.85));
        canvas.ellipse((side * 0.55, -0.35), (upper * 0.35, upper * 0.3), 0.0, second);
    }
    canvas.ellipse((0.0, 0.0), (0.09, 0.62), 0.0, [0.1, 0.08, 0.08]);
    for side in [-1.0, 1.0] {
        canvas.line(&[(0.0, -0.55), (side * 0.1, -0.8), (side * 0.28, -0.92)], 0.04, [0.1; 3]);
    }
}

pub(super) fn star(canvas: &mut Canvas, random: &mut ChaCha8Rng) {
    let (points, inner) = (random.random_range(5..8), random.random_range(0.35..0.55f32));
    let corner = |at: usize| {
        let (sin, cos) = (at as f32 / (2 * points) as f32 * TAU).sin_cos();
        let reach = if at.is_multiple_of(2) { 0.95 } else { 0.95 * inner };
        (sin * reach, -cos * reach)
    };
    canvas.polygon(&(0..2 * points).map(corner).collect::<Vec<_>>(), any_colour(random));
}

pub(super) fn stripes(canvas: &mut Canvas, random: &mut ChaCha8Rng) {
    let (colour, width) = (any_colour(random), random.random_range(0.12..0.35));
    canvas.posed((0.0, 0.0), random.random_range(0.0..180.0), (1.0, 1.0), |canvas| {
        let mut x = -3.0;
        while x < 3.0 {
            canvas.polygon(&[(x, -3.0), (x + width, -3.0), (x + width, 3.0), (x, 3.0)], colour);
            x += width * 2.0;
        }
    });
}

pub(super) fn checks(canvas: &mut Canvas, random: &mut ChaCha8Rng) {
    let (colour, width) = (any_colour(random), random.random_range(0.22..0.5f32));
    canvas.posed((0.0, 0.0), random.random_range(0.0..90.0), (1.0, 1.0), |canvas| {
        let fields = (3.0 / width) as i32;
        for row in -fields..fields {
            for column in (-fields..fields).filter(|column| (row + column) % 2 == 0) {
                let (x, y) = (column as f32 * width, row as f32 * width);
                canvas.polygon(&[(x, y), (x + width, y), (x + width, y + width), (x, y + width)], colour);
            }
        }
    });
}

pub(super) fn spiral(canvas: &mut Canvas, random: &mut ChaCha8Rng) {
    let (colour, turns) = (any_colour(random), random.random_range(2.0..4.0f32));
    let width = random.random_range(0.08..0.18);
    let point = |at: usize| {
        let share = at as f32 / 60.0;
        let (sin, cos) = (share * turns * TAU).sin_cos();
        (cos * share, sin * share)
    };
    canvas.line(&(0..=60).map(point).collect::<Vec<_>>(), width, colour);
}

pub(super) fn dots(canvas: &mut Canvas, random: &mut ChaCha8Rng) {
    let (colour, gap) = (any_colour(random), random.random_range(0.3..0.6));
    let size = gap * random.random_range(0.2..0.4);
    canvas.posed((0.0, 0.0), random.random_range(0.0..90.0), (1.0, 1.0), |canvas| {
        for row in -8..8 {
            for column in -8..8 {
                canvas.ellipse((column as f32 * gap, row as f32 * gap), (size, size), 0.0, colour);
            }
        }
    });
}
