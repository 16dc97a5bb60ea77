//! Sums of f32 values in sixteen lanes: vectorised, and with less rounding error than one running sum.

use candle_core::{Result, Tensor};

use super::tensor_values::values;
use super::thread_pool::parallel_map;

/// The sum of `f` over pairs of values.
#[inline(always)]
pub(crate) fn pair_sum(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let [sum] = pair_sums(a, b, |a, b| [f(a, b)]);
    sum
}

/// Several sums over pairs of values in one pass.
#[inline(always)]
pub(crate) fn pair_sums<const N: usize>(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> [f32; N]) -> [f32; N] {
    const LANES: usize = 16;
    let mut lanes = [[0f32; LANES]; N];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let mut rest = [0f32; N];
    for (a, b) in a_chunks.remainder().iter().zip(b_chunks.remainder()) {
        let values = f(*a, *b);
        (0..N).for_each(|sum| rest[sum] += values[sum]);
    }
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            let values = f(a[lane], b[lane]);
            (0..N).for_each(|sum| lanes[sum][lane] += values[sum]);
        }
    }
    std::array::from_fn(|sum| lanes[sum].iter().sum::<f32>() + rest[sum])
}

/// The sum of each channel of `[N, C, …]`.
pub(crate) fn channel_sums(x: &Tensor) -> Result<Tensor> {
    let (channels, pixels) = (x.dim(1)?, x.dims()[2..].iter().product::<usize>());
    let values = values(x)?;
    let sums: Vec<f32> = parallel_map(channels, |channel| {
        let maps = values.chunks(pixels).skip(channel).step_by(channels);
        maps.map(|map| pair_sum(map, map, |value, _| value)).sum()
    });
    Tensor::from_vec(sums, channels, x.device())
}
