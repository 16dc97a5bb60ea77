//! Painting of faces: ears and horns behind the head, markings on it, eyes and muzzle in front.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::canvas::{Canvas, mix, near, shade};
use super::face::{Ears, Eyes, Face, Fur, Horns, Muzzle};

impl Face {
    /// Paints the animal with its head slightly turned, sometimes with its body.
    pub(super) fn paint(&self, canvas: &mut Canvas, random: &mut ChaCha8Rng) {
        let turn = random.random_range(-0.22..0.22f32);
        if random.random_bool(0.6) {
            self.paint_body(canvas, random);
        }
        self.paint_ears(canvas, random);
        self.paint_horns(canvas);
        self.paint_head(canvas, random);
        self.paint_markings(canvas, random);
        // Parallax: the nearer a part is, the further it moves when the head turns.
        canvas.posed((turn, 0.0), 0.0, (1.0, 1.0), |canvas| self.paint_eyes(canvas, random));
        canvas.posed((turn * 1.5, 0.0), 0.0, (1.0, 1.0), |canvas| self.paint_muzzle(canvas, random));
    }

    fn paint_body(&self, canvas: &mut Canvas, random: &mut ChaCha8Rng) {
        let (x, y) = (random.random_range(-0.5..0.5f32), random.random_range(1.25..1.6));
        let size = (random.random_range(0.75..1.2), random.random_range(0.7..1.1));
        canvas.ellipse((x, y), size, random.random_range(-25.0..25.0), shade(self.coat, 0.9));
        for side in [-1.0, 1.0] {
            canvas.ellipse((x + side * 0.35, y + 0.7), (0.22, 0.5), 0.0, shade(self.coat, 0.8));
        }
    }

    fn paint_head(&self, canvas: &mut Canvas, random: &mut ChaCha8Rng) {
        let (width, height) = self.head;
        let steps = 14;
        match self.fur {
            Fur::Wool => {
                for step in 0..steps {
                    let (sin, cos) = (step as f32 / steps as f32 * std::f32::consts::TAU).sin_cos();
                    let tone = near(self.second, 0.04, random);
                    canvas.ellipse((cos * width * 0.95, sin * height * 0.9 - 0.1), (0.3, 0.3), 0.0, tone);
                }
            }
            Fur::Spines => {
                for step in 0..2 * steps {
                    let angle = std::f32::consts::PI * (1.0 + step as f32 / (2 * steps) as f32)
                        + random.random_range(-0.1..0.1);
                    let (sin, cos) = angle.sin_cos();
                    let reach = random.random_range(1.5..1.85);
                    let root =
                        |turn: f32| ((angle + turn).cos() * width * 0.9, (angle + turn).sin() * height * 0.9);
                    canvas.polygon(
                        &[root(-0.12), root(0.12), (cos * width * reach, sin * height * reach)],
                        near(self.second, 0.1, random),
                    );
                }
            }
            _ => {}
        }
        let chin = width * self.jaw;
        let outline = [
            (0.0, -height * 1.12),
            (width * 1.05, -height),
            (width * 1.2, 0.0),
            (chin, height * 0.95),
            (0.0, height * 1.1),
            (-chin, height * 0.95),
            (-width * 1.2, 0.0),
            (-width * 1.05, -height),
        ];
        canvas.blob(&outline, self.coat);
        // Tufts at the cheeks and hairs inside, so that fur differs from skin.
        let hairs = random.random_range(6..26);
        for _ in 0..hairs {
            let (angle, reach): (f32, f32) =
                (random.random_range(0.0..std::f32::consts::TAU), random.random_range(0.2..0.95));
            let (x, y) = (angle.cos() * width * reach, angle.sin() * height * reach);
            let tone = shade(self.coat, random.random_range(0.82..1.15));
            canvas.line(
                &[(x, y), (x + random.random_range(-0.04..0.04), y + random.random_range(0.06..0.16))],
                0.035,
                tone,
            );
        }
    }

