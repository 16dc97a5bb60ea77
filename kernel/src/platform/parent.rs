//! The Jupyter server that started this kernel. A kernel must not outlive a server that was killed.

use std::time::Duration;

use crate::platform::programs;

/// Environment variable with the server's process id.
pub const VARIABLE: &str = "JPY_PARENT_PID";
/// Poll interval for the server's end on systems without notification (1 s).
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Process id of the server, if it is an ancestor of this process. In a container, the id may belong to
/// another process.
pub fn jupyter_server() -> Option<i32> {
    let server: i32 = std::env::var(VARIABLE).ok()?.parse().ok()?;
    // SAFETY: only reads a process id.
    let mut process = unsafe { libc::getppid() };
    while process > 1 && process != server {
        process = programs::parent_of(process)?;
    }
    (process > 1).then_some(server)
}

/// Waits until a process has ended.
pub fn wait_for_end(process: i32) {
    #[cfg(target_os = "linux")]
    // SAFETY: creates a descriptor, polls and closes it.
    unsafe {
        let descriptor = libc::syscall(libc::SYS_pidfd_open, process, 0) as libc::c_int;
        if descriptor >= 0 {
            let mut poll = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
            while libc::poll(&raw mut poll, 1, -1) < 0 {}
            libc::close(descriptor);
            return;
        }
    }
    // SAFETY: signal 0 only checks whether the process exists.
    while unsafe { libc::kill(process, 0) } == 0
        || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
    {
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Waits until the process has ended; forever for `None`.
pub async fn ended(process: Option<i32>) {
    let Some(process) = process else { return std::future::pending().await };
    let (sender, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        wait_for_end(process);
        let _ = sender.send(());
    });
    let _ = ended.await;
}

/// Kills this process when its parent ends, so that a killed kernel leaves no process behind. Only on
/// Linux.
pub fn die_with_parent() {
    #[cfg(target_os = "linux")]
    // SAFETY: sets a flag of this process.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_is_detected() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = child.id() as i32;
        let waiting = std::thread::spawn(move || wait_for_end(id));
        assert!(!waiting.is_finished());
        child.kill().unwrap();
        child.wait().unwrap();
        waiting.join().unwrap();
    }
}
