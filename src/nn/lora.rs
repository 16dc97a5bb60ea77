//! Low-rank adaptation of dense and attention layers (Hu et al. 2021, "LoRA").

use candle_core::Var;

use super::param::Adapter;
use super::{Initializer, Model, Param};
use crate::check::check_positive;
use crate::{Error, Result, random};

/// Settings of [`Model::enable_lora`].
#[derive(Clone, Copy, Debug)]
pub struct Lora {
    rank: usize,
    alpha: Option<f64>,
}

impl Lora {
    /// Settings with this rank: the number of columns of `B` and of rows of `A`. Common values are 4 to 16.
    pub fn new(rank: usize) -> Lora {
        Lora { rank, alpha: None }
    }

    /// Sets alpha: the adaptation is multiplied by `alpha / rank`. Default: the rank.
    pub fn alpha(self, alpha: f64) -> Lora {
        Lora { alpha: Some(alpha), ..self }
    }
}

impl Adapter {
    /// Creates an adapter for a matrix `[units, inputs]`. Its `B` is zero, so outputs do not change yet.
    fn new(name: &str, matrix: &Var, lora: Lora) -> Result<Adapter> {
        let (units, inputs) = matrix.dims2()?;
        let Lora { rank, alpha } = lora;
        if !(1..=units.min(inputs)).contains(&rank) {
            let expected = format!("1 to {}, the smaller side of `{name}`", units.min(inputs));
            return Err(Error::Argument { name: "rank", expected, found: rank.to_string() });
        }
        let alpha = alpha.unwrap_or(rank as f64);
        check_positive("alpha", alpha)?;
        let (random, device) = (&mut random::stream(), matrix.device());
        let a = Initializer::HeUniform.draw(&[rank, inputs], random, device)?;
        let b = Initializer::Zeros.draw(&[units, rank], random, device)?;
        Ok(Adapter {
            a: Param::adapter(format!("lora_{name}_a"), &a)?,
            b: Param::adapter(format!("lora_{name}_b"), &b)?,
            scale: alpha / rank as f64,
        })
    }
}

impl Param {
    /// Adds an adapter to a matrix.
    pub(crate) fn enable_lora(&self, lora: Lora) -> Result<()> {
        if self.adaptation().is_some() {
            return Err(Error::Argument {
                name: "enable_lora",
                expected: "layers without adapters; call `merge_lora` first".into(),
                found: format!("`{}` with an adapter", self.name()),
            });
        }
        self.set_adaptation(Some(Adapter::new(self.name(), self.variable(), lora)?));
        Ok(())
    }

    /// Whether [`Model::enable_lora`] can adapt the parameter: a kernel of a dense or attention layer.
    fn is_adaptable(&self) -> bool {
        let is_kernel = matches!(self.name(), "kernel" | "qkv_kernel" | "output_kernel");
        is_kernel && self.variable().dims().len() == 2
    }
}

impl Model {
    /// Freezes all weights, and adds trainable low-rank adapters to the dense and attention layers with matching
    /// names: Keras's `enable_lora`, for a whole model. A kernel `W` becomes `W + alpha / rank · B · A`. Training
    /// changes the adapters only, so the optimizer needs little memory.
    ///
    /// [`Model::save_weights`] and [`Model::export_onnx`] write the merged kernels. [`Model::save`] writes the adapters
    /// too, so that training can resume.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let base = VitTiny::new(Weights::Random(1)).include_top(false).input_shape((3, 32, 32)).build()?;
    /// base.enable_lora(Lora::new(4), |name| name.ends_with("_attention"))?;
    /// let model = sequential![&base, FirstToken, Dense::new(2).activation(Softmax)]?;
    /// assert!(model.summary().trainable < model.summary().total / 20);
    /// # // … compile, fit …
    /// model.merge_lora()?;
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if no dense or attention layer has a matching name, the rank is out of range for a kernel, or
    /// a layer has adapters already. The model is then unchanged.
    pub fn enable_lora(&self, lora: Lora, is_adapted: impl Fn(&str) -> bool) -> Result<()> {
        self.add_adapters(lora, &is_adapted)
    }

    fn add_adapters(&self, lora: Lora, is_adapted: &dyn Fn(&str) -> bool) -> Result<()> {
        let layers = self.layers();
        let adaptable = |params: Vec<Param>| params.into_iter().filter(Param::is_adaptable);
        let matching = layers.iter().filter(|(name, _)| is_adapted(name));
        let mut kernels: Vec<Param> = Vec::new();
        for kernel in matching.flat_map(|(_, layer)| adaptable(layer.params())) {
            // A layer may occur several times.
            if !kernels.iter().any(|known| known.identity() == kernel.identity()) {
                kernels.push(kernel);
            }
        }
        if kernels.is_empty() {
            let possible = layers.iter().filter(|(_, layer)| adaptable(layer.params()).next().is_some());
            let names: Vec<&str> = possible.map(|(name, _)| name.as_str()).collect();
            let expected = match names.as_slice() {
                [] => "a model with dense or attention layers".to_owned(),
                _ => format!("a name that fits one of the layers {}", names.join(", ")),
            };
            return Err(Error::Argument {
                name: "enable_lora",
                expected,
                found: "no layer that fits".into(),
            });
        }
        for (index, kernel) in kernels.iter().enumerate() {
            if let Err(error) = kernel.enable_lora(lora) {
                kernels[..index].iter().for_each(|kernel| kernel.set_adaptation(None));
                return Err(error);
            }
        }
        self.freeze();
        for adapter in kernels.iter().filter_map(Param::adaptation) {
            [adapter.a, adapter.b].iter().for_each(|param| param.set_trainable(true));
        }
        Ok(())
    }

    /// Adds the adaptations of [`Model::enable_lora`] to the kernels and removes the adapters. The outputs do not
    /// change.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the memory is too small.
    pub fn merge_lora(&self) -> Result<()> {
        for param in self.params().into_iter().filter(|param| param.adaptation().is_some()) {
            let merged = param.merged()?;
            param.set_adaptation(None);
            param.set(&merged)?;
        }
        Ok(())
    }
}
