//! Compiling, fitting, evaluating, predicting.

mod compile;
mod fit;
mod history;
mod loss;
mod metric;
mod optimizer;
mod predict;
mod progress;
mod recover;

pub(crate) use compile::Compiled;
pub use fit::Fit;
pub use history::History;
pub use loss::Loss;
pub use metric::Metric;
pub use optimizer::{Adam, Optimizer};
pub use predict::{Predictions, Scores};
pub use recover::Recovered;
