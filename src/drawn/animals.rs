//! Animals: the distinctive traits of each species. All other traits are random ([`Face::any`]).

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::canvas::{Colour, near};
use super::face::{Ears, Eyes, Face, Fur, Horns, Muzzle, one_of};

/// A function that draws the traits of one animal.
pub(super) type Animal = fn(&mut ChaCha8Rng) -> Face;

fn coloured(colour: Colour, random: &mut ChaCha8Rng) -> Colour {
    near(colour, 0.1, random)
}

pub(super) fn rabbit(random: &mut ChaCha8Rng) -> Face {
    Face {
        ears: Ears::Long,
        ear_spread: random.random_range(0.1..0.4),
        muzzle: Muzzle::Pads,
        muzzle_size: random.random_range(0.6..0.9),
        whiskers: random.random_bool(0.6),
        ..Face::any(random)
    }
}

pub(super) fn bear(random: &mut ChaCha8Rng) -> Face {
    Face {
        ears: Ears::Round,
        ear_size: random.random_range(0.75..1.0),
        muzzle: Muzzle::Long,
        eye_size: random.random_range(0.08..0.12),
        fur: one_of(&[Fur::Plain, Fur::Plain, Fur::Blaze], random),
        ..Face::any(random)
    }
}

pub(super) fn panda(random: &mut ChaCha8Rng) -> Face {
    Face {
        ears: Ears::Round,
        muzzle: Muzzle::Pads,
        fur: Fur::Patches,
        coat: coloured([0.92, 0.92, 0.9], random),
        second: coloured([0.12, 0.12, 0.13], random),
        ..Face::any(random)
    }
}

pub(super) fn koala(random: &mut ChaCha8Rng) -> Face {
    Face {
        ears: Ears::Discs,
        ear_size: random.random_range(0.75..1.0),
        ear_spread: random.random_range(0.6..0.85),
        muzzle: Muzzle::None,
        nose: random.random_range(0.22..0.3),
        coat: coloured([0.58, 0.57, 0.57], random),
        ..Face::any(random)
    }
}

pub(super) fn mouse(random: &mut ChaCha8Rng) -> Face {
    Face {
        head: (random.random_range(0.65..0.8), random.random_range(0.7..0.85)),
        jaw: random.random_range(0.45..0.65),
        ears: Ears::Discs,
        ear_size: random.random_range(0.9..1.2),
        muzzle: Muzzle::Pads,
        muzzle_size: random.random_range(0.5..0.75),
        whiskers: random.random_bool(0.8),
        ..Face::any(random)
    }
}

pub(super) fn squirrel(random: &mut ChaCha8Rng) -> Face {
    Face {
        head: (random.random_range(0.72..0.85), random.random_range(0.75..0.9)),
        ears: Ears::Pointed,
        ear_size: random.random_range(0.6..0.85),
        ear_spread: random.random_range(0.3..0.5),
        muzzle: Muzzle::Pads,
        muzzle_size: random.random_range(0.6..0.8),
        eyes: Eyes::Beads,
        eye_size: random.random_range(0.16..0.22),
        coat: coloured([0.68, 0.36, 0.18], random),
        whiskers: random.random_bool(0.4),
        ..Face::any(random)
    }
}

pub(super) fn pig(random: &mut ChaCha8Rng) -> Face {
    Face {
        ears: one_of(&[Ears::Pointed, Ears::Floppy], random),
        ear_size: random.random_range(0.7..0.95),
        muzzle: Muzzle::Snout,
        coat: one_of(&[[0.92, 0.68, 0.66], [0.85, 0.6, 0.58], [0.3, 0.24, 0.24]], random),
        fur: one_of(&[Fur::Plain, Fur::Plain, Fur::Spots], random),
        ..Face::any(random)
    }
}

