//! Parameters of layers: named variables, trainable or frozen.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use candle_core::{Tensor, Var};

use super::Mode;
use crate::device::takes_cpu_path;
use crate::{Error, Result};

/// A named weight or moving statistic of a layer.
///
/// A clone refers to the same parameter: a model nested in another shares its weights with it, and
/// freezing either freezes both, as in Keras.
#[derive(Clone)]
pub struct Param(Arc<Inner>);

struct Inner {
    name: String,
    var: Var,
    /// Whether it is a moving statistic, which is never trainable.
    statistic: bool,
    /// Whether it is part of an adapter.
    is_adapter: bool,
    /// The low-rank adapter, if there is one.
    adaptation: RwLock<Option<Adapter>>,
    trainable: AtomicBool,
    /// Whether the layer uses the statistic as stored, in training too (batch normalisation in inference
    /// mode).
    in_inference_mode: AtomicBool,
    /// Number of changes so far.
    version: AtomicU64,
    /// Whether [`Param::var`] gave out the variable, so that the value can change without a new version.
    externally_mutable: AtomicBool,
    /// Whether the value came from a file.
    is_loaded: AtomicBool,
}

impl Param {
    /// Creates a trainable weight.
    pub fn weight(name: impl Into<String>, value: &Tensor) -> Result<Param> {
        Param::new(name.into(), value, false, false)
    }

    /// Creates a trainable parameter of an adapter.
    pub(super) fn adapter(name: String, value: &Tensor) -> Result<Param> {
        Param::new(name, value, false, true)
    }

    /// Creates a moving statistic, which the layer updates itself; it is never trainable.
    pub fn statistic(name: impl Into<String>, value: &Tensor) -> Result<Param> {
        Param::new(name.into(), value, true, false)
    }

    fn new(name: String, value: &Tensor, statistic: bool, is_adapter: bool) -> Result<Param> {
        let var = Var::from_tensor(value)?;
        let trainable = AtomicBool::new(!statistic);
        let (in_inference_mode, version, externally_mutable, is_loaded) = Default::default();
        Ok(Param(Arc::new(Inner {
            name,
            var,
            statistic,
            is_adapter,
            adaptation: RwLock::new(None),
            trainable,
            in_inference_mode,
            version,
            externally_mutable,
            is_loaded,
        })))
    }

