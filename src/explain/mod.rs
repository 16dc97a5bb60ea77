//! Analysis of a trained model and its data: confusion matrix, calibration, thresholds, Grad-CAM, projection of
//! features, nearest neighbours, near-duplicates.

mod calibration;
mod calibration_chart;
mod cleaner;
mod confusion;
mod duplicates;
mod embedding;
mod embedding_chart;
mod grad_cam;
mod interval;
mod neighbors;
mod precision_recall;
mod precision_recall_chart;
mod truth;

pub use calibration::Calibration;
pub use cleaner::ImageCleaner;
pub use confusion::{ClassReport, ClassificationReport, ConfusionMatrix};
pub use duplicates::NearDuplicates;
pub use embedding::Embedding;
pub use grad_cam::{GradCam, HeatMaps};
pub use neighbors::KNeighborsClassifier;
pub use precision_recall::PrecisionRecall;
