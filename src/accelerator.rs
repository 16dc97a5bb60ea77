//! The NVIDIA GPU on which models are executed, while their parameters stay on the CPU.

use std::sync::OnceLock;

use headstart_gpu::{Gpu, Libraries, Precision};

use crate::notes::note;
use crate::{Error, Result};

/// Environment variable with the user's choice of a device: `cpu`, `gpu`, `cuda:0`, `metal`.
pub(crate) const DEVICE_VARIABLE: &str = "HEADSTART_DEVICE";
/// Environment variable with the initial [`GpuPrecision`]: `float32`, `tf32` or `bfloat16`.
const PRECISION_VARIABLE: &str = "HEADSTART_PRECISION";

/// How the convolutions of models are computed on an NVIDIA GPU (`HEADSTART_DEVICE=gpu`).
///
/// Weights and their gradients, the loss and the optimizer's state are float32 in each case, and so are fully connected
/// layers. `HEADSTART_PRECISION` selects the initial precision: `float32`, `tf32` or `bfloat16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuPrecision {
    /// Float32: results agree with those of the CPU to rounding errors. The default before compute capability 8.0.
    Float32,
    /// TensorFloat-32: factors are rounded to 11 bits. The default from compute capability 8.0 (Ampere) on, as in
    /// PyTorch.
    TensorFloat32,
    /// bfloat16: feature maps are rounded to 8 bits and take half the memory, and sums are float32. Needs compute
    /// capability 8.0.
    BFloat16,
}

impl GpuPrecision {
    /// Converts the precision of the GPU crate.
    fn of(precision: Precision) -> GpuPrecision {
        match precision {
            Precision::Float32 => GpuPrecision::Float32,
            Precision::TensorFloat32 => GpuPrecision::TensorFloat32,
            Precision::BFloat16 => GpuPrecision::BFloat16,
        }
    }

    /// Converts to the precision of the GPU crate.
    fn convolution_precision(self) -> Precision {
        match self {
            GpuPrecision::Float32 => Precision::Float32,
            GpuPrecision::TensorFloat32 => Precision::TensorFloat32,
            GpuPrecision::BFloat16 => Precision::BFloat16,
        }
    }
}

/// How convolutions are computed on the GPU. `None` unless `HEADSTART_DEVICE=gpu` selects a GPU that can be used.
///
/// ```
/// # if std::env::var_os("HEADSTART_DEVICE").is_none() {
/// assert_eq!(headstart::gpu_precision(), None);
/// # }
/// ```
pub fn gpu_precision() -> Option<GpuPrecision> {
    gpu().map(|gpu| GpuPrecision::of(gpu.precision()))
}

/// Sets how later convolutions of all models are computed on the GPU. Without `HEADSTART_DEVICE=gpu`, nothing changes: a
/// note says so unless `precision` is [`GpuPrecision::Float32`].
///
/// # Errors
/// [`Error::Argument`] if the GPU does not support the precision.
pub fn set_gpu_precision(precision: GpuPrecision) -> Result<()> {
    let Some(gpu) = gpu() else {
        if precision != GpuPrecision::Float32 {
            note(format_args!(
                "note: the precision does not change: {precision:?} needs {DEVICE_VARIABLE}=gpu"
            ));
        }
        return Ok(());
    };
    gpu.set_precision(precision.convolution_precision()).map_err(|_| Error::Argument {
        name: "precision",
        expected: format!("Float32, the only precision of {} ({})", gpu.name(), gpu.architecture()),
        found: format!("{precision:?}, which needs compute capability 8.0"),
    })
}

/// The GPU that `HEADSTART_DEVICE=gpu` or `gpu:1` selects. `None` without the variable, and if the GPU cannot be used.
/// The first call prints which GPU is used, or why none is.
pub(crate) fn gpu() -> Option<&'static Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| {
        let number = gpu_number(&std::env::var(DEVICE_VARIABLE).ok()?)?;
        let precision = std::env::var(PRECISION_VARIABLE).ok();
        match number.and_then(|number| open(number, precision.as_deref())) {
            Ok(gpu) => {
                note(format_args!("note: models run on {gpu:?}; set {DEVICE_VARIABLE}=cpu for the CPU"));
                Some(gpu)
            }
            Err(reason) => {
                note(format_args!("note: {reason}; using the CPU"));
                None
            }
        }
    })
    .as_ref()
}

/// The number in `gpu` or `gpu:1`. `None` for another kind of device.
pub(crate) fn gpu_number(device: &str) -> Option<Result<usize, String>> {
    let (kind, number) = device.split_once(':').unwrap_or((device, "0"));
    let refuse = |_| format!("{DEVICE_VARIABLE}={device}: expected gpu, gpu:0, gpu:1, …");
    (kind == "gpu").then(|| number.parse().map_err(refuse))
}

/// Opens a GPU with a precision, or with the default of the GPU. If the GPU does not support the precision, prints a
/// note and uses float32.
fn open(number: usize, precision: Option<&str>) -> Result<Gpu, String> {
    let named = |name: &str| {
        name.parse::<Precision>().map_err(|expected| format!("{PRECISION_VARIABLE}={name}: {expected}"))
    };
    let precision = precision.map(named).transpose()?;
    let gpu = Gpu::open(number, &Libraries::from_system(), Precision::Float32);
    let gpu = gpu.map_err(|error| error.to_string())?;
    if let Err(error) = gpu.set_precision(precision.unwrap_or_else(|| gpu.default_precision())) {
        note(format_args!("note: {PRECISION_VARIABLE}: {error}; using float32"));
    }
    Ok(gpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gpu_with_a_number_selects_one() {
        assert!(gpu_number("cpu").is_none() && gpu_number("cuda:0").is_none());
        assert_eq!(gpu_number("gpu"), Some(Ok(0)));
        assert_eq!(gpu_number("gpu:3"), Some(Ok(3)));
        assert!(gpu_number("gpu:x").unwrap().unwrap_err().contains("expected gpu, gpu:0"));
        assert!(open(0, Some("float8")).unwrap_err().contains("expected float32, tf32 or bfloat16"));
    }
}