    /// Identity of the parameter: equal for clones, different for all other parameters.
    pub(crate) fn identity(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// The name within its layer: `kernel`, `bias`, `gamma`, …
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The variable itself, for your own optimizer.
    pub fn var(&self) -> &Var {
        self.0.externally_mutable.store(true, Ordering::Relaxed);
        &self.0.var
    }

    /// The variable, for reading only.
    pub(crate) fn variable(&self) -> &Var {
        &self.0.var
    }

    /// Version of the value, which grows with every change. `None` if the variable was given out and can
    /// change without a new version.
    pub(crate) fn version(&self) -> Option<u64> {
        let is_externally_mutable = self.0.externally_mutable.load(Ordering::Relaxed);
        (!is_externally_mutable).then(|| self.0.version.load(Ordering::Acquire))
    }

    /// Changes the value by a function that may work in place and returns the new value.
    pub(crate) fn change(&self, update: impl FnOnce(Tensor) -> Result<Tensor>) -> Result<()> {
        let value = update(self.0.var.as_detached_tensor());
        if let Ok(value) = &value
            && !takes_cpu_path(value)
        {
            self.0.var.set(value)?;
        }
        self.0.version.fetch_add(1, Ordering::Release);
        value.map(drop)
    }

    /// The value for a forward pass. It is connected to the variable only if the parameter is trainable
    /// and the mode is training, so frozen parameters record no graph. It shares the variable's memory:
    /// do not change it in place, and keep [`Param::copy`] instead, because training changes that memory.
    pub fn value(&self, mode: Mode) -> Tensor {
        if mode == Mode::Training && self.is_trainable() {
            self.0.var.as_tensor().clone()
        } else {
            self.0.var.as_detached_tensor()
        }
    }

    /// A copy of the value, which training does not change. [`Model::weights`](super::Model::weights) copies all
    /// values of a model.
    pub fn copy(&self) -> Result<Tensor> {
        Ok(self.0.var.as_detached_tensor().copy()?)
    }

    /// Replaces the value.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape differs; [`Error::Argument`] for the parameter's own memory, which
    /// [`Param::value`] returns.
    pub fn set(&self, value: &Tensor) -> Result<()> {
        if value.dims() != self.0.var.dims() {
            let expected = format!("{:?}", self.0.var.dims());
            return Err(Error::shape(format!("parameter `{}`", self.0.name), expected, value.dims(), ""));
        }
        let (dtype, device) = (self.0.var.dtype(), self.0.var.device());
        let value = value.to_dtype(dtype)?.to_device(device)?.contiguous()?;
        if address(&value) == address(&self.0.var) {
            return Err(Error::Argument {
                name: "value",
                expected: format!(
                    "a copy of parameter `{}`, made by `param.copy()?` or `model.weights()?` before the training",
                    self.0.name
                ),
                found: "the parameter's own memory, which has changed with it".into(),
            });
        }
        self.0.var.set(&value)?;
        self.0.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Replaces the value by one from a file.
    pub(crate) fn load(&self, value: &Tensor) -> Result<()> {
        self.set(value)?;
        self.0.is_loaded.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the value came from a file.
    pub(crate) fn is_loaded(&self) -> bool {
        self.0.is_loaded.load(Ordering::Relaxed)
    }

    /// Whether training changes the parameter.
    pub fn is_trainable(&self) -> bool {
        self.0.trainable.load(Ordering::Relaxed)
    }

    /// Freezes or unfreezes the parameter. Freezing a statistic also puts it in inference mode, where it
    /// stays when it is unfrozen.
    pub fn set_trainable(&self, trainable: bool) {
        self.0.trainable.store(trainable && !self.0.statistic, Ordering::Relaxed);
        if self.0.statistic && !trainable {
            self.set_inference_mode(true);
        }
    }

    /// Whether a statistic is in inference mode: used as stored, and not updated, in training too.
    pub fn is_in_inference_mode(&self) -> bool {
        self.0.in_inference_mode.load(Ordering::Relaxed)
    }

    /// Sets whether a statistic is in inference mode: used as stored, and not updated, in training too.
    pub fn set_inference_mode(&self, inference: bool) {
        self.0.in_inference_mode.store(inference, Ordering::Relaxed);
    }

    /// Whether the parameter is a moving statistic.
    pub fn is_statistic(&self) -> bool {
        self.0.statistic
    }

    /// Whether the parameter is part of an adapter, which [`Model::enable_lora`](super::Model::enable_lora) adds.
    pub(crate) fn is_adapter(&self) -> bool {
        self.0.is_adapter
    }

    /// The adapter, if there is one.
    pub(super) fn adaptation(&self) -> Option<Adapter> {
        self.0.adaptation.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_adapted(&self) -> bool {
        self.0.adaptation.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn set_adaptation(&self, adapter: Option<Adapter>) {
        *self.0.adaptation.write().unwrap_or_else(PoisonError::into_inner) = adapter;
    }

    /// Number of values.
    pub fn count(&self) -> usize {
        self.0.var.elem_count()
    }
}

/// The address of a tensor's memory.
fn address(tensor: &Tensor) -> usize {
    let (storage, _) = tensor.storage_and_layout();
    std::ptr::from_ref(&*storage) as usize
}

/// The adaptation of a matrix: `scale · B · A` is added to it.
#[derive(Clone)]
pub(super) struct Adapter {
    /// `[rank, inputs]`.
    pub(super) a: Param,
    /// `[units, rank]`.
    pub(super) b: Param,
    /// Alpha divided by the rank.
    pub(super) scale: f64,
}

/// Rank and alpha of a parameter's adapter, for a saved model.
pub(crate) type AdapterSizes = (usize, f64);

impl Adapter {
    /// The matrix with the adaptation.
    pub(super) fn adapt(&self, matrix: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok((matrix + (self.b.value(mode).matmul(&self.a.value(mode))? * self.scale)?)?)
    }

    pub(super) fn sizes(&self) -> AdapterSizes {
        let rank = self.a.variable().dims()[0];
        (rank, self.scale * rank as f64)
    }
}

impl Param {
    /// Rank and alpha of the adapter, if there is one.
    pub(crate) fn lora(&self) -> Option<AdapterSizes> {
        self.adaptation().map(|adapter| adapter.sizes())
    }

    /// The value with the adaptation, for a file.
    pub(crate) fn merged(&self) -> Result<Tensor> {
        Ok(self.adapted(Mode::Inference)?.detach())
    }

    /// The value with the adaptation, for a forward pass.
    pub(super) fn adapted(&self, mode: Mode) -> Result<Tensor> {
        let value = self.value(mode);
        match self.adaptation() {
            Some(adapter) => adapter.adapt(&value, mode),
            None => Ok(value),
        }
    }

    /// Sets the adaptation to zero, for weights from a file without adapters.
    pub(crate) fn reset_adapter(&self) -> Result<()> {
        match self.adaptation() {
            Some(adapter) => adapter.b.set(&adapter.b.variable().zeros_like()?),
            None => Ok(()),
        }
    }
}

/// The parameters of a layer, followed by those of their adapters.
pub(super) fn with_adapters(mut params: Vec<Param>) -> Vec<Param> {
    let adapters: Vec<Param> =
        params.iter().filter_map(Param::adaptation).flat_map(|adapter| [adapter.a, adapter.b]).collect();
    params.extend(adapters);
    params
}

impl fmt::Debug for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_trainable() { "trainable" } else { "frozen" };
        write!(f, "{} {:?} {state}", self.name(), self.0.var.dims())
    }
}
