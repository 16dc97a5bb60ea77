//! Analysis of a trained model and its data: confusion matrix, calibration, thresholds, Grad-CAM, projection of
//! features, nearest neighbours, near-duplicates.

mod calibration;
mod cleaner;
mod confusion;
mod duplicates;
mod embedding;
mod grad_cam;
mod interval;
mod neighbors;
mod precision_recall;
mod truth;

pub use calibration::Calibration;
pub use cleaner::ImageCleaner;
pub use confusion::{ClassReport, ClassificationReport, ConfusionMatrix};
pub use duplicates::NearDuplicates;
pub use embedding::Embedding;
pub use grad_cam::{GradCam, HeatMaps};
pub(crate) use interval::wilson;
pub use neighbors::KNeighborsClassifier;
pub use precision_recall::PrecisionRecall;
