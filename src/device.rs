//! Choice of the device, CPU or GPU, on which models and data are created.

use std::sync::OnceLock;

use candle_core::{Device, DeviceLocation, Tensor};

use crate::accelerator::{self, DEVICE_VARIABLE};
use crate::{Error, Result};

/// The device of this process, chosen on first use.
static DEVICE: OnceLock<Device> = OnceLock::new();

/// The device on which models and data are created: the first GPU that this build supports, else the
/// CPU. `HEADSTART_DEVICE` selects another: `cpu`, `cuda:1`, `metal`.
///
/// `HEADSTART_DEVICE=gpu` keeps tensors on the CPU and executes models on an NVIDIA GPU. CUDA's libraries are loaded
/// at run time. [`GpuPrecision`](crate::GpuPrecision) says how convolutions are computed.
///
/// The first call prints a note if a GPU is used, or if the requested device is not available. GPUs
/// need a build with the feature `cuda`, `cudnn` or `metal`: for notebooks, `headstart install --cuda`.
///
/// ```
/// # if std::env::var_os("HEADSTART_DEVICE").is_none() && !cfg!(feature = "cuda") {
/// assert!(headstart::device().is_cpu());
/// # }
/// ```
pub fn device() -> Device {
    DEVICE
        .get_or_init(|| {
            configure_allocator();
            let requested = std::env::var(DEVICE_VARIABLE).ok();
            let (device, note) = choose_device(requested.as_deref());
            if let Some(note) = note {
                crate::notes::note(format_args!("note: {note}"));
            }
            // With `HEADSTART_DEVICE=gpu`, this prints the GPU that executes models, and its precision.
            accelerator::gpu();
            device
        })
        .clone()
}

fn choose_device(requested: Option<&str>) -> (Device, Option<String>) {
    let found = match requested {
        Some(name) => parse_device(name).map_err(|reason| format!("{DEVICE_VARIABLE}={name}: {reason}")),
        None if cfg!(feature = "cuda") => cuda(0),
        None if cfg!(feature = "metal") => metal(0),
        None => return (Device::Cpu, None),
    };
    match found {
        Ok(device) if device.is_cpu() => (device, None),
        Ok(device) => {
            let note =
                format!("using device {}; set {DEVICE_VARIABLE}=cpu for the CPU", device_name(&device));
            (device, Some(note))
        }
        Err(reason) => (Device::Cpu, Some(format!("{reason}; using the CPU"))),
    }
}

fn parse_device(name: &str) -> Result<Device, String> {
    let (backend, number) = name.split_once(':').unwrap_or((name, "0"));
    match (backend, number.parse()) {
        // With `gpu`, tensors stay on the CPU, and models are executed on the GPU: see `accelerator`.
        ("cpu" | "gpu", _) => Ok(Device::Cpu),
        ("cuda", Ok(number)) => cuda(number),
        ("metal", Ok(number)) => metal(number),
        _ => Err("expected cpu, gpu, cuda:0, cuda:1, …, or metal".into()),
    }
}

fn cuda(number: usize) -> Result<Device, String> {
    if !cfg!(feature = "cuda") {
        return Err("this build has no support for NVIDIA GPUs; run `headstart install --cuda`".into());
    }
    new_cuda(number).map_err(|error| format!("found no usable NVIDIA GPU ({error}); run `headstart doctor`"))
}

/// Opens an NVIDIA GPU with one stream.
#[cfg(feature = "cuda")]
fn new_cuda(number: usize) -> candle_core::Result<Device> {
    use candle_core::cuda_backend::WrapErr;
    use candle_core::cuda_backend::cudarc::driver::{result, sys};

    use crate::device_options::Optimization;

    if !Optimization::Stream.is_on() {
        return Device::new_cuda(number);
    }
    let device = Device::new_cuda_with_stream(number)?;
    let cuda = device.as_cuda_device()?;
    // SAFETY: all operations on the device's tensors are launched to its one stream, so they run in order.
    unsafe { cuda.disable_event_tracking() };
    if Optimization::Pool.is_on() {
        // By default, a synchronisation returns freed memory to the system.
        let mut threshold = u64::MAX;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        let number = cuda.cuda_stream().context().cu_device();
        // SAFETY: the device is open, and the attribute is a `u64`, which the function reads.
        unsafe {
            // A virtual GPU, which is a part of a GPU, may have no pool.
            if let Ok(pool) = result::device::get_default_mem_pool(number) {
                sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut threshold).cast()).result().w()?;
            }
        }
    }
    Ok(device)
}

#[cfg(not(feature = "cuda"))]
fn new_cuda(number: usize) -> candle_core::Result<Device> {
    Device::new_cuda(number)
}

fn metal(number: usize) -> Result<Device, String> {
    if !cfg!(feature = "metal") {
        return Err("this build has no support for an Apple GPU; run `headstart install --metal`".into());
    }
    Device::new_metal(number).map_err(|error| format!("found no usable Apple GPU ({error})"))
}

/// The device's name, in the format of `HEADSTART_DEVICE`.
fn device_name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "cpu".into(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// Environment variable for tests: `1` sends CPU tensors through the device path.
const DEVICE_PATH_VARIABLE: &str = "HEADSTART_TEST_DEVICE_PATH";

/// Whether a tensor takes the CPU path, the operations of [`crate::ops`]. All others take the device
/// path: candle's operations, which run on any device.
pub(crate) fn takes_cpu_path(x: &Tensor) -> bool {
    device_takes_cpu_path(x.device())
}

/// Whether the tensors of a device take the CPU path.
pub(crate) fn device_takes_cpu_path(device: &Device) -> bool {
    static FORCE_DEVICE_PATH: OnceLock<bool> = OnceLock::new();
    let is_forced = || std::env::var_os(DEVICE_PATH_VARIABLE).is_some_and(|value| value == "1");
    device.is_cpu() && !*FORCE_DEVICE_PATH.get_or_init(is_forced)
}

/// Checks that a tensor is on the device of this process.
pub(crate) fn check_device(place: &str, x: &Tensor) -> Result<()> {
    let (expected, found) = (device(), x.device());
    if expected.same_device(found) {
        return Ok(());
    }
    Err(Error::Device {
        place: place.to_owned(),
        expected: device_name(&expected),
        found: device_name(found),
    })
}

/// Makes the allocator keep freed memory for the next batch. By default glibc returns each large block to
/// the system, and zeroing new pages takes a fifth of a training step.
fn configure_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` takes no pointers, and glibc locks its main arena while it sets these parameters.
    unsafe {
        // Blocks below 1 GiB come from the heap, the heap never shrinks, and it grows by 64 MiB at a time.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unavailable_device_gives_a_note_and_the_cpu() {
        assert!(choose_device(Some("cpu")).1.is_none() && choose_device(Some("gpu")).1.is_none());
        for (requested, expected) in
            [("tpu", "expected cpu, gpu, cuda:0"), ("cuda:x", "expected cpu"), ("metal", "Apple GPU")]
        {
            let (device, note) = choose_device(Some(requested));
            let note = note.unwrap();
            assert!(device.is_cpu() && note.contains(expected) && note.contains(requested), "{note}");
        }
        #[cfg(not(feature = "cuda"))]
        assert!(choose_device(Some("cuda:0")).1.unwrap().contains("headstart install --cuda"));
    }
}
