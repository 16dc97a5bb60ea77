//! Where tensors live.

use std::sync::OnceLock;

use candle_core::{Device, DeviceLocation, Tensor};

use crate::{Error, Result};

static DEVICE: OnceLock<Device> = OnceLock::new();
/// By which a user chooses: `cpu`, `cuda:0`, `metal`.
const VARIABLE: &str = "HEADSTART_DEVICE";

/// The device that models and data are made on: the first GPU that this build can use, or else the
/// CPU. `HEADSTART_DEVICE` chooses another: `cpu`, `cuda:1`, `metal`.
///
/// The first call says what was chosen where there was a choice. A GPU takes a build with the
/// feature `cuda`, `cudnn` or `metal`: for notebooks, `headstart install --cuda`.
///
/// ```
/// # if std::env::var_os("HEADSTART_DEVICE").is_none() && !cfg!(feature = "cuda") {
/// assert!(headstart::device().is_cpu());
/// # }
/// ```
pub fn device() -> Device {
    DEVICE
        .get_or_init(|| {
            keep_memory();
            let asked = std::env::var(VARIABLE).ok();
            let (device, note) = choose(asked.as_deref());
            if let Some(note) = note {
                eprintln!("note: {note}");
            }
            device
        })
        .clone()
}

fn choose(asked: Option<&str>) -> (Device, Option<String>) {
    let found = match asked {
        Some(name) => named(name).map_err(|problem| format!("{VARIABLE}={name}: {problem}")),
        None if cfg!(feature = "cuda") => cuda(0),
        None if cfg!(feature = "metal") => metal(0),
        None => return (Device::Cpu, None),
    };
    match found {
        Ok(device) if device.is_cpu() => (device, None),
        Ok(device) => {
            let note = format!("tensors live on {}; set {VARIABLE}=cpu for the CPU", name(&device));
            (device, Some(note))
        }
        Err(problem) => (Device::Cpu, Some(format!("{problem}; tensors live on the CPU"))),
    }
}

fn named(name: &str) -> Result<Device, String> {
    let (kind, number) = name.split_once(':').unwrap_or((name, "0"));
    match (kind, number.parse()) {
        ("cpu", _) => Ok(Device::Cpu),
        ("cuda", Ok(number)) => cuda(number),
        ("metal", Ok(number)) => metal(number),
        _ => Err("expected cpu, cuda:0, cuda:1, …, or metal".into()),
    }
}

fn cuda(number: usize) -> Result<Device, String> {
    if !cfg!(feature = "cuda") {
        return Err("this build knows no NVIDIA GPU; for one, `headstart install --cuda`".into());
    }
    Device::new_cuda(number)
        .map_err(|error| format!("no NVIDIA GPU answers ({error}); see `headstart doctor`"))
}

fn metal(number: usize) -> Result<Device, String> {
    if !cfg!(feature = "metal") {
        return Err("this build knows no Apple GPU; for one, `headstart install --metal`".into());
    }
    Device::new_metal(number).map_err(|error| format!("no Apple GPU answers ({error})"))
}

/// As `HEADSTART_DEVICE` has it.
fn name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "cpu".into(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// For tests: `1` sends tensors on the CPU through the device path.
const DEVICE_PATH_VARIABLE: &str = "HEADSTART_TEST_DEVICE_PATH";

/// Whether our own operations, which are for the CPU, take this tensor. If not, it takes the device path: candle's
/// operations do the same on any device.
pub(crate) fn takes_cpu_path(x: &Tensor) -> bool {
    static TESTED: OnceLock<bool> = OnceLock::new();
    let is_tested = || std::env::var_os(DEVICE_PATH_VARIABLE).is_some_and(|value| value == "1");
    x.device().is_cpu() && !*TESTED.get_or_init(is_tested)
}

/// Refuses what lives elsewhere than the models of this program.
pub(crate) fn check_device(place: &str, x: &Tensor) -> Result<()> {
    let (expected, found) = (device(), x.device());
    if expected.same_device(found) {
        return Ok(());
    }
    Err(Error::Device { place: place.to_owned(), expected: name(&expected), found: name(found) })
}

/// Lets the allocator keep what a batch used for the next batch: glibc gives each large block back
/// to the system, which clears every page anew, at a fifth of the time of a training step.
fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets numbers of the allocator's, which may be done at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_said_and_the_cpu_taken() {
        assert!(choose(Some("cpu")).1.is_none());
        for (asked, said) in
            [("gpu", "expected cpu, cuda:0"), ("cuda:x", "expected cpu"), ("metal", "Apple GPU")]
        {
            let (device, note) = choose(Some(asked));
            let note = note.unwrap();
            assert!(device.is_cpu() && note.contains(said) && note.contains(asked), "{note}");
        }
        #[cfg(not(feature = "cuda"))]
        assert!(choose(Some("cuda:0")).1.unwrap().contains("headstart install --cuda"));
    }
}