pub(super) fn cow(random: &mut ChaCha8Rng) -> Face {
    Face {
        head: (random.random_range(0.7..0.85), random.random_range(0.95..1.1)),
        ears: Ears::Sideways,
        ear_spread: random.random_range(0.7..0.9),
        muzzle: Muzzle::Wide,
        horns: if random.random_bool(0.6) { Horns::Short } else { Horns::None },
        fur: one_of(&[Fur::Plain, Fur::Patches, Fur::Spots, Fur::Blaze], random),
        ..Face::any(random)
    }
}

pub(super) fn sheep(random: &mut ChaCha8Rng) -> Face {
    Face {
        head: (random.random_range(0.6..0.75), random.random_range(0.8..0.95)),
        ears: one_of(&[Ears::Sideways, Ears::Floppy], random),
        ear_size: random.random_range(0.7..0.9),
        ear_spread: random.random_range(0.65..0.85),
        muzzle: Muzzle::Long,
        muzzle_size: random.random_range(0.7..0.9),
        fur: Fur::Wool,
        second: coloured([0.9, 0.88, 0.83], random),
        ..Face::any(random)
    }
}

pub(super) fn goat(random: &mut ChaCha8Rng) -> Face {
    Face {
        head: (random.random_range(0.6..0.72), random.random_range(0.95..1.1)),
        jaw: random.random_range(0.45..0.65),
        ears: one_of(&[Ears::Sideways, Ears::Floppy], random),
        ear_spread: random.random_range(0.6..0.85),
        muzzle: Muzzle::Long,
        muzzle_size: random.random_range(0.75..0.95),
        horns: Horns::Short,
        eyes: one_of(&[Eyes::Slit, Eyes::Beads], random),
        ..Face::any(random)
    }
}

pub(super) fn deer(random: &mut ChaCha8Rng) -> Face {
    Face {
        head: (random.random_range(0.62..0.75), random.random_range(0.95..1.1)),
        jaw: random.random_range(0.45..0.65),
        ears: Ears::Sideways,
        ear_spread: random.random_range(0.5..0.75),
        muzzle: Muzzle::Long,
        horns: if random.random_bool(0.7) { Horns::Antlers } else { Horns::None },
        coat: coloured([0.6, 0.42, 0.26], random),
        fur: one_of(&[Fur::Plain, Fur::Spots], random),
        ..Face::any(random)
    }
}

pub(super) fn horse(random: &mut ChaCha8Rng) -> Face {
    Face {
        head: (random.random_range(0.55..0.68), random.random_range(1.05..1.2)),
        jaw: random.random_range(0.6..0.8),
        ears: Ears::Pointed,
        ear_size: random.random_range(0.6..0.85),
        ear_spread: random.random_range(0.2..0.4),
        muzzle: Muzzle::Wide,
        fur: one_of(&[Fur::Blaze, Fur::Blaze, Fur::Plain], random),
        ..Face::any(random)
    }
}

pub(super) fn kangaroo(random: &mut ChaCha8Rng) -> Face {
    Face {
        head: (random.random_range(0.6..0.72), random.random_range(0.9..1.05)),
        jaw: random.random_range(0.5..0.7),
        ears: Ears::Long,
        ear_size: random.random_range(0.65..0.85),
        ear_spread: random.random_range(0.4..0.6),
        muzzle: Muzzle::Long,
        coat: coloured([0.62, 0.46, 0.34], random),
        ..Face::any(random)
    }
}

pub(super) fn monkey(random: &mut ChaCha8Rng) -> Face {
    Face {
        ears: Ears::Discs,
        ear_size: random.random_range(0.55..0.75),
        ear_spread: random.random_range(0.85..1.0),
        muzzle: Muzzle::Wide,
        muzzle_size: random.random_range(0.8..1.0),
        eyes: Eyes::Round,
        nose: 0.0,
        coat: coloured([0.4, 0.27, 0.18], random),
        fur: Fur::Plain,
        ..Face::any(random)
    }
}

pub(super) fn elephant(random: &mut ChaCha8Rng) -> Face {
    Face {
        ears: one_of(&[Ears::Discs, Ears::Floppy], random),
        ear_size: random.random_range(1.3..1.6),
        ear_spread: random.random_range(0.8..1.0),
        muzzle: Muzzle::Trunk,
        coat: coloured([0.52, 0.52, 0.55], random),
        fur: Fur::Plain,
        ..Face::any(random)
    }
}

