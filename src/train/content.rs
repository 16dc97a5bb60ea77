//! Content keys: the SHA-256 hash of everything that determines features.

use sha2::{Digest, Sha256};

use crate::data::Samples;
use crate::device::device_takes_cpu_path;
use crate::files::little_endian;
use crate::nn::Model;
use crate::{Error, GpuPrecision, Result, check_interrupt, device, gpu_precision};

/// The hash of a sequence of named parts. Each part is preceded by its name and its length, so that no two
/// sequences give the same bytes.
pub(super) struct ContentKey(Sha256);

impl ContentKey {
    /// Starts a key for features of this version of the library on this device.
    pub(super) fn new() -> ContentKey {
        ContentKey::with_precision(gpu_precision())
    }

    /// `precision` is that of a GPU that executes models, although their tensors are on the CPU.
    fn with_precision(precision: Option<GpuPrecision>) -> ContentKey {
        let mut key = ContentKey(Sha256::new());
        key.add("version", env!("CARGO_PKG_VERSION").as_bytes());
        let location = format!("{:?}, {}", device().location(), device_takes_cpu_path(&device()));
        key.add("device", location.as_bytes());
        if let Some(precision) = precision {
            key.add("precision of the GPU", format!("{precision:?}").as_bytes());
        }
        key
    }

    pub(super) fn add(&mut self, name: &str, content: &[u8]) {
        for part in [name.as_bytes(), content] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    /// Adds a model: its layers, its preprocessing and its weights.
    ///
    /// # Errors
    /// [`Error::Argument`] if the model has a custom layer, whose function has no description.
    pub(super) fn add_model(&mut self, model: &Model) -> Result<()> {
        let description = serde_json::to_vec(&model.describe()?);
        self.add("model", &description.map_err(|error| Error::io("the model's description")(error.into()))?);
        for (name, param) in model.named_params() {
            check_interrupt()?;
            let values = param.variable().as_detached_tensor().flatten_all()?;
            self.add(&name, &little_endian(&values.to_dtype(candle_core::DType::F32)?.to_vec1()?));
        }
        Ok(())
    }

    /// Adds the inputs of samples: the values of tensors, or the content of image files and how they are decoded.
    pub(super) fn add_inputs(&mut self, samples: &Samples) -> Result<()> {
        samples.visit_content(&mut |name, content| {
            self.add(name, content);
            check_interrupt()
        })
    }

    /// The key as 64 hexadecimal digits.
    pub(super) fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_of_the_cpu_and_of_each_precision_of_a_gpu_are_separate() {
        use GpuPrecision::{BFloat16, Float32, TensorFloat32};

        let precisions = [None, Some(Float32), Some(TensorFloat32), Some(BFloat16)];
        let keys = precisions.map(|precision| ContentKey::with_precision(precision).finish());
        assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    }

    #[test]
    fn parts_with_the_same_joined_bytes_have_different_keys() {
        let key = |parts: &[(&str, &str)]| {
            let mut key = ContentKey::new();
            parts.iter().for_each(|(name, content)| key.add(name, content.as_bytes()));
            key.finish()
        };
        assert_eq!(key(&[("a", "bc")]).len(), 64);
        assert_eq!(key(&[("a", "bc")]), key(&[("a", "bc")]));
        for other in [&[("ab", "c")][..], &[("a", "b"), ("", "c")], &[("a", "bd")], &[]] {
            assert_ne!(key(&[("a", "bc")]), key(other), "{other:?}");
        }
    }
}