    fn paint_ears(&self, canvas: &mut Canvas, random: &mut ChaCha8Rng) {
        let (width, height) = self.head;
        let inner = match random.random_bool(0.7) {
            true => mix(self.coat, [0.85, 0.6, 0.58], 0.6),
            false => shade(self.coat, 0.75),
        };
        let outer = if self.fur == Fur::Patches && random.random_bool(0.5) {
            self.second
        } else {
            shade(self.coat, 0.93)
        };
        let size = self.ear_size;
        let tilt = random.random_range(-6.0..6.0f32);
        for side in [-1.0, 1.0f32] {
            let angle = self.ear_spread * std::f32::consts::FRAC_PI_2;
            let root = (side * width * angle.sin() * 0.95, -height * angle.cos() * 0.95);
            let lean = side * self.ear_spread * 50.0 + tilt + random.random_range(-6.0..6.0);
            canvas.posed(root, lean, (size, size), |canvas| match self.ears {
                Ears::None => {}
                Ears::Pointed => {
                    canvas.polygon(&[(-0.36, 0.3), (0.0, -0.72), (0.36, 0.3)], outer);
                    canvas.polygon(&[(-0.2, 0.2), (0.0, -0.48), (0.2, 0.2)], inner);
                }
                Ears::Round => {
                    canvas.ellipse((0.0, -0.12), (0.36, 0.36), 0.0, outer);
                    canvas.ellipse((0.0, -0.1), (0.21, 0.21), 0.0, inner);
                }
                Ears::Discs => {
                    canvas.ellipse((0.0, -0.1), (0.6, 0.6), 0.0, outer);
                    canvas.ellipse((0.0, -0.08), (0.42, 0.42), 0.0, inner);
                }
                Ears::Long => {
                    canvas.ellipse((0.0, -0.7), (0.25, 0.85), 0.0, outer);
                    canvas.ellipse((0.0, -0.65), (0.12, 0.62), 0.0, inner);
                }
                Ears::Sideways => canvas.posed((0.0, 0.0), side * 35.0, (1.0, 1.0), |canvas| {
                    canvas.ellipse((0.0, -0.4), (0.22, 0.52), 0.0, outer);
                    canvas.ellipse((0.0, -0.38), (0.11, 0.36), 0.0, inner);
                }),
                Ears::Floppy => {
                    let down = |x: f32| side * x;
                    canvas.blob(
                        &[
                            (down(-0.25), -0.15),
                            (down(0.3), -0.25),
                            (down(0.62), 0.35),
                            (down(0.45), 1.05),
                            (down(0.12), 0.95),
                            (down(0.05), 0.3),
                        ],
                        shade(outer, 0.82),
                    );
                }
            });
        }
    }

    fn paint_horns(&self, canvas: &mut Canvas) {
        let bone = [0.85, 0.8, 0.68];
        for side in [-1.0, 1.0] {
            let root = (side * self.head.0 * 0.35, -self.head.1 * 0.85);
            canvas.posed(root, 0.0, (side, 1.0), |canvas| match self.horns {
                Horns::None => {}
                Horns::Short => canvas.line(&[(0.0, 0.0), (0.35, -0.3), (0.2, -0.7)], 0.16, bone),
                Horns::Antlers => {
                    let brown = shade(bone, 0.6);
                    canvas.line(&[(0.0, 0.1), (0.3, -0.5), (0.6, -1.0)], 0.1, brown);
                    canvas.line(&[(0.22, -0.4), (0.5, -0.45), (0.75, -0.6)], 0.08, brown);
                    canvas.line(&[(0.35, -0.65), (0.25, -0.8), (0.2, -1.05)], 0.08, brown);
                }
            });
        }
    }

