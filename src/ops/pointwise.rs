//! Smooth activations with their gradients, each in one vectorised pass on all cores.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};
use std::mem::MaybeUninit;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use pulp::NullaryFnOnce;

use super::tensor_values::{storage_values, values};
use super::thread_pool::parallel_chunks_mut;

/// f32 values per task (16,384: 64 KiB, which fits an L2 cache).
const CHUNK: usize = 1 << 14;

/// An activation as an op for [`Tensor::apply_op1`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pointwise {
    /// `x · Φ(x)` with the normal distribution function Φ (Hendrycks and Gimpel 2016).
    Gelu,
    /// [`Pointwise::Gelu`] with the approximation of Φ by a hyperbolic tangent.
    GeluTanh,
    /// `relu6(x + 3) / 6`.
    HardSigmoid,
    /// `x · relu6(x + 3) / 6`.
    HardSwish,
}

/// Factor of the argument of the tangent: √(2/π).
const TANH_SCALE: f32 = 0.797_884_6;
/// Factor of the cubic term in the argument of the tangent.
const TANH_CUBIC: f32 = 0.044_715;
/// Density of the standard normal distribution at 0: 1/√(2π).
const NORMAL_DENSITY: f32 = 0.398_942_3;

impl Pointwise {
    fn apply(self, x: &[f32]) -> Vec<f32> {
        match self {
            Pointwise::Gelu => map(x, x, |x, _| x * normal_distribution(x)),
            Pointwise::GeluTanh => map(x, x, |x, _| x * share(tangent_argument(x)).0),
            Pointwise::HardSigmoid => map(x, x, |x, _| hard_sigmoid(x)),
            Pointwise::HardSwish => map(x, x, |x, _| x * hard_sigmoid(x)),
        }
    }

    /// The gradient of the input, from the input and the gradient of the output.
    fn gradient(self, x: &[f32], gradient: &[f32]) -> Vec<f32> {
        match self {
            Pointwise::Gelu => {
                map(x, gradient, |x, g| g * (normal_distribution(x) + x * NORMAL_DENSITY * exp(-0.5 * x * x)))
            }
            Pointwise::GeluTanh => map(x, gradient, |x, g| {
                let (share, rest) = share(tangent_argument(x));
                let inner = TANH_SCALE * (1.0 + 3.0 * TANH_CUBIC * x * x);
                g * (share + 2.0 * x * share * rest * inner)
            }),
            Pointwise::HardSigmoid => {
                map(x, gradient, |x, g| if (x > -3.0) & (x < 3.0) { g / 6.0 } else { 0.0 })
            }
            Pointwise::HardSwish => map(x, gradient, |x, g| {
                let inside = g * (x / 3.0 + 0.5);
                if x <= -3.0 {
                    0.0
                } else if x < 3.0 {
                    inside
                } else {
                    g
                }
            }),
        }
    }
}

#[inline(always)]
fn tangent_argument(x: f32) -> f32 {
    TANH_SCALE * (x + TANH_CUBIC * x * x * x)
}

#[inline(always)]
fn hard_sigmoid(x: f32) -> f32 {
    // Comparisons instead of `clamp`, so that NaN is propagated and the loop is vectorised.
    let shifted = x + 3.0;
    let positive = if shifted < 0.0 { 0.0 } else { shifted };
    (if positive > 6.0 { 6.0 } else { positive }) / 6.0
}

/// `(1 + tanh(x)) / 2` and `(1 - tanh(x)) / 2`, both without cancellation.
#[inline(always)]
fn share(x: f32) -> (f32, f32) {
    let power = exp(2.0 * x);
    let rest = 1.0 / (power + 1.0);
    (if x > 0.0 { 1.0 - rest } else { power * rest }, rest)
}

/// The standard normal distribution function.
#[inline(always)]
fn normal_distribution(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * FRAC_1_SQRT_2))
}

