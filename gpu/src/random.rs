//! Dropout.

use crate::kernels::int;
use crate::raw::Argument::{Float, Int, Long, Values as V};
use crate::raw::{Array, Gpu};
use crate::{Error, Output, Result};

/// A dropout: its rate, the number of values that are dropped together, and the seed of its mask.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Share of the values that become 0.
    pub rate: f32,
    /// Consecutive values that are dropped together: 1, or a whole sample for stochastic depth.
    pub inner: usize,
    /// Seed of the mask. The backward pass takes the same one.
    pub seed: u64,
}

impl Gpu {
    /// Sets values to 0 at random, and divides the others by `1 - rate`. On a gradient, the same operation is the
    /// backward pass.
    ///
    /// # Errors
    /// [`Error::Argument`] for a rate of 1 or more; [`Error::Length`] if an array is too short; [`Error::Cuda`].
    pub fn dropout(&self, x: &Array, y: &Array, dropout: Dropout, output: Output) -> Result<()> {
        const NAME: &str = "dropout";
        let Dropout { rate, inner, seed } = dropout;
        if !(0.0..1.0).contains(&rate) || inner == 0 {
            return Err(Error::argument(
                NAME,
                "a rate from 0 to below 1 and an inner size of at least 1",
                format!("{dropout:?}"),
            ));
        }
        let count = y.len();
        let arguments = [
            V(x, count),
            V(y, count),
            Int(int(NAME, count)?),
            Int(int(NAME, inner)?),
            Long(seed),
            Float(rate),
            Int(output.adds()),
        ];
        self.launch_each(NAME, count, &arguments)
    }
}
