//! In the process that runs the cells: stands between what they print and evcxr.
//!
//! evcxr takes whole lines only, swallows those by which a cell says that it panicked or that a
//! `?` met an error, and has no mark on standard error for where a cell ends. The threads here
//! pass every line on, let out a line that is not yet whole after a moment, add frames that tell
//! how a cell ended, and keep what is not UTF-8 from ending the session.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use headstart_frame::{CELL_IS_OVER, Frame, LIBRARY_VARIABLE, MARK};

const ERROR: &str = "EVCXR_ERROR_OCCURRED";
const PANIC: &str = "EVCXR_PANIC_NOTIFICATION";
const COMPLETE: &str = "EVCXR_EXECUTION_COMPLETE";
const CONTENT_BEGINS: &str = "EVCXR_BEGIN_CONTENT ";
const CONTENT_ENDS: &str = "EVCXR_END_CONTENT";
/// How the lines begin that are no text of the user's.
const MARKERS: [&str; 2] = ["EVCXR_", MARK];
/// Text waits this long for the rest of its line, in milliseconds.
const PATIENCE: i32 = 40;
/// How often a thread with nothing to do looks whether the process is ending, in milliseconds.
const IDLE: i32 = 200;

/// The process is ending. A program that a cell started may keep a pipe open beyond that.
static ENDING: AtomicBool = AtomicBool::new(false);

static THREADS: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// Puts the relay in place: call it first of all in the cells' process.
pub fn start() -> std::io::Result<()> {
    die_with_the_parent();
    let streams = [("out", libc::STDOUT_FILENO), ("err", libc::STDERR_FILENO)];
    for (name, descriptor) in streams {
        let (read, out) = intercept(descriptor)?;
        let mut stream = Stream { out, is_stdout: name == "out", inside_content: false, cells: 0 };
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || stream.pass_on(read))?;
        THREADS.lock().expect("nothing panics while holding it").push(thread);
    }
    // SAFETY: `drain` may run at exit: it only closes descriptors and joins threads.
    unsafe { libc::atexit(drain) };
    Ok(())
}

/// Puts a pipe in the place of a descriptor: its end to read, and what the descriptor was.
fn intercept(descriptor: RawFd) -> std::io::Result<(File, File)> {
    let (read, write) = std::io::pipe()?;
    // SAFETY: it is one of this process's standard descriptors, and nothing has used it yet.
    unsafe {
        let saved = libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 3);
        if saved < 0 || libc::dup2(write.as_raw_fd(), descriptor) < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok((File::from(std::os::fd::OwnedFd::from(read)), File::from_raw_fd(saved)))
    }
}

struct Stream {
    out: File,
    is_stdout: bool,
    /// Between the lines that enclose a value to show.
    inside_content: bool,
    cells: usize,
}