/// The error function as a rational approximation on [-4, 4], with an error of a few units in the last place
/// (Eigen's `generic_fast_erf_float`). Beyond, it differs from ±1 by less than a rounding error.
#[inline(always)]
fn erf(x: f32) -> f32 {
    const ODD: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const EVEN: [f32; 5] = [-1.456_607_2e-5, -2.133_740_5e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];
    let x = if x > 4.0 { 4.0 } else { x };
    let x = if x < -4.0 { -4.0 } else { x };
    let square = x * x;
    let sum = |factors: &[f32]| factors[1..].iter().fold(factors[0], |sum, factor| sum * square + factor);
    let result = x * sum(&ODD) / sum(&EVEN);
    // From here on the nearest number is ±1.
    let result = if x > 3.92 { 1.0 } else { result };
    if x < -3.92 { -1.0 } else { result }
}

/// `e^x` with an error of about one unit in the last place (Cephes's `expf`), without branches.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding it rounds a small number to an integer, which then is in the lowest bits.
    const ROUNDER: f32 = 12_582_912.0;
    const FACTORS: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    let rounded = x * LOG2_E + ROUNDER;
    let power = rounded - ROUNDER;
    // ln 2 as a sum of two numbers, of which the first has few bits.
    let rest = x - power * 0.693_359_4 + power * 2.121_944_4e-4;
    let sum = FACTORS[1..].iter().fold(FACTORS[0], |sum, factor| sum * rest + factor);
    let scale = f32::from_bits(rounded.to_bits().wrapping_sub(ROUNDER.to_bits()).wrapping_add(127) << 23);
    (sum * rest * rest + rest + 1.0) * scale
}

/// One chunk of [`map`].
struct Chunk<'a, F> {
    a: &'a [f32],
    b: &'a [f32],
    target: &'a mut [MaybeUninit<f32>],
    function: &'a F,
}

impl<F: Fn(f32, f32) -> f32> NullaryFnOnce for Chunk<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for ((target, a), b) in self.target.iter_mut().zip(self.a).zip(self.b) {
            target.write((self.function)(*a, *b));
        }
    }
}

/// Applies a function to pairs of values, with the widest vectors of the processor.
fn map(a: &[f32], b: &[f32], function: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    assert_eq!(a.len(), b.len());
    let arch = pulp::Arch::new();
    let mut output = Vec::with_capacity(a.len());
    parallel_chunks_mut(&mut output.spare_capacity_mut()[..a.len()], CHUNK, |index, target| {
        let range = index * CHUNK..index * CHUNK + target.len();
        arch.dispatch(Chunk { a: &a[range.clone()], b: &b[range], target, function: &function });
    });
    // SAFETY: every chunk was written, value by value.
    unsafe { output.set_len(a.len()) };
    output
}

impl CustomOp1 for Pointwise {
    fn name(&self) -> &'static str {
        "pointwise"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.apply(storage_values(x, layout)?)), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let gradient = gradient.contiguous()?;
        let result = self.gradient(&values(x)?, &values(&gradient)?);
        Ok(Some(Tensor::from_vec(result, x.shape(), x.device())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_erf_are_precise() {
        for step in -8800..=8800 {
            let x = step as f32 / 100.0;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(
                (-87.0..88.0).contains(&x).then(|| found / expected - 1.0).is_none_or(|d| d.abs() < 2e-7)
            );
        }
        // Values of SciPy's `erf`.
        for (x, expected) in [
            (0.0, 0.0),
            (1e-3, 0.001_128_378_790_969_256_8),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.5, 0.999_593_047_982_555_1),
            (9.0, 1.0),
        ] {
            for sign in [1.0, -1.0] {
                let found = f64::from(erf(sign * x)) * f64::from(sign);
                assert!((found - expected).abs() < 2e-7, "{x}: {found}, expected {expected}");
            }
        }
        assert!(exp(f32::NAN).is_nan() && erf(f32::NAN).is_nan());
    }

    #[test]
    fn not_a_number_is_propagated() {
        use Pointwise::{Gelu, GeluTanh, HardSigmoid, HardSwish};
        for function in [Gelu, GeluTanh, HardSigmoid, HardSwish] {
            assert!(function.apply(&[f32::NAN])[0].is_nan(), "{function:?}");
            let [min, zero, max] = function.apply(&[-50.0, 0.0, 50.0])[..] else { unreachable!() };
            let is_sigmoid = matches!(function, HardSigmoid);
            assert_eq!((zero, max), if is_sigmoid { (0.5, 1.0) } else { (0.0, 50.0) });
            assert!(min.abs() < 1e-30, "{function:?}: {min}");
        }
    }
}
