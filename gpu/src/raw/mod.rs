//! All unsafe code of the crate: dynamic libraries, CUDA's C functions, memory and launches.
//!
//! The module's interface is safe. [`Array`] stores its length. [`Gpu::launch`] and the calls of cuDNN and cuBLAS
//! check it against what they read or write.
#![allow(unsafe_code)]

mod array;
mod blas;
mod compiler;
mod conv_key;
mod dnn;
mod dnn_choice;
mod dnn_plan;
mod dnn_status;
mod driver;
mod event;
mod functions;
mod gpu;
mod library;
mod pinned;
mod readback;
mod transfer;
mod uploads;
mod versions;

pub use array::{Array, Element, Indices};
pub(crate) use blas::Product;
pub(crate) use conv_key::{ConvKey, Direction};
pub(crate) use dnn_status::is_unsupported;
pub(crate) use gpu::Argument;
pub use gpu::{Gpu, compile_kernels};
pub(crate) use library::Library;
pub use readback::Readback;
pub use uploads::Uploads;
pub(crate) use versions::{blas_major, dnn_version, driver_version, nvrtc_major};
