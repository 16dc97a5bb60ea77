//! Random numbers for initial weights, splits, shuffles, augmentation and dropout, from one seed.
//!
//! candle's CPU generator cannot be seeded, so the library has its own (ChaCha8). Each use takes its own
//! [`stream`]; the same seed and the same calls give the same streams.

use std::sync::Mutex;

use candle_core::{Device, Shape, Tensor};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::check::check_memory;

/// The generator that seeds all streams; `None` until the first use.
static GENERATOR: Mutex<Option<ChaCha8Rng>> = Mutex::new(None);
/// Seed of a program that sets none.
const DEFAULT_SEED: u64 = 0;

/// Seeds all random operations, as `keras.utils.set_random_seed` does.
///
/// The default seed is 0, so two runs of a program give the same numbers.
pub fn set_random_seed(seed: u64) {
    *generator() = Some(ChaCha8Rng::seed_from_u64(seed));
}

/// State of the generator, for checkpoints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    seed: [u8; 32],
    /// Position in the stream, low and high 64 bits: JSON has no 128-bit numbers.
    position: [u64; 2],
}

/// The current state of the generator.
pub(crate) fn state() -> State {
    let mut generator = generator();
    let generator = generator.get_or_insert_with(|| ChaCha8Rng::seed_from_u64(DEFAULT_SEED));
    let position = generator.get_word_pos();
    State { seed: generator.get_seed(), position: [position as u64, (position >> 64) as u64] }
}

/// Restores a state of the generator.
pub(crate) fn set_state(state: &State) {
    let mut rng = ChaCha8Rng::from_seed(state.seed);
    rng.set_word_pos(u128::from(state.position[0]) | u128::from(state.position[1]) << 64);
    *generator() = Some(rng);
}

/// The next stream of random numbers, independent of all others.
pub fn stream() -> ChaCha8Rng {
    let mut generator = generator();
    let generator = generator.get_or_insert_with(|| ChaCha8Rng::seed_from_u64(DEFAULT_SEED));
    ChaCha8Rng::seed_from_u64(generator.next_u64())
}

/// A stream that depends only on its seed.
pub fn seeded(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Uniform values in `[low, high)`, seeded by [`set_random_seed`]: `keras.random.uniform`.
///
/// candle's `Tensor::rand` cannot be seeded on the CPU: it draws different values in every run.
///
/// ```
/// use headstart::prelude::*;
/// let x = random_uniform((4, 3, 224, 224), 0.0, 255.0)?;
/// assert_eq!(x.dims(), [4, 3, 224, 224]);
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Argument`] if `low` is not below `high`, or the values do not fit into the machine's memory.
pub fn random_uniform(shape: impl Into<Shape>, low: f32, high: f32) -> Result<Tensor> {
    uniform_between(shape.into(), low, high)
}

fn uniform_between(shape: Shape, low: f32, high: f32) -> Result<Tensor> {
    if low >= high || !low.is_finite() || !high.is_finite() || !(high - low).is_finite() {
        let expected = "two finite numbers, the smaller first, with a finite difference".into();
        let found = format!("{low} and {high}");
        return Err(crate::Error::Argument { name: "low and high", expected, found });
    }
    check_memory("shape", shape.dims())?;
    let mut rng = stream();
    let values: Vec<f32> = (0..shape.elem_count()).map(|_| rng.random_range(low..high)).collect();
    Ok(Tensor::from_vec(values, shape, &crate::device())?)
}

/// Uniform values in `[-limit, limit)`.
pub fn uniform(rng: &mut ChaCha8Rng, shape: &[usize], limit: f32, device: &Device) -> Result<Tensor> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-limit..limit)).collect();
    Ok(Tensor::from_vec(values, shape, device)?)
}

/// The numbers `0..n` in random order.
pub fn permutation(rng: &mut ChaCha8Rng, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last, rng.random_range(0..=last));
    }
    order
}

fn generator() -> std::sync::MutexGuard<'static, Option<ChaCha8Rng>> {
    // A poisoned lock is safe to use: a panic cannot leave the generator in an invalid state.
    GENERATOR.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_contains_every_number_once() {
        let mut order = permutation(&mut seeded(3), 100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn bounds_without_a_finite_difference_are_refused() {
        for (low, high) in [(f32::MIN, f32::MAX), (1.0, 1.0), (0.0, f32::INFINITY), (f32::NAN, 1.0)] {
            assert!(random_uniform(4, low, high).is_err(), "{low} to {high}");
        }
    }

    #[test]
    fn uniform_values_cover_their_range() {
        let values = uniform(&mut seeded(1), &[10_000], 0.5, &Device::Cpu).unwrap().to_vec1::<f32>().unwrap();
        let mean = values.iter().sum::<f32>() / 10_000.0;
        assert!(mean.abs() < 0.01, "mean {mean}");
        assert!(values.iter().all(|v| (-0.5..0.5).contains(v)));
        assert!(values.iter().any(|v| *v > 0.49) && values.iter().any(|v| *v < -0.49));
    }
}
