//! What candle lacks, gets wrong or does slowly on the CPU, each with its gradient.

mod after;
mod batch_norm;
mod by_columns;
mod channels_last;
mod conv;
mod depthwise;
mod far_conv;
mod max_pool;
mod plus;
mod relu;
mod scratch;
mod slices;
mod tape;
mod together;
mod windows;
mod winograd;

pub use after::After;
pub(crate) use after::AtOnce;
pub use batch_norm::{BatchNorm, BatchStatistics, ScaleShift};
pub(crate) use channels_last::{planes, turned_back};
pub use conv::Conv;
pub(crate) use far_conv::FarConv;
pub use max_pool::MaxPool;
pub use plus::Plus;
pub use relu::Relu;
pub(crate) use slices::{contiguous, values};
pub use tape::value_and_gradients;
pub(crate) use tape::{GradientTape, apply1, apply2, apply3};
pub(crate) use winograd::{Kernels, Winograd};
