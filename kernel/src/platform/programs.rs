//! Programs that the kernel has started: compilers and shell commands of cells.

#[cfg(not(target_os = "linux"))]
use std::process::Command;

/// A running program.
struct Program {
    id: i32,
    parent: i32,
    name: String,
}

/// Kills all descendants of this process, except the process of the cells and a standby.
pub fn kill_all() {
    let programs = programs();
    let own = std::process::id() as i32;
    let own_name = std::env::current_exe().ok();
    let own_name = own_name.as_deref().and_then(std::path::Path::file_name).unwrap_or_default();
    let own_name = own_name.to_string_lossy().into_owned();
    // Linux truncates names to 15 bytes.
    let is_own =
        |name: &str| !name.is_empty() && (own_name == name || name.len() >= 15 && own_name.starts_with(name));
    let begun = programs.iter().filter(|program| program.parent == own && !is_own(&program.name));
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

#[cfg(target_os = "linux")]
fn programs() -> Vec<Program> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| program(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Reads the program of a process.
#[cfg(target_os = "linux")]
fn program(id: i32) -> Option<Program> {
    // Format: id, (name), state, parent. The name may contain any characters.
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
    let parent = rest.split_whitespace().nth(1)?.parse().ok()?;
    Some(Program { id, parent, name: name.to_owned() })
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
    let listed = Command::new("ps").args(["-A", "-o", "pid=,ppid=,comm="]).output();
    let text = listed.map(|listed| String::from_utf8_lossy(&listed.stdout).into_owned()).unwrap_or_default();
    let program = |line: &str| {
        let mut parts = line.split_whitespace();
        let (id, parent) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let path = parts.collect::<Vec<_>>().join(" ");
        Some(Program { id, parent, name: path.rsplit('/').next()?.to_owned() })
    };
    text.lines().filter_map(program).collect()
}
