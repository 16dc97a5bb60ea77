//! The NVIDIA GPU on which models are executed, while their parameters stay on the CPU.

use std::sync::OnceLock;

use headstart_gpu::{Gpu, Libraries, Precision};

use crate::device::DEVICE_VARIABLE;

/// Environment variable with the precision of products on the GPU: `float32` (default) or `tf32`.
///
/// By default, results agree with the CPU's to rounding errors of float32. TensorFloat-32 rounds factors to 11
/// bits and is several times faster on Ampere GPUs and later. PyTorch uses it for convolutions by default.
const PRECISION_VARIABLE: &str = "HEADSTART_PRECISION";

/// The GPU that `HEADSTART_DEVICE=gpu` or `gpu:1` selects. `None` without the variable, and if the GPU cannot be used;
/// the first call then prints why.
///
/// Products are computed in float32. `HEADSTART_PRECISION=tf32` selects TensorFloat-32.
pub(crate) fn gpu() -> Option<&'static Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| {
        let number = gpu_number(&std::env::var(DEVICE_VARIABLE).ok()?)?;
        let opened = match number {
            Ok(number) => open(number, std::env::var(PRECISION_VARIABLE).ok().as_deref()),
            Err(reason) => Err(reason),
        };
        match opened {
            Ok(gpu) => {
                eprintln!("note: models run on {gpu:?}; set {DEVICE_VARIABLE}=cpu for the CPU");
                Some(gpu)
            }
            Err(reason) => {
                eprintln!("note: {reason}; using the CPU");
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

fn open(number: usize, precision: Option<&str>) -> Result<Gpu, String> {
    let precision = match precision {
        None | Some("float32") => Precision::Float32,
        Some("tf32") => Precision::TensorFloat32,
        Some(other) => return Err(format!("{PRECISION_VARIABLE}={other}: expected float32 or tf32")),
    };
    Gpu::open(number, &Libraries::of_system(), precision).map_err(|error| error.to_string())
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
        assert!(open(0, Some("float8")).unwrap_err().contains("expected float32 or tf32"));
    }
}
