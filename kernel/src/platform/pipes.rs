//! The pipes between the kernel and the process that runs the cells.
//!
//! evcxr reads that process's output only while a cell runs, line by line. So the process writes to
//! separate pipes, which the kernel always reads. A full pipe slows the cell down, and all buffers are
//! limited.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Environment variable with the numbers of the descriptors that the process inherits.
pub const VARIABLE: &str = "HEADSTART_PIPES";

/// The kernel's ends of the pipes, and the ends that each process of cells inherits.
#[derive(Debug)]
pub struct Pipes {
    /// The cells' standard output and standard error.
    pub out: File,
    pub err: File,
    /// Notes of the process about its cells: [`BEGINS`] and [`IS_OVER`].
    pub notes: File,
    /// Replies to [`IS_OVER`].
    pub replies: File,
    /// Answers to input requests.
    pub answers: File,
    /// Messages of the client to comms.
    pub comms: File,
    inherited: [OwnedFd; 6],
}

/// Note: a cell's code starts to run.
pub const BEGINS: &str = "begins";
/// Note: a cell's code has ended. The process waits for the lines that evcxr shall read, and for [`END`].
pub const IS_OVER: &str = "is over";
/// Notes: callbacks of widgets start to run, and have ended.
pub const CALLBACKS_BEGIN: &str = "callbacks begin";
pub const CALLBACKS_END: &str = "callbacks end";
/// Last line of a reply.
pub const END: &str = "end";

impl Pipes {
    pub fn new() -> io::Result<Pipes> {
        let [(out, out_write), (err, err_write), (notes, notes_write)] =
            [io::pipe()?, io::pipe()?, io::pipe()?];
        let [(replies_read, replies), (answers_read, answers), (comms_read, comms)] =
            [io::pipe()?, io::pipe()?, io::pipe()?];
        let inherited = [
            out_write.into(),
            err_write.into(),
            notes_write.into(),
            replies_read.into(),
            answers_read.into(),
            OwnedFd::from(comms_read),
        ];
        for descriptor in &inherited {
            // SAFETY: the descriptor is open. Programs that this process starts inherit it from now on.
            if unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let file = |end: OwnedFd| File::from(end);
        Ok(Pipes {
            out: file(out.into()),
            err: file(err.into()),
            notes: file(notes.into()),
            replies: file(replies.into()),
            answers: file(answers.into()),
            comms: file(comms.into()),
            inherited,
        })
    }

    /// Value of the environment variable [`VARIABLE`].
    pub fn variable(&self) -> String {
        self.inherited.each_ref().map(|end| end.as_raw_fd().to_string()).join(",")
    }

    /// Standard output and standard error for a program whose output belongs to a cell.
    pub fn outputs(&self) -> io::Result<[OwnedFd; 2]> {
        Ok([self.inherited[0].try_clone()?, self.inherited[1].try_clone()?])
    }

    /// Discards unread data of a process that has ended, in both directions.
    pub fn clear(&self) -> io::Result<()> {
        read_available(&self.notes)?;
        for end in &self.inherited[3..] {
            read_available(&File::from(end.try_clone()?))?;
        }
        Ok(())
    }
}

/// Descriptors that the process of cells inherited: output, errors, notes, replies, answers, comms.
pub fn inherited(variable: &str) -> Option<[OwnedFd; 6]> {
    let numbers: Vec<RawFd> = variable.split(',').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let numbers: [RawFd; 6] = numbers.try_into().ok()?;
    // SAFETY: the kernel opened them for this process, and nothing else here uses them.
    Some(numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }))
}

/// Reads the bytes that a pipe contains now, without blocking.
pub fn read_available(mut pipe: &File) -> io::Result<Vec<u8>> {
    let mut length: libc::c_int = 0;
    // SAFETY: writes one `int`.
    if unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    pipe.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_pipe_is_read_without_waiting() {
        let pipes = Pipes::new().unwrap();
        assert_eq!(read_available(&pipes.out).unwrap(), b"");
        let [out, _] = pipes.outputs().unwrap();
        File::from(out).write_all(b"abc").unwrap();
        assert_eq!(read_available(&pipes.out).unwrap(), b"abc");
        (&pipes.answers).write_all(b"late\n").unwrap();
        pipes.clear().unwrap();
        assert_eq!(read_available(&File::from(pipes.inherited[4].try_clone().unwrap())).unwrap(), b"");
        assert_eq!(pipes.variable().split(',').count(), 6);
    }
}
