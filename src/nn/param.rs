//! A parameter: a named variable that training may change, or may not.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use candle_core::{Tensor, Var};

use super::Mode;
use crate::device::takes_cpu_path;
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
    /// How often the value was changed.
    changes: AtomicU64,
    /// Whether others have the variable and may change it.
    lent: AtomicBool,
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
        let trainable = AtomicBool::new(!statistic);
        let (at_rest, changes, lent) = Default::default();
        Ok(Param(Arc::new(Inner { name, var, statistic, trainable, at_rest, changes, lent })))
    }

    /// The name within its layer: `kernel`, `bias`, `gamma`, …
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The variable itself, for an optimizer of your own.
    pub fn var(&self) -> &Var {
        self.0.lent.store(true, Ordering::Relaxed);
        &self.0.var
    }

    /// The variable, only to be read.
    pub(crate) fn variable(&self) -> &Var {
        &self.0.var
    }

    /// A number that is another one once the value was changed, unless others may change it unseen.
    pub(crate) fn changes(&self) -> Option<u64> {
        let is_lent = self.0.lent.load(Ordering::Relaxed);
        (!is_lent).then(|| self.0.changes.load(Ordering::Acquire))
    }

    /// Changes the value by a function that may do so in place, and then gives it back.
    pub(crate) fn change(&self, how: impl FnOnce(Tensor) -> Result<Tensor>) -> Result<()> {
        let value = how(self.0.var.as_detached_tensor());
        if let Ok(value) = &value
            && !takes_cpu_path(value)
        {
            self.0.var.set(value)?;
        }
        self.0.changes.fetch_add(1, Ordering::Release);
        value.map(drop)
    }

    /// The value for a forward pass: connected to the variable only if training is to change it,
    /// so that nothing frozen records a graph. It is the variable's own memory, not to be changed in
    /// place.
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
        let (dtype, device) = (self.0.var.dtype(), self.0.var.device());
        self.0.var.set(&value.to_dtype(dtype)?.to_device(device)?.contiguous()?)?;
        self.0.changes.fetch_add(1, Ordering::Release);
        Ok(())
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