    fn paint_markings(&self, canvas: &mut Canvas, random: &mut ChaCha8Rng) {
        let (width, height) = self.head;
        match self.fur {
            Fur::Plain | Fur::Wool | Fur::Spines => {}
            Fur::Stripes => {
                let dark = shade(self.coat, 0.55);
                for at in [-0.3, 0.0, 0.3] {
                    canvas.line(
                        &[(at * width, -height * 0.95), (at * width * 0.6, -height * 0.45)],
                        0.08,
                        dark,
                    );
                }
                for side in [-1.0, 1.0] {
                    for row in [0.05, 0.3] {
                        canvas.line(
                            &[(side * width * 0.95, row), (side * width * 0.55, row + 0.05)],
                            0.07,
                            dark,
                        );
                    }
                }
            }
            Fur::Spots => {
                for _ in 0..random.random_range(4..10) {
                    let spot =
                        (random.random_range(-0.75..0.75) * width, random.random_range(-0.8..0.5) * height);
                    let size = random.random_range(0.06..0.17);
                    canvas.ellipse(spot, (size, size * 0.8), 0.0, self.second);
                }
            }
            Fur::Patches => {
                let sides: &[f32] = if random.random_bool(0.5) { &[-1.0] } else { &[-1.0, 1.0] };
                for side in sides {
                    canvas.ellipse((side * 0.42 * width, -0.2), (0.34, 0.42), side * 20.0, self.second);
                }
            }
            Fur::Blaze => canvas.blob(
                &[(-0.14, -height), (0.14, -height), (0.2, 0.0), (0.3, 0.6), (-0.3, 0.6), (-0.2, 0.0)],
                mix(self.second, [0.95, 0.95, 0.93], 0.6),
            ),
        }
    }

    fn paint_eyes(&self, canvas: &mut Canvas, random: &mut ChaCha8Rng) {
        let (width, _) = self.head;
        let size = self.eye_size;
        let height = random.random_range(-0.28..-0.14);
        let closed = random.random_bool(0.04);
        for side in [-1.0, 1.0f32] {
            let at = (side * width * 0.42, height);
            if closed {
                canvas.line(
                    &[(at.0 - size, at.1), (at.0, at.1 + size * 0.7), (at.0 + size, at.1)],
                    0.06,
                    [0.1, 0.08, 0.08],
                );
                continue;
            }
            match self.eyes {
                Eyes::Beads => {
                    canvas.ellipse(at, (size, size), 0.0, [0.07, 0.05, 0.05]);
                    canvas.ellipse(
                        (at.0 - size * 0.3, at.1 - size * 0.35),
                        (size * 0.3, size * 0.3),
                        0.0,
                        [0.95; 3],
                    );
                }
                Eyes::Round => {
                    canvas.ellipse(at, (size * 1.25, size * 1.15), 0.0, [0.96; 3]);
                    canvas.ellipse(at, (size * 0.85, size * 0.85), 0.0, self.iris);
                    canvas.ellipse(at, (size * 0.45, size * 0.45), 0.0, [0.05; 3]);
                }
                Eyes::Slit => {
                    canvas.ellipse(at, (size * 1.3, size * 1.05), side * -14.0, self.iris);
                    canvas.ellipse(at, (size * 0.3, size * 0.95), 0.0, [0.05; 3]);
                }
                Eyes::Rings => {
                    canvas.ellipse(at, (size * 2.4, size * 2.4), 0.0, mix(self.coat, [0.95; 3], 0.6));
                    canvas.ellipse(at, (size * 1.5, size * 1.5), 0.0, self.iris);
                    canvas.ellipse(at, (size * 0.8, size * 0.8), 0.0, [0.05; 3]);
                }
            }
        }
    }

