//! What candle lacks, gets wrong or does slowly on the CPU, each with its gradient.

mod after;
mod at_rest;
mod batch_norm;
mod by_columns;
mod by_panels;
mod channels_last;
mod conv;
mod crew;
mod dense;
mod depthwise;
mod far_conv;
mod max_pool;
mod plus;
mod products;
mod relu;
mod scratch;
mod slices;
mod tape;
mod together;
mod transpose;
mod windows;
mod winograd;

pub use after::After;
pub(crate) use after::AtOnce;
pub(crate) use at_rest::{AtRest, Kernels, Order};
pub use batch_norm::{BatchNorm, BatchStatistics, ScaleShift};
pub(crate) use channels_last::{planes, turned_back};
pub use conv::Conv;
pub(crate) use crew::each_piece;
pub(crate) use dense::Dense;
pub(crate) use far_conv::FarConv;
pub use max_pool::MaxPool;
pub use plus::Plus;
pub use relu::Relu;
pub(crate) use slices::{contiguous, values};
pub use tape::value_and_gradients;
pub(crate) use tape::{GradientTape, apply1, apply2, apply3};

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    pub(super) fn values(seed: u64, shape: &[usize]) -> Tensor {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    pub(super) fn flat(t: &Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }
}
