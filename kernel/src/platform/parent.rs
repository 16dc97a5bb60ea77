//! The Jupyter server that started this kernel. A kernel must not outlive a server that was killed.

use std::time::Duration;

use crate::platform::programs;

/// The variable with the server's process number.
pub const VARIABLE: &str = "JPY_PARENT_PID";
/// How often it is looked whether the server is there, where the system does not tell of its end.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The server's process, if it is one above this process. In a container the number may be another process's.
pub fn of_this_process() -> Option<i32> {
    let server: i32 = std::env::var(VARIABLE).ok()?.parse().ok()?;
    // SAFETY: asks for a number.
    let mut process = unsafe { libc::getppid() };
    while process > 1 && process != server {
        process = programs::parent_of(process)?;
    }
    (process > 1).then_some(server)
}

/// Waits until a process has ended.
pub fn wait_for_end(process: i32) {
    #[cfg(target_os = "linux")]
    // SAFETY: makes a descriptor of our own, which is polled and closed.
    unsafe {
        let descriptor = libc::syscall(libc::SYS_pidfd_open, process, 0) as libc::c_int;
        if descriptor >= 0 {
            let mut poll = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
            while libc::poll(&raw mut poll, 1, -1) < 0 {}
            libc::close(descriptor);
            return;
        }
    }
    // SAFETY: asks whether there is such a process.
    while unsafe { libc::kill(process, 0) } == 0
        || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
    {
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Ends when the process has ended; never without one.
pub async fn ended(process: Option<i32>) {
    let Some(process) = process else { return std::future::pending().await };
    let (sender, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        wait_for_end(process);
        let _ = sender.send(());
    });
    let _ = ended.await;
}

/// Has this process killed when its parent ends, so that a killed kernel leaves nothing at work. Linux alone does so.
pub fn die_with_it() {
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
    fn the_end_of_a_process_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = child.id() as i32;
        let waiting = std::thread::spawn(move || wait_for_end(id));
        assert!(!waiting.is_finished());
        child.kill().unwrap();
        child.wait().unwrap();
        waiting.join().unwrap();
    }
}
