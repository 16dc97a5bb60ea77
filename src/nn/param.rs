//! A parameter: a named variable that training may change, or may not.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{Tensor, Var};

use super::Mode;
use crate::{Error, Result};

/// A named weight of a layer, or a statistic that a layer keeps.
///
/// A clone is the same parameter: a model put into another shares its weights with it, and
/// freezing either freezes both, as in Keras.
#[derive(Clone)]
pub struct Param(Arc<Inner>);

struct Inner {
    name: String,
    var: Var,
    /// Moving statistics are never trained, whatever is unfrozen.
    statistic: bool,
    trainable: AtomicBool,
    /// A statistic that is used as it is, in training too.
    at_rest: AtomicBool,
}

impl Param {
    /// A trainable weight.
    pub fn weight(name: impl Into<String>, value: &Tensor) -> Result<Param> {
        Param::new(name.into(), value, false)
    }

    /// A statistic that the layer itself keeps up to date; never trained.
    pub fn statistic(name: impl Into<String>, value: &Tensor) -> Result<Param> {
        Param::new(name.into(), value, true)
    }

    fn new(name: String, value: &Tensor, statistic: bool) -> Result<Param> {
        let var = Var::from_tensor(value)?;
        let (trainable, at_rest) = (AtomicBool::new(!statistic), AtomicBool::new(false));
        Ok(Param(Arc::new(Inner { name, var, statistic, trainable, at_rest })))
    }

    /// The name within its layer: `kernel`, `bias`, `gamma`, …
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The variable itself, for an optimizer.
    pub fn var(&self) -> &Var {
        &self.0.var
    }

    /// The value for a forward pass: connected to the variable only if training is to change it,
    /// so that nothing frozen records a graph.
    pub fn value(&self, mode: Mode) -> Tensor {
        if mode == Mode::Training && self.is_trainable() {
            self.0.var.as_tensor().clone()
        } else {
            self.0.var.as_detached_tensor()
        }
    }

    /// Replaces the value.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape differs.
    pub fn set(&self, value: &Tensor) -> Result<()> {
        if value.dims() != self.0.var.dims() {
            let expected = format!("{:?}", self.0.var.dims());
            return Err(Error::shape(format!("parameter `{}`", self.0.name), expected, value.dims(), ""));
        }
        Ok(self
            .0
            .var
            .set(&value.to_dtype(self.0.var.dtype())?.to_device(self.0.var.device())?.contiguous()?)?)
    }

    /// Whether training changes it.
    pub fn is_trainable(&self) -> bool {
        self.0.trainable.load(Ordering::Relaxed)
    }

    /// Freezes or unfreezes it. A statistic comes to rest when it is frozen, and stays so.
    pub fn set_trainable(&self, trainable: bool) {
        self.0.trainable.store(trainable && !self.0.statistic, Ordering::Relaxed);
        if self.0.statistic && !trainable {
            self.set_at_rest(true);
        }
    }

    /// Whether a statistic is used as it is, in training too.
    pub fn is_at_rest(&self) -> bool {
        self.0.at_rest.load(Ordering::Relaxed)
    }

    /// Says whether a statistic is used as it is, in training too.
    pub fn set_at_rest(&self, at_rest: bool) {
        self.0.at_rest.store(at_rest, Ordering::Relaxed);
    }

    /// Whether it is a statistic rather than a weight.
    pub fn is_statistic(&self) -> bool {
        self.0.statistic
    }

    /// How many numbers it holds.
    pub fn count(&self) -> usize {
        self.0.var.elem_count()
    }
}

impl fmt::Debug for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_trainable() { "trainable" } else { "frozen" };
        write!(f, "{} {:?} {state}", self.name(), self.0.var.dims())
    }
}
