//! Analysis of a trained model: confusion matrix, Grad-CAM, projection of features.

mod confusion;
mod embedding;
mod grad_cam;

pub use confusion::{ClassReport, ClassificationReport, ConfusionMatrix};
pub use embedding::Embedding;
pub use grad_cam::{GradCam, HeatMaps};
