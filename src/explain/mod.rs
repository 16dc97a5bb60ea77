//! Looking at what a model does: where it errs, what it looks at.

mod confusion;
mod embedding;
mod grad_cam;

pub use confusion::{ClassReport, ClassificationReport, ConfusionMatrix};
pub use embedding::Embedding;
pub use grad_cam::{GradCam, HeatMaps};
