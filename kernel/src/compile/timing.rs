//! The report of a cell's phase times for `:timing`.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::compile::evcxr_text::commands::EXECUTION_PHASE;
use crate::compile::evcxr_text::source::FILE;

/// Symbolic link to this program in a session's folder, for use as the linker.
const LINKER: &str = "headstart-cc";
/// File that is written when the linker starts.
const LINKING: &str = "linking";

/// Formats the report as one line: the total time, then its parts.
///
/// The phases are derived from file times in the folder where the cell is compiled. When evcxr writes the
/// generated source, rust-analyzer ends and cargo starts. The linker writes a file when it starts, and the
/// library when it ends.
pub fn line(whole: Duration, phases: &[(String, Duration)], begin: SystemTime, folder: &Path) -> String {
    let (ran, tries): (Vec<_>, Vec<_>) = phases.iter().partition(|(name, _)| name == EXECUTION_PHASE);
    let ran: Duration = ran.iter().map(|(_, time)| *time).sum();
    let before = whole.saturating_sub(ran);
    let written = modified(&folder.join(FILE));
    let analysed = written.and_then(|time| time.duration_since(begin).ok()).filter(|_| tries.len() == 1);
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    let compiled = match (analysed, tries.len()) {
        (Some(analysed), _) => {
            let rest = before.saturating_sub(analysed);
            match written.and_then(|written| linked(folder, written)) {
                Some(linked) => format!(
                    "rust-analyzer {}, cargo and rustc {}, linker {}",
                    seconds(analysed),
                    seconds(rest.saturating_sub(linked)),
                    seconds(linked)
                ),
                None => {
                    format!("rust-analyzer {}, cargo, rustc and linker {}", seconds(analysed), seconds(rest))
                }
            }
        }
        (None, tries) => format!("compiling {}, in {tries} tries", seconds(before)),
    };
    format!("{}: {compiled}, running {}\n", seconds(whole), seconds(ran))
}

/// Time that the linker took, if it started after `after`.
fn linked(folder: &Path, after: SystemTime) -> Option<Duration> {
    let begin = modified(&folder.join(LINKING)).filter(|begin| *begin > after)?;
    let files =
        |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let builds = files(&folder.join("target")).map(|triple| triple.join("debug"));
    let libraries = builds.flat_map(|build| files(&build).collect::<Vec<_>>());
    let libraries = libraries.filter(|file| {
        file.extension().is_some_and(|extension| extension == std::env::consts::DLL_EXTENSION)
    });
    libraries.filter_map(|file| modified(&file)).max()?.duration_since(begin).ok()
}

/// Switches timing of the linker on or off. While it is on, rustc calls this program in place of the
/// linker.
pub fn toggle(folder: &Path) {
    let link = folder.join(LINKER);
    // Without the link, the linker's time counts as rustc's.
    let _ = match link.exists() {
        true => std::fs::remove_file(link),
        false => std::env::current_exe().and_then(|program| std::os::unix::fs::symlink(program, link)),
    };
}

/// Program that rustc calls as its linker in a session's folder, if the linker is timed.
pub fn linker(folder: &Path) -> Option<PathBuf> {
    Some(folder.join(LINKER)).filter(|link| link.exists())
}

/// If rustc called this program as its linker, records the time and replaces the process by the real
/// linker.
pub fn hook() {
    let mut arguments = std::env::args_os();
    let called = PathBuf::from(arguments.next().unwrap_or_default());
    if called.file_name().is_some_and(|name| name == LINKER) {
        let _ = std::fs::write(called.with_file_name(LINKING), "");
        let error = Command::new("cc").args(arguments).exec();
        eprintln!("cc: {error}");
        std::process::exit(1);
    }
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|file| file.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_add_up_to_the_total() {
        let folder = tempfile::tempdir().unwrap();
        let begin = SystemTime::now() - Duration::from_secs(60);
        let file = |name: &str, milliseconds: u64| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = std::fs::File::create(path).unwrap();
            file.set_modified(begin + Duration::from_millis(milliseconds)).unwrap();
        };
        let phases = |names: &[&str]| -> Vec<(String, Duration)> {
            names.iter().map(|name| (name.to_string(), Duration::from_millis(400))).collect()
        };
        let report = |names: &[&str]| line(Duration::from_millis(800), &phases(names), begin, folder.path());
        file("src/lib.rs", 100);
        assert_eq!(
            report(&["Final compile", EXECUTION_PHASE]),
            "0.80 s: rust-analyzer 0.10 s, cargo, rustc and linker 0.30 s, running 0.40 s\n"
        );
        file("target/x86/debug/libcode_1.so", 350);
        file(LINKING, 50);
        assert!(
            report(&["Final compile", EXECUTION_PHASE]).contains("cargo, rustc and linker 0.30 s"),
            "another cell's"
        );
        file(LINKING, 330);
        assert_eq!(
            report(&["Final compile", EXECUTION_PHASE]),
            "0.80 s: rust-analyzer 0.10 s, cargo and rustc 0.28 s, linker 0.02 s, running 0.40 s\n"
        );
        assert_eq!(
            report(&["E0277", "Final compile"]),
            "0.80 s: compiling 0.80 s, in 2 tries, running 0.00 s\n"
        );
    }
}
