//! Decides whether cells are rewritten and predicted. The decision holds for all cells of a session,
//! because a rewritten cell and an unchanged one cannot share a variable store.
//!
//! The first session of a template compiles a probe and records the result. If evcxr's text is not as
//! expected, every cell is compiled as evcxr writes it, which takes longer.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::prelude::template::Template;

/// Environment variable: `1` compiles every cell as evcxr writes it, for tests and debugging.
pub const VARIABLE: &str = "HEADSTART_UNCHANGED_CELLS";
/// File in a session's folder that exists if its cells are not rewritten.
const UNCHANGED: &str = "unchanged-cells";
/// File in a template's state with the result of the probe.
const RECORD: &str = "probe";
/// Content of the record if the probe found the expected text.
const EXPECTED: &str = "rewritten";

/// How the cells of a session are compiled.
#[derive(Clone, Debug, PartialEq)]
pub enum Cells {
    /// With the prelude's variable store, and ahead of evcxr where the source can be predicted.
    Rewritten,
    /// As evcxr writes them, with the reason.
    Unchanged(String),
}

impl Cells {
    /// Converts the result of a probe.
    pub fn of(probe: &Result<(), String>) -> Cells {
        match probe {
            Ok(()) => Cells::Rewritten,
            Err(problem) => Cells::Unchanged(problem.lines().next().unwrap_or_default().to_owned()),
        }
    }

    /// The decision before a session starts; `None` if a probe is needed.
    pub fn decided(template: &Template, is_wrapped: bool) -> Option<Cells> {
        let unchanged = |reason: &str| Some(Cells::Unchanged(reason.to_owned()));
        if std::env::var(VARIABLE).is_ok_and(|value| value == "1") {
            return unchanged(&format!("{VARIABLE} is set"));
        }
        if !is_wrapped {
            return unchanged("RUSTC_WRAPPER names another program");
        }
        Cells::recorded(template)
    }

    /// The result of the probe in a template's first session.
    pub fn recorded(template: &Template) -> Option<Cells> {
        let record = fs::read_to_string(template.state().join(RECORD)).ok()?;
        Cells::parse(&record)
    }

    /// Parses a record; `None` if it is empty, because the disk was full when it was written.
    fn parse(record: &str) -> Option<Cells> {
        Some(match record.trim() {
            "" => return None,
            EXPECTED => Cells::Rewritten,
            problem => Cells::Unchanged(problem.to_owned()),
        })
    }

    /// Records the result of the probe for later sessions.
    pub fn record(&self, template: &Template) {
        let text = match self {
            Cells::Rewritten => EXPECTED,
            Cells::Unchanged(problem) => problem,
        };
        // Without a record, the next session runs the probe again.
        let _ = fs::create_dir_all(template.state());
        let part = tempfile::NamedTempFile::new_in(template.state());
        let written = part.and_then(|mut part| part.write_all(text.as_bytes()).map(|()| part));
        let _ = written.map(|part| part.persist(template.state().join(RECORD)));
    }

    /// Configures how a session's cells are compiled from now on.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn apply(&self, session: &Path) -> Result<(), String> {
        let file = session.join(UNCHANGED);
        match self {
            Cells::Rewritten => Ok(()),
            Cells::Unchanged(_) => {
                fs::write(&file, "").map_err(|error| format!("{}: {error}", file.display()))
            }
        }
    }

    /// A note for the user if cells compile more slowly than possible.
    pub fn note(&self) -> Option<String> {
        match self {
            Cells::Rewritten => None,
            Cells::Unchanged(reason) => {
                Some(format!("note: cells are compiled as evcxr writes them, which takes longer: {reason}\n"))
            }
        }
    }
}

/// Whether a session's cells are rewritten.
pub fn is_rewritten(session: &Path) -> bool {
    !session.join(UNCHANGED).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_record_is_none() {
        assert_eq!(Cells::parse(" \n"), None);
        assert_eq!(Cells::parse("rewritten"), Some(Cells::Rewritten));
        assert_eq!(Cells::parse("another text\n"), Some(Cells::Unchanged("another text".into())));
    }

    #[test]
    fn a_session_whose_probe_failed_rewrites_no_cell() {
        let session = tempfile::tempdir().unwrap();
        Cells::of(&Ok(())).apply(session.path()).unwrap();
        assert!(is_rewritten(session.path()));
        let cells = Cells::of(&Err("another text\nand more".into()));
        cells.apply(session.path()).unwrap();
        assert!(!is_rewritten(session.path()));
        assert!(cells.note().unwrap().ends_with("longer: another text\n"));
    }
}
