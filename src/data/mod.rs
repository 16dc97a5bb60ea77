//! Datasets: image files, augmentation and batches.

mod affine;
mod augment;
mod class_names;
mod content;
mod dataset;
mod decode;
mod edits;
mod epoch;
mod files;
mod folder;
mod image_size;
mod images;
mod inputs;
mod prefetch;
mod split;
mod svd;

pub use affine::FillMode;
pub use augment::{Flow, ImageDataGenerator, Shift, Zoom};
pub(crate) use class_names::{check_numbers, check_same, read_class_numbers};
pub(crate) use dataset::check_weights;
pub use dataset::{Batch, Dataset, IntoDataset, Samples};
pub(crate) use edits::{Edit, by_file, change_edits, file_of};
pub(crate) use epoch::{announced_batches, check_not_mixed, missing_batches};
pub use files::ImageFiles;
pub use image_size::ImageSize;
pub use images::Images;
pub use split::stratified_folds;
pub(crate) use svd::truncated_svd;

pub use crate::drawn::{CATS_AND_DOGS, SOURCES, Subject, draw_demo_images};
