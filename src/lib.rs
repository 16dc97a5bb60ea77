//! Transfer learning in Rust notebooks: a Keras-style API on candle's tensors.
//!
//! The program of the tutorial. A notebook of the Headstart kernel does not need the `use` line:
//!
//! ```no_run
//! use headstart::prelude::*;
//!
//! # fn main() -> headstart::Result<()> {
//! # let (x, y) = (Tensor::rand(0f32, 1.0, (4, 3, 224, 224), &device())?, Tensor::new(&[0f32, 1., 0., 1.], &device())?);
//! let base_model = Vgg16::new(Weights::ImageNet).include_top(false).input_shape((3, 224, 224)).build()?;
//! base_model.freeze();
//! let mut model = sequential![base_model, Flatten, Dense::new(128).activation(Relu), Dropout::new(0.5), Dense::new(1).activation(Sigmoid)]?;
//! model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);
//! let datagen = ImageDataGenerator::new().rotation_range(20.0).width_shift_range(0.2).height_shift_range(0.2).horizontal_flip(true);
//! datagen.fit(&x)?;
//! let history = model.fit(datagen.flow(&x, &y, 4)?, Fit::epochs(10))?;
//! let pred = model.predict(&x.i(..1)?)?; println!("Prediction for first image: {:.2}", pred[0][0]);
//! # Ok(())
//! # }
//! ```
//!
//! Images are channels first, `[N, 3, height, width]`, as is usual in candle.
#![deny(missing_docs)]

mod accelerator;
pub mod chart;
mod check;
pub mod data;
mod device;
mod device_options;
mod diagram;
pub mod display;
mod drawn;
mod error;
pub mod explain;
mod files;
#[cfg(any(feature = "cells", test))]
mod inspect;
mod interrupt;
pub mod models;
pub mod nn;
mod notebook;
mod notes;
mod opaque;
pub mod ops;
pub mod prelude;
pub mod random;
pub mod train;
#[cfg(any(feature = "cells", test))]
#[doc(hidden)]
pub mod variables;
pub mod weights;

pub use accelerator::{GpuPrecision, gpu_precision, set_gpu_precision};
pub use candle_core;
pub use candle_nn;
pub use device::device;
pub use error::{Error, Result};
pub use files::temporary_folder;
pub use interrupt::check_interrupt;
pub use notebook::{cells_run, start};
pub use random::random_uniform;