pub(super) fn owl(random: &mut ChaCha8Rng) -> Face {
    Face {
        ears: one_of(&[Ears::Pointed, Ears::None], random),
        ear_size: random.random_range(0.5..0.7),
        ear_spread: random.random_range(0.45..0.6),
        muzzle: Muzzle::Beak,
        eyes: Eyes::Rings,
        iris: coloured([0.85, 0.62, 0.12], random),
        ..Face::any(random)
    }
}

pub(super) fn bird(random: &mut ChaCha8Rng) -> Face {
    Face {
        head: (random.random_range(0.7..0.9), random.random_range(0.75..0.95)),
        ears: Ears::None,
        muzzle: Muzzle::Beak,
        muzzle_size: random.random_range(0.9..1.5),
        coat: super::canvas::any_colour(random),
        ..Face::any(random)
    }
}

pub(super) fn hedgehog(random: &mut ChaCha8Rng) -> Face {
    Face {
        head: (random.random_range(0.75..0.9), random.random_range(0.7..0.85)),
        ears: Ears::Round,
        ear_size: random.random_range(0.45..0.65),
        ear_spread: random.random_range(0.6..0.8),
        muzzle: Muzzle::Long,
        muzzle_size: random.random_range(0.6..0.8),
        fur: Fur::Spines,
        ..Face::any(random)
    }
}

/// A cat: pointed ears, muzzle pads below a small nose, whiskers, often slit pupils. One in six has no
/// whiskers, one in four has round pupils, and some have folded or rounded ears.
pub(super) fn cat(random: &mut ChaCha8Rng) -> Face {
    Face {
        head: (random.random_range(0.85..1.05), random.random_range(0.75..0.92)),
        jaw: random.random_range(0.6..0.85),
        ears: one_of(&[Ears::Pointed; 8], random),
        ear_size: random.random_range(0.8..1.15),
        ear_spread: random.random_range(0.4..0.65),
        muzzle: Muzzle::Pads,
        muzzle_size: random.random_range(0.75..1.05),
        nose: random.random_range(0.08..0.13),
        eyes: one_of(&[Eyes::Slit, Eyes::Slit, Eyes::Slit, Eyes::Round], random),
        eye_size: random.random_range(0.13..0.19),
        whiskers: random.random_bool(0.85),
        tongue: random.random_bool(0.05),
        fur: one_of(&[Fur::Plain, Fur::Plain, Fur::Stripes, Fur::Stripes, Fur::Patches, Fur::Blaze], random),
        ..Face::any(random)
    }
}

/// A dog: a long muzzle with a large nose (short in one of eight), dark eyes, and often its tongue out. The
/// ears are floppy, or upright in 30 %.
pub(super) fn dog(random: &mut ChaCha8Rng) -> Face {
    let stands = random.random_bool(0.3);
    Face {
        head: (random.random_range(0.75..0.98), random.random_range(0.8..1.02)),
        jaw: random.random_range(0.65..0.95),
        ears: if stands { Ears::Pointed } else { Ears::Floppy },
        ear_size: random.random_range(0.8..1.15),
        ear_spread: if stands { random.random_range(0.4..0.65) } else { random.random_range(0.5..0.75) },
        muzzle: if random.random_bool(0.125) { Muzzle::Pads } else { Muzzle::Long },
        muzzle_size: random.random_range(0.85..1.15),
        nose: random.random_range(0.13..0.2),
        eyes: one_of(&[Eyes::Beads, Eyes::Beads, Eyes::Round], random),
        eye_size: random.random_range(0.1..0.16),
        whiskers: random.random_bool(0.08),
        tongue: random.random_bool(0.4),
        fur: one_of(&[Fur::Plain, Fur::Plain, Fur::Patches, Fur::Patches, Fur::Spots, Fur::Blaze], random),
        ..Face::any(random)
    }
}
