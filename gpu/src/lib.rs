//! Layers of convolutional networks on an NVIDIA GPU: forward, backward and the optimizers' steps. Values are float32, or
//! bfloat16 in feature maps if [`Precision`] says so.
//!
//! The crate needs no CUDA at build time. The driver, cuDNN, cuBLAS and NVRTC are loaded when a [`Gpu`] is opened
//! ([`Libraries`]). cuDNN computes convolutions and cuBLAS matrix products. The other operations are kernels of this
//! crate in CUDA C, which NVRTC compiles for the machine's GPU. All work goes to one stream, in order, except
//! [`Uploads`]. Every algorithm is deterministic: equal inputs give equal bits.
//!
//! The layout is NCHW for float32 and NHWC for bfloat16 ([`Element`]). Unsafe code is in the module `raw` only.
#![deny(unsafe_code)]

mod bfloat16;
mod channels_last;
mod convolution;
mod dense;
mod error;
mod kernels;
mod libraries;
mod loss;
mod network;
mod normalization;
mod optimizer;
mod pointwise;
mod pool;
mod precision;
mod random;
mod raw;
mod rows;

pub use convolution::ConvShape;
pub use dense::DenseShape;
pub use error::{Error, Result};
pub use kernels::{KERNELS, SOURCE};
pub use libraries::{Found, Libraries};
pub use loss::{Loss, LossOutput, MAX_COUNT};
pub use network::{Network, Node, Operation, Parameter, Pass, Window};
pub use normalization::{MapShape, NormalizationOperands, Statistics};
pub use optimizer::{Chunks, Clip, Rule, Segment, Update};
pub use pointwise::Activation;
pub use pool::PoolShape;
pub use precision::Precision;
pub use random::Dropout;
pub use raw::{Array, Element, Gpu, Indices, Readback, Uploads, compile_kernels};

/// Where an operation writes its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Replaces the values.
    Replace,
    /// Adds to the values: a gradient with several contributions.
    Add,
}

impl Output {
    /// The factor of the old values.
    pub(crate) fn beta(self) -> f32 {
        if self == Output::Add { 1.0 } else { 0.0 }
    }

    /// 1 to add, 0 to replace: the argument of the kernels.
    pub(crate) fn adds(self) -> i32 {
        i32::from(self == Output::Add)
    }
}
