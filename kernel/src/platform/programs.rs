//! Programs that the kernel has started: compilers and shell commands of cells.

use std::io;
use std::path::{Path, PathBuf};
#[cfg(not(target_os = "linux"))]
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};

/// Size of the stack on which cells run, in bytes (64 MiB). A large array is on it several times, while it is moved to the
/// other variables or from them. Linux keeps more room free below each stack.
const STACK_BYTES: libc::rlim_t = 64 << 20;

/// A running program.
struct Program {
    id: i32,
    parent: i32,
    /// Process group.
    group: i32,
    name: String,
}

/// Process of the running command of a cell; 0 if none runs.
static COMMAND: AtomicI32 = AtomicI32::new(0);

/// Records the process of a cell's command while `wait` waits for it.
pub fn during_command<T>(process: u32, wait: impl FnOnce() -> T) -> T {
    COMMAND.store(process as i32, Ordering::SeqCst);
    let ended = wait();
    COMMAND.store(0, Ordering::SeqCst);
    ended
}

/// Kills all descendants of this process, except the process of the cells and a standby.
pub fn kill_all() {
    let programs = programs();
    let own = std::process::id() as i32;
    // The system's name of this process stays the same when the program's file is replaced.
    let own_name = programs.iter().find(|program| program.id == own).map(|program| program.name.as_str());
    // Without it, the process of the cells cannot be distinguished from other programs.
    if own_name.is_none() {
        return;
    }
    // The process of the cells and a standby lead groups of their own, like a command that runs this program.
    let command = COMMAND.load(Ordering::SeqCst);
    let is_own = |program: &Program| {
        Some(&*program.name) == own_name && program.group == program.id && program.id != command
    };
    let begun = programs.iter().filter(|program| program.parent == own && !is_own(program));
    let mut found: Vec<i32> = begun.map(|program| program.id).collect();
    let mut at = 0;
    while let Some(above) = found.get(at).copied() {
        found.extend(programs.iter().filter(|program| program.parent == above).map(|program| program.id));
        at += 1;
    }
    for id in found {
        // SAFETY: kills a descendant of this process.
        unsafe { libc::kill(id, libc::SIGKILL) };
    }
}

/// Creates a link in a folder, by which this program can be started as long as this process lives, also after its file
/// was moved, replaced or deleted.
#[cfg(target_os = "linux")]
pub fn link_to_self(folder: &Path) -> io::Result<PathBuf> {
    // The process that is started by the link gets its name, by which [`kill_all`] recognises it.
    let name = std::fs::read_to_string("/proc/self/comm")?;
    let link = folder.join(name.trim_end_matches('\n'));
    std::os::unix::fs::symlink(format!("/proc/{}/exe", std::process::id()), &link)?;
    std::fs::File::open(&link).map(|_| link)
}

#[cfg(not(target_os = "linux"))]
pub fn link_to_self(_folder: &Path) -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Makes this process the leader of a new process group, to which all programs that it starts belong.
pub fn lead_group() {
    // SAFETY: changes only this process.
    unsafe {
        libc::setpgid(0, 0);
        // In a terminal, the group is in the background: a program that reads from the terminal gets an error, and
        // does not stop for ever.
        libc::signal(libc::SIGTTIN, libc::SIG_IGN);
        libc::signal(libc::SIGTTOU, libc::SIG_IGN);
    }
}

/// Raises the limit of the main thread's stack to [`STACK_BYTES`], if the system allows it. On Linux, the stack grows when
/// it is used, up to the present limit.
pub fn raise_stack_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads and writes a limit of this process.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_STACK, &raw mut limit) == 0 && limit.rlim_cur < STACK_BYTES {
            limit.rlim_cur = STACK_BYTES.min(limit.rlim_max);
            libc::setrlimit(libc::RLIMIT_STACK, &raw const limit);
        }
    }
}

/// Whether this process leads a group.
pub fn leads_group() -> bool {
    // SAFETY: only reads ids.
    unsafe { libc::getpgrp() == libc::getpid() }
}

/// Sends a signal to a process and its group.
pub fn signal_group(leader: i32, signal: i32) {
    // SAFETY: signals a descendant of this process, and what it has started.
    unsafe {
        if libc::kill(-leader, signal) < 0 {
            // It has not created its group yet.
            libc::kill(leader, signal);
        }
    }
}

/// Whether a process group has processes.
pub fn has_group(leader: i32) -> bool {
    // SAFETY: signal 0 only checks whether the group exists.
    unsafe { libc::kill(-leader, 0) == 0 }
}

/// Kills the processes that remain of the group of an ended process.
pub fn kill_rest_of_group(leader: i32) {
    // SAFETY: signals only what a descendant of this process has started.
    unsafe { libc::kill(-leader, libc::SIGKILL) };
}

#[cfg(target_os = "linux")]
fn programs() -> Vec<Program> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| program(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Reads the program of a process.
#[cfg(target_os = "linux")]
fn program(id: i32) -> Option<Program> {
    // Format: id, (name), state, parent, group. The name may contain any characters.
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
    let mut numbers = rest.split_whitespace().skip(1).map_while(|number| number.parse().ok());
    Some(Program { id, parent: numbers.next()?, group: numbers.next()?, name: name.to_owned() })
}

/// Process id of the parent; only known on Linux.
#[cfg(target_os = "linux")]
pub fn parent_of(id: i32) -> Option<i32> {
    Some(program(id)?.parent)
}

#[cfg(not(target_os = "linux"))]
pub fn parent_of(_id: i32) -> Option<i32> {
    None
}

#[cfg(not(target_os = "linux"))]
fn programs() -> Vec<Program> {
    let listed = Command::new("ps").args(["-A", "-o", "pid=,ppid=,pgid=,comm="]).output();
    let text = listed.map(|listed| String::from_utf8_lossy(&listed.stdout).into_owned()).unwrap_or_default();
    let program = |line: &str| {
        let mut parts = line.split_whitespace();
        let mut number = || parts.next()?.parse().ok();
        let (id, parent, group) = (number()?, number()?, number()?);
        let path = parts.collect::<Vec<_>>().join(" ");
        Some(Program { id, parent, group, name: path.rsplit('/').next()?.to_owned() })
    };
    text.lines().filter_map(program).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_stack_limit_is_raised_and_never_lowered() {
        raise_stack_limit();
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: reads a limit of this process.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_STACK, &raw mut limit) }, 0);
        assert!(limit.rlim_cur >= STACK_BYTES.min(limit.rlim_max));
    }

    #[test]
    fn a_link_to_this_program_has_the_name_of_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let link = link_to_self(folder.path()).unwrap();
        let own = program(std::process::id() as i32).unwrap();
        assert_eq!(link.file_name().unwrap().to_str(), Some(own.name.as_str()));
        assert_eq!(link.canonicalize().unwrap(), std::env::current_exe().unwrap().canonicalize().unwrap());
        assert!(link_to_self(folder.path()).is_err(), "no file is overwritten");
    }
}
