//! Start of a standby after a kernel has been idle for a while.

use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use crate::jupyter::kernel::Kernel;
use crate::jupyter::origin::Origin;
use crate::platform::parent;

/// Idle time after which a kernel starts a standby (5 s).
const IDLE_TIME: Duration = Duration::from_secs(5);
/// Interval at which a kernel checks whether it is idle (1 s).
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum free memory for the start of a standby, in bytes. A standby takes an eighth of it; training may
/// need the rest.
const MIN_FREE_MEMORY: u64 = 1 << 30;

/// Starts a standby for the next kernel when this one has been idle for a while.
pub async fn start_standby(kernel: Arc<Kernel>, origin: Origin) {
    if origin.stay().is_none() || !kernel.engine.loaded().await {
        return;
    }
    let mut idle = Duration::ZERO;
    while idle < IDLE_TIME {
        tokio::time::sleep(POLL_INTERVAL).await;
        idle = if kernel.engine.is_busy() { Duration::ZERO } else { idle + POLL_INTERVAL };
    }
    let Ok(program) = std::env::current_exe() else { return };
    if free_memory().is_some_and(|free| free < MIN_FREE_MEMORY) {
        return;
    }
    let mut command = origin.command(program);
    command.envs(origin.server.map(|server| (parent::VARIABLE, server.to_string())));
    command.arg("standby").args(origin.backend.feature().map(|feature| format!("--{feature}")));
    // Signals to this kernel's process group must not reach the standby, and it must not keep a pipe of
    // this process open.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut standby) = command.spawn() else { return };
    // The standby detects the end of this process by the end of its standard input.
    let _input = standby.stdin.take();
    let _ = tokio::task::spawn_blocking(move || standby.wait()).await;
}

#[cfg(target_os = "linux")]
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

#[cfg(not(target_os = "linux"))]
fn free_memory() -> Option<u64> {
    None
}
