//! Where tensors live.

use std::sync::OnceLock;

use candle_core::Device;

static DEVICE: OnceLock<Device> = OnceLock::new();

/// The device that models and data are made on: the CPU.
///
/// ```
/// assert!(headstart::device().is_cpu());
/// ```
pub fn device() -> Device {
    DEVICE
        .get_or_init(|| {
            keep_memory();
            Device::Cpu
        })
        .clone()
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
