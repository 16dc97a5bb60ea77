//! The settings of the update rules.

use serde::{Deserialize, Serialize};

/// The update rule of [`SGD`](super::SGD).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Momentum {
    pub(super) momentum: f64,
    pub(super) nesterov: bool,
}

/// The update rule of [`Adam`](super::Adam).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Moments {
    pub(super) beta_1: f64,
    pub(super) beta_2: f64,
    pub(super) epsilon: f64,
}

/// The update rule of [`RMSprop`](super::RMSprop).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct MeanSquare {
    pub(super) rho: f64,
    pub(super) momentum: f64,
    pub(super) epsilon: f64,
    pub(super) centered: bool,
}
