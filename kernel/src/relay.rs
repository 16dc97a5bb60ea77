//! In the process that runs the cells: stands between the cells' standard output and evcxr.
//!
//! evcxr swallows the lines by which a cell says that it panicked or that a `?` met an error, and
//! has no mark on standard error for where a cell ends. This thread passes every line on, adds
//! frames that tell both, and keeps what is not UTF-8 from ending the session.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Mutex;
use std::thread::JoinHandle;

use headstart_frame::Frame;

const ERROR: &[u8] = b"EVCXR_ERROR_OCCURRED";
const PANIC: &[u8] = b"EVCXR_PANIC_NOTIFICATION";
const COMPLETE: &[u8] = b"EVCXR_EXECUTION_COMPLETE";

static THREAD: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

/// Puts the relay in place: call it first of all in the cells' process.
pub fn start() -> std::io::Result<()> {
    die_with_the_kernel();
    let (read, write) = pipe()?;
    // SAFETY: both are this process's standard descriptors, and nothing has used them yet.
    let out = unsafe {
        let saved = libc::dup(libc::STDOUT_FILENO);
        if saved < 0 || libc::dup2(write.as_raw_fd(), libc::STDOUT_FILENO) < 0 {
            return Err(std::io::Error::last_os_error());
        }
        File::from_raw_fd(saved)
    };
    drop(write);
    let thread =
        std::thread::Builder::new().name("relay".into()).spawn(move || pass_on(File::from(read), out))?;
    *THREAD.lock().expect("nothing panics while holding it") = Some(thread);
    // SAFETY: `drain` may run at exit: it only closes a descriptor and joins a thread.
    unsafe { libc::atexit(drain) };
    Ok(())
}

fn pass_on(read: File, mut out: File) {
    let mut lines = BufReader::new(read);
    let mut line = Vec::new();
    // The first cell is evcxr's own, to which nobody listens: evcxr waits until what it prints is read.
    let mut heard = false;
    while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let mut passed = Vec::with_capacity(line.len() + 32);
        match text {
            ERROR | PANIC => passed.extend(frame_line(&Frame::Failed)),
            COMPLETE => {
                let end = frame_line(&Frame::End);
                // Before the line that lets evcxr go on, so that nothing of this cell comes later.
                let _ = std::io::stderr().write_all(&end);
                if heard {
                    passed.extend(end);
                }
                heard = true;
            }
            _ => {}
        }
        passed.extend(String::from_utf8_lossy(text).bytes());
        passed.push(b'\n');
        if out.write_all(&passed).is_err() {
            return;
        }
        line.clear();
    }
}

fn frame_line(frame: &Frame) -> Vec<u8> {
    format!("{}\n", frame.encode()).into_bytes()
}

/// At exit: everything printed goes out before the process ends.
extern "C" fn drain() {
    // SAFETY: standard output is not used after this.
    unsafe { libc::close(libc::STDOUT_FILENO) };
    if let Some(thread) = THREAD.lock().ok().and_then(|mut thread| thread.take()) {
        let _ = thread.join();
    }
}

fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = std::io::pipe()?;
    Ok((read.into(), write.into()))
}

/// A kernel that is killed takes the cells with it.
fn die_with_the_kernel() {
    #[cfg(target_os = "linux")]
    // SAFETY: sets a flag of this process.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}
