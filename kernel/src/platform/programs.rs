//! Programs that the kernel has started: compilers and shell commands of cells.

#[cfg(not(target_os = "linux"))]
use std::process::Command;

/// A running program.
struct Program {
    id: i32,
    parent: i32,
    /// Process group.
    group: i32,
    name: String,
}

/// Kills all descendants of this process, except the process of the cells and a standby.
pub fn kill_all() {
    let programs = programs();
    let own = std::process::id() as i32;
    // The system's name of this process stays the same when the program's file is replaced.
    let own_name = programs.iter().find(|program| program.id == own).map(|program| program.name.as_str());
    // Without it, the process of the cells cannot be told from other programs.
    if own_name.is_none() {
        return;
    }
    // The process of the cells and a standby lead groups of their own. A command that runs this program does not.
    let is_own = |program: &Program| Some(&*program.name) == own_name && program.group == program.id;
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
