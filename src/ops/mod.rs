//! CPU kernels with gradients: operations that candle lacks, computes wrongly, or computes slowly.
//!
//! - Convolution: [`Conv`] (trainable), `FusedConv` and `InferenceConv` (inference), `DeviceConv` (any
//!   device). Algorithms: im2col, batched small feature maps, packed NHWC, depthwise, Winograd.
//! - Other layers: [`BatchNorm`], [`ScaleShift`], `LayerNorm`, `ResponseNorm`, `Dense`, `Attention`,
//!   `FeatureScale`, [`MaxPool`], [`Relu`], `Pointwise` (smooth activations), [`Addition`], `RotateAxes`.
//! - Gradients: [`value_and_gradients`] and the tape that records these operations.
//! - Parallel loops: the thread pool that all of them share.

mod add;
mod attention;
mod batch_norm;
mod channels_last;
mod collect;
mod conv;
mod conv_geometry;
mod dense;
mod depthwise;
mod device_conv;
mod epilogue;
mod feature_scale;
mod fused_conv;
mod im2col;
mod inference_conv;
mod layer_norm;
mod matmul;
mod max_pool;
mod output_ptr;
mod packed_conv;
mod packed_gemm;
mod partition;
mod pointwise;
mod relu;
mod response_norm;
mod rotate_axes;
mod scratch;
mod small_maps;
mod sums;
mod tape;
mod tensor_values;
mod thread_pool;
mod transpose;
mod winograd;

pub use add::Addition;
pub(crate) use attention::Attention;
pub use batch_norm::{BatchNorm, BatchStatistics, ScaleShift};
pub(crate) use channels_last::{to_nchw, to_nchw_if_channels_last};
pub use conv_geometry::Conv;
pub(crate) use dense::Dense;
pub(crate) use device_conv::DeviceConv;
pub use epilogue::Epilogue;
pub(crate) use feature_scale::FeatureScale;
pub(crate) use fused_conv::FusedConv;
pub(crate) use inference_conv::{InferenceConv, KernelLayout, PackedKernels};
pub(crate) use layer_norm::LayerNorm;
pub use max_pool::MaxPool;
pub(crate) use pointwise::Pointwise;
pub use relu::Relu;
pub(crate) use response_norm::ResponseNorm;
pub(crate) use rotate_axes::RotateAxes;
pub use tape::value_and_gradients;
pub(crate) use tape::{GradientTape, apply1, apply2, apply3};
pub(crate) use tensor_values::{storage_values, values};
pub(crate) use thread_pool::parallel_chunks_mut;

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    /// Reproducible values in [-1, 1), by xorshift.
    pub(super) fn random_tensor(seed: u64, shape: &[usize]) -> Tensor {
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

    /// The values of a tensor.
    pub(super) fn flat(t: &Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }
}
