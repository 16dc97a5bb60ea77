//! The traits of animal faces. `portrait.rs` paints them.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::canvas::{Colour, mix, near};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ears {
    None,
    /// Upright triangles.
    Pointed,
    Round,
    /// Hanging flaps.
    Floppy,
    /// Upright narrow ovals.
    Long,
    /// Ovals that point to the sides.
    Sideways,
    /// Large discs beside the head.
    Discs,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Muzzle {
    None,
    /// Two pads below the nose.
    Pads,
    /// An oval, longer than wide, that points forward.
    Long,
    /// A wide oval with nostrils.
    Wide,
    /// A disc with two nostrils.
    Snout,
    Beak,
    Trunk,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Eyes {
    /// Dark discs with a highlight.
    Beads,
    /// White, iris and round pupil.
    Round,
    /// An iris with a vertical slit.
    Slit,
    /// Large rings.
    Rings,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fur {
    Plain,
    Stripes,
    Spots,
    /// Another colour around one eye or both.
    Patches,
    /// A light stripe down the middle.
    Blaze,
    /// Curls around the head.
    Wool,
    /// Spines around the head.
    Spines,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Horns {
    None,
    Short,
    Antlers,
}

/// The look of one animal, in units of about half the height of its head.
pub(super) struct Face {
    pub(super) head: (f32, f32),
    /// Width of the chin relative to the head.
    pub(super) jaw: f32,
    pub(super) ears: Ears,
    pub(super) ear_size: f32,
    /// Position of the ears, from 0 (top) to 1 (sides).
    pub(super) ear_spread: f32,
    pub(super) muzzle: Muzzle,
    pub(super) muzzle_size: f32,
    pub(super) nose: f32,
    pub(super) nose_colour: Colour,
    pub(super) eyes: Eyes,
    pub(super) eye_size: f32,
    pub(super) iris: Colour,
    pub(super) whiskers: bool,
    pub(super) tongue: bool,
    pub(super) fur: Fur,
    pub(super) coat: Colour,
    pub(super) second: Colour,
    pub(super) horns: Horns,
}

/// Coat colours common to many animals: white, grey, black, browns, fawn, ginger.
const COATS: [Colour; 8] = [
    [0.92, 0.9, 0.87],
    [0.55, 0.55, 0.56],
    [0.14, 0.13, 0.14],
    [0.36, 0.23, 0.14],
    [0.5, 0.36, 0.22],
    [0.76, 0.6, 0.42],
    [0.82, 0.5, 0.22],
    [0.66, 0.62, 0.56],
];

pub(super) fn coat(random: &mut ChaCha8Rng) -> Colour {
    let two = [(); 2].map(|()| COATS[random.random_range(0..COATS.len())]);
    near(mix(two[0], two[1], random.random_range(0.0..0.5)), 0.06, random)
}

/// Returns a random element of `several`. Repeated elements are more likely.
pub(super) fn one_of<T: Copy>(several: &[T], random: &mut ChaCha8Rng) -> T {
    several[random.random_range(0..several.len())]
}

impl Face {
    /// Returns a face with random traits. Each species then sets its distinctive ones.
    pub(super) fn any(random: &mut ChaCha8Rng) -> Face {
        let range = |random: &mut ChaCha8Rng, low: f32, high: f32| random.random_range(low..high);
        let dark = near([0.12, 0.09, 0.09], 0.06, random);
        Face {
            head: (range(random, 0.8, 1.0), range(random, 0.8, 1.0)),
            jaw: range(random, 0.7, 0.95),
            ears: Ears::Round,
            ear_size: range(random, 0.8, 1.2),
            ear_spread: range(random, 0.35, 0.6),
            muzzle: Muzzle::Pads,
            muzzle_size: range(random, 0.85, 1.15),
            nose: range(random, 0.1, 0.16),
            nose_colour: if random.random_bool(0.35) { near([0.85, 0.55, 0.55], 0.08, random) } else { dark },
            eyes: one_of(&[Eyes::Beads, Eyes::Beads, Eyes::Round], random),
            eye_size: range(random, 0.11, 0.17),
            iris: near(
                one_of(&[[0.35, 0.22, 0.1], [0.6, 0.45, 0.1], [0.3, 0.5, 0.3], [0.3, 0.45, 0.65]], random),
                0.08,
                random,
            ),
            whiskers: random.random_bool(0.15),
            tongue: random.random_bool(0.1),
            fur: one_of(
                &[Fur::Plain, Fur::Plain, Fur::Plain, Fur::Patches, Fur::Spots, Fur::Stripes, Fur::Blaze],
                random,
            ),
            coat: coat(random),
            second: coat(random),
            horns: Horns::None,
        }
    }
}
