//! Where the time of a cell went, for who has said `:timing`.

use std::path::Path;
use std::time::{Duration, SystemTime};

/// What evcxr calls the last of its phases; those before it are tries to compile.
const RAN: &str = "Execution";

/// One line: the whole, then its parts.
///
/// rust-analyzer's part ends, and cargo's begins, when the generated source is written.
pub fn line(whole: Duration, phases: &[(String, Duration)], begin: SystemTime, source: &Path) -> String {
    let (ran, tries): (Vec<_>, Vec<_>) = phases.iter().partition(|(name, _)| name == RAN);
    let ran: Duration = ran.iter().map(|(_, time)| *time).sum();
    let before = whole.saturating_sub(ran);
    let written = std::fs::metadata(source).and_then(|source| source.modified()).ok();
    let analysed = written.and_then(|time| time.duration_since(begin).ok()).filter(|_| tries.len() == 1);
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    let compiled = match (analysed, tries.len()) {
        (Some(analysed), _) => format!(
            "rust-analyzer {}, cargo with the linker {}",
            seconds(analysed),
            seconds(before.saturating_sub(analysed))
        ),
        (None, tries) => format!("compiling {}, in {tries} tries", seconds(before)),
    };
    format!("{}: {compiled}, running {}\n", seconds(whole), seconds(ran))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_those_of_the_whole() {
        let source = tempfile::NamedTempFile::new().unwrap();
        let begin = source.path().metadata().unwrap().modified().unwrap() - Duration::from_millis(100);
        let phases = |names: &[&str]| -> Vec<(String, Duration)> {
            names.iter().map(|name| (name.to_string(), Duration::from_millis(400))).collect()
        };
        let whole = Duration::from_millis(800);
        assert_eq!(
            line(whole, &phases(&["Final compile", RAN]), begin, source.path()),
            "0.80 s: rust-analyzer 0.10 s, cargo with the linker 0.30 s, running 0.40 s\n"
        );
        assert_eq!(
            line(whole, &phases(&["E0277", "Final compile"]), begin, source.path()),
            "0.80 s: compiling 0.80 s, in 2 tries, running 0.00 s\n"
        );
    }
}
