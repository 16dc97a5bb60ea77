//! Compiling, fitting, evaluating and predicting.

mod callbacks;
mod class_weight;
mod comparison_chart;
mod compile;
mod content;
mod extract;
mod feature_cache;
mod feature_file;
mod feature_folder;
mod feature_store;
mod features;
mod finder;
mod fine_tune;
mod fit;
mod fit_options;
mod history;
mod history_chart;
mod image_features;
mod inputs;
mod learning_rates_chart;
mod lint;
mod lint_images;
mod lint_rates;
mod lint_shapes;
mod lint_split;
mod loss;
mod loss_trait;
mod means;
mod metric;
mod metric_trait;
mod on_gpu;
mod optimizer;
mod predict;
mod probabilities;
mod progress;
mod recover;
mod saved;
mod state;
mod test_time;

pub use callbacks::{
    BackupAndRestore, CSVLogger, Callback, EarlyStopping, LearningRateScheduler, MLflowLogger,
    ModelCheckpoint, ReduceLROnPlateau, SharedCallback, TensorBoard, TerminateOnNaN, Training,
};
pub(crate) use compile::{Compiled, CompiledConfig};
pub use finder::LearningRateCurve;
pub use fit_options::Fit;
pub use history::History;
pub use image_features::ImageFeatures;
pub use inputs::{Inputs, IntoInputs};
pub use loss::{
    BinaryCrossentropy, BinaryFocalCrossentropy, BuiltInLoss, CategoricalCrossentropy, Huber,
    MeanAbsoluteError, MeanSquaredError, SparseCategoricalCrossentropy,
};
pub use loss_trait::{Loss, LossSpec};
pub use metric_trait::{
    AUC, Accuracy, AnyMetric, BinaryAccuracy, F1Score, Metric, MetricSpec, Precision, Recall,
    TopKCategoricalAccuracy,
};
pub use optimizer::{
    Adam, AdamW, GradientDescent, LearningRate, MeanSquare, Moments, Momentum, Optimizer, OptimizerConfig,
    RMSprop, Rule, SGD, Schedule, Step,
};
pub use predict::Scores;
pub(crate) use predict::{BATCH, note_nan};
pub use recover::Recovered;

pub use crate::nn::Predictions;
