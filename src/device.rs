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
    DEVICE.get_or_init(|| Device::Cpu).clone()
}