impl Stream {
    fn pass_on(&mut self, mut read: File) {
        let mut pending = Vec::new();
        loop {
            let is_text = self.is_text(&pending);
            if !is_ready(&read, if is_text { PATIENCE } else { IDLE }) {
                if is_text && self.send(&Frame::Text { text: take_text(&mut pending) }).is_err() {
                    return;
                }
                if ENDING.load(Ordering::SeqCst) {
                    break;
                }
                continue;
            }
            let mut chunk = [0; 1 << 16];
            match read.read(&mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(length) => pending.extend_from_slice(&chunk[..length]),
            }
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let rest = pending.split_off(end + 1);
                let line = std::mem::replace(&mut pending, rest);
                let line = String::from_utf8_lossy(&line[..end]).into_owned();
                if self.line(&line, &read).is_err() {
                    return;
                }
            }
        }
        let text = String::from_utf8_lossy(&pending).into_owned();
        if !text.is_empty() {
            let _ = self.send(&Frame::Text { text });
        }
    }

    /// Whether this, the beginning of a line, may be shown before the line is whole.
    fn is_text(&self, pending: &[u8]) -> bool {
        let may_be = |marker: &str| {
            let length = marker.len().min(pending.len());
            pending[..length] == marker.as_bytes()[..length]
        };
        !pending.is_empty() && !self.inside_content && !MARKERS.into_iter().any(may_be)
    }

    fn line(&mut self, line: &str, read: &File) -> std::io::Result<()> {
        // Text without a line feed stands before a marker on its line.
        let marker = MARKERS.into_iter().filter_map(|marker| line.find(marker)).min();
        let (text, line) = match marker {
            Some(at) if !self.inside_content && is_evcxrs(&line[at..]) => line.split_at(at),
            _ => ("", line),
        };
        if !text.is_empty() {
            self.send(&Frame::Text { text: text.to_owned() })?;
        }
        match line {
            _ if !self.is_stdout => {}
            ERROR | PANIC => self.send(&Frame::Failed)?,
            COMPLETE => {
                self.cell_is_over(read)?;
                let end = format!("{}\n", Frame::End.encode());
                // Before the line that lets evcxr go on, so that nothing of this cell comes later.
                let _ = std::io::stderr().write_all(end.as_bytes());
                // The first cell is evcxr's own, to which nobody listens: evcxr waits until what
                // it prints is read.
                if self.cells > 0 {
                    self.out.write_all(end.as_bytes())?;
                }
                self.cells += 1;
            }
            CONTENT_ENDS => self.inside_content = false,
            _ if line.starts_with(CONTENT_BEGINS) => self.inside_content = true,
            _ => {}
        }
        self.write(line)
    }

    /// Lets the prelude know, and passes on what it then lets out.
    fn cell_is_over(&mut self, read: &File) -> std::io::Result<()> {
        let Some(tell) = prelude_function() else { return Ok(()) };
        tell();
        let mut last = Vec::new();
        while is_ready(read, 0) {
            let mut chunk = [0; 4096];
            match (&*read).read(&mut chunk)? {
                0 => break,
                length => last.extend_from_slice(&chunk[..length]),
            }
        }
        match last.is_empty() {
            true => Ok(()),
            false => self.send(&Frame::Text { text: String::from_utf8_lossy(&last).into_owned() }),
        }
    }

    fn send(&mut self, frame: &Frame) -> std::io::Result<()> {
        self.write(&frame.encode())
    }

    fn write(&mut self, line: &str) -> std::io::Result<()> {
        self.out.write_all(format!("{line}\n").as_bytes())
    }
}

fn is_evcxrs(line: &str) -> bool {
    [ERROR, PANIC, COMPLETE].contains(&line) || line.starts_with(CONTENT_BEGINS) || line.starts_with(MARK)
}

/// Whole characters only; the beginning of one waits for its rest.
fn take_text(pending: &mut Vec<u8>) -> String {
    let whole = match std::str::from_utf8(pending) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => pending.len(),
    };
    let rest = pending.split_off(whole);
    String::from_utf8_lossy(&std::mem::replace(pending, rest)).into_owned()
}

/// Whether there is something to read, or the end, within so many milliseconds.
fn is_ready(file: &File, milliseconds: i32) -> bool {
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: one descriptor, which is open.
        match unsafe { libc::poll(&mut poll, 1, milliseconds) } {
            -1 if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
            ready => return ready != 0,
        }
    }
}

/// The prelude's function for the end of a cell, if a cell has loaded the prelude.
fn prelude_function() -> Option<extern "C" fn()> {
    let library = CString::new(std::env::var(LIBRARY_VARIABLE).ok()?).ok()?;
    // SAFETY: nothing is loaded that was not; the symbol is a function of this type.
    unsafe {
        let handle = libc::dlopen(library.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY);
        if handle.is_null() {
            return None;
        }
        let function = libc::dlsym(handle, CELL_IS_OVER.as_ptr());
        (!function.is_null()).then(|| std::mem::transmute::<*mut libc::c_void, extern "C" fn()>(function))
    }
}

/// At exit: everything printed goes out before the process ends.
extern "C" fn drain() {
    ENDING.store(true, Ordering::SeqCst);
    // SAFETY: nothing is printed after this.
    unsafe {
        libc::close(libc::STDOUT_FILENO);
        libc::close(libc::STDERR_FILENO);
    }
    for thread in THREADS.lock().map(|mut threads| std::mem::take(&mut *threads)).into_iter().flatten() {
        let _ = thread.join();
    }
}

/// A kernel that is killed takes the cells with it, and they what works for them.
pub fn die_with_the_parent() {
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
    fn a_character_is_never_torn() {
        let mut pending = "aé".as_bytes()[..2].to_vec();
        assert_eq!(take_text(&mut pending), "a");
        pending.push("é".as_bytes()[1]);
        assert_eq!(take_text(&mut pending), "é");
        let mut no_text = vec![0xff, b'x'];
        assert_eq!(take_text(&mut no_text), "\u{fffd}x");
    }
}
