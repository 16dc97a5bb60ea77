//! Where the time of a cell went, for who has said `:timing`.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What evcxr calls the last of its phases; those before it are tries to compile.
const RAN: &str = "Execution";

/// One line: the whole, then its parts.
///
/// In the folder where the cell was compiled the files' times tell them apart: rust-analyzer's ends,
/// and cargo's begins, when the generated source is written; the linker begins when rustc has noted
/// what it made, and ends with the library.
pub fn line(whole: Duration, phases: &[(String, Duration)], begin: SystemTime, folder: &Path) -> String {
    let (ran, tries): (Vec<_>, Vec<_>) = phases.iter().partition(|(name, _)| name == RAN);
    let ran: Duration = ran.iter().map(|(_, time)| *time).sum();
    let before = whole.saturating_sub(ran);
    let written = modified(&folder.join("src/lib.rs"));
    let analysed = written.and_then(|time| time.duration_since(begin).ok()).filter(|_| tries.len() == 1);
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    let compiled = match (analysed, tries.len()) {
        (Some(analysed), _) => {
            let rest = before.saturating_sub(analysed);
            match written.and_then(|written| linked(&folder.join("target"), written)) {
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

/// How long the linker took after that time.
fn linked(target: &Path, after: SystemTime) -> Option<Duration> {
    let folders = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let builds: Vec<PathBuf> = folders(target).into_iter().map(|triple| triple.join("debug")).collect();
    let newest =
        |files: Vec<PathBuf>| files.iter().filter_map(|file| modified(file)).filter(|at| *at > after).max();
    let noted = builds.iter().flat_map(|build| folders(&build.join("incremental")));
    let noted = noted.flat_map(|of| folders(&of)).map(|session| session.join("work-products.bin"));
    let is_library = |file: &PathBuf| file.extension().is_some_and(|e| e == std::env::consts::DLL_EXTENSION);
    let libraries = builds.iter().flat_map(|build| folders(build)).filter(is_library);
    newest(libraries.collect())?.duration_since(newest(noted.collect())?).ok()
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|file| file.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_those_of_the_whole() {
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
        let said = |names: &[&str]| line(Duration::from_millis(800), &phases(names), begin, folder.path());
        file("src/lib.rs", 100);
        assert_eq!(
            said(&["Final compile", RAN]),
            "0.80 s: rust-analyzer 0.10 s, cargo, rustc and linker 0.30 s, running 0.40 s\n"
        );
        file("target/x86/debug/incremental/ctx-1/s-1/work-products.bin", 50);
        file("target/x86/debug/incremental/ctx-1/s-2/work-products.bin", 330);
        file("target/x86/debug/libcode_1.so", 350);
        assert_eq!(
            said(&["Final compile", RAN]),
            "0.80 s: rust-analyzer 0.10 s, cargo and rustc 0.28 s, linker 0.02 s, running 0.40 s\n"
        );
        assert_eq!(
            said(&["E0277", "Final compile"]),
            "0.80 s: compiling 0.80 s, in 2 tries, running 0.00 s\n"
        );
    }
}