    fn paint_muzzle(&self, canvas: &mut Canvas, random: &mut ChaCha8Rng) {
        let (width, height) = self.head;
        let light = mix(self.coat, [0.97, 0.94, 0.9], random.random_range(0.15..0.6));
        let (dark, size) = (shade(self.nose_colour, 0.7), self.muzzle_size);
        let nose_at = match self.muzzle {
            Muzzle::Long => 0.38,
            Muzzle::Wide | Muzzle::Snout => 0.42,
            _ => 0.2,
        } * height;
        let mut mouth = None;
        match self.muzzle {
            Muzzle::None => mouth = Some(0.55 * height),
            Muzzle::Pads => {
                for side in [-1.0, 1.0] {
                    canvas.ellipse(
                        (side * 0.17 * size, nose_at + 0.2),
                        (0.22 * size, 0.18 * size),
                        0.0,
                        light,
                    );
                }
                mouth = Some(nose_at + 0.3);
            }
            Muzzle::Long => {
                canvas.ellipse((0.0, nose_at * 0.8), (0.36 * size, 0.55 * size), 0.0, light);
                canvas.ellipse((0.0, nose_at + 0.12), (0.4 * size, 0.34 * size), 0.0, light);
                mouth = Some(nose_at + 0.3);
            }
            Muzzle::Wide => {
                canvas.ellipse((0.0, nose_at + 0.05), (width * 0.72 * size, 0.42 * size), 0.0, light);
                for side in [-1.0, 1.0] {
                    canvas.ellipse((side * 0.26 * size, nose_at), (0.1, 0.07), side * 25.0, dark);
                }
            }
            Muzzle::Snout => {
                canvas.ellipse(
                    (0.0, nose_at - 0.1),
                    (0.38 * size, 0.28 * size),
                    0.0,
                    mix(self.coat, [0.95, 0.55, 0.55], 0.35),
                );
                for side in [-1.0, 1.0] {
                    canvas.ellipse((side * 0.13 * size, nose_at - 0.1), (0.06, 0.1), 0.0, dark);
                }
                mouth = Some(nose_at + 0.28);
            }
            Muzzle::Beak => {
                let orange = near([0.9, 0.62, 0.15], 0.1, random);
                canvas.polygon(
                    &[
                        (-0.2 * size, nose_at - 0.22),
                        (0.2 * size, nose_at - 0.22),
                        (0.0, nose_at + 0.3 * size),
                    ],
                    orange,
                );
            }
            Muzzle::Trunk => {
                let sway = random.random_range(-0.5..0.5);
                canvas.line(
                    &[(0.0, 0.05), (sway * 0.3, 0.8), (sway, 1.35)],
                    0.36 * size,
                    shade(self.coat, 0.88),
                );
            }
        }
        if let Some(mouth) = mouth {
            let smile = random.random_range(0.03..0.12);
            let reach = random.random_range(0.16..0.3);
            if self.tongue {
                canvas.ellipse((0.0, mouth + 0.2), (0.13, 0.24), 0.0, [0.9, 0.42, 0.48]);
            }
            canvas.line(&[(0.0, nose_at), (0.0, mouth)], 0.04, dark);
            for side in [-1.0, 1.0] {
                canvas.line(
                    &[(0.0, mouth), (side * reach * 0.6, mouth + smile), (side * reach, mouth - 0.03)],
                    0.045,
                    dark,
                );
            }
        }
        if matches!(self.muzzle, Muzzle::Pads | Muzzle::Long | Muzzle::None) && self.nose > 0.0 {
            let n = self.nose;
            match self.muzzle {
                Muzzle::Pads => canvas.blob(
                    &[(-n * 1.3, nose_at - n * 0.7), (n * 1.3, nose_at - n * 0.7), (0.0, nose_at + n * 1.2)],
                    self.nose_colour,
                ),
                _ => canvas.ellipse((0.0, nose_at - n * 0.3), (n * 1.3, n), 0.0, self.nose_colour),
            }
        }
        if self.whiskers {
            let tone = if self.coat.iter().sum::<f32>() > 1.6 { [0.25; 3] } else { [0.9; 3] };
            for side in [-1.0, 1.0] {
                for row in [-0.12, 0.0, 0.12] {
                    let start = (side * 0.24, nose_at + 0.18 + row * 0.5);
                    let end = (side * random.random_range(0.95..1.25), nose_at + 0.14 + row * 2.2);
                    canvas.line(&[start, end], 0.028, tone);
                }
            }
        }
    }
}
