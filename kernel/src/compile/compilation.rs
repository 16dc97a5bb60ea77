//! One compilation of a cell: its source, and the name of its result in the compile cache.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::hash::Hash;
use std::path::{Path, PathBuf};

use crate::compile::evcxr_text::source::{CRATE_NAME, Compiled, FILE, compiled, in_order, is_analysis};
use crate::compile::repeated::without_repeated;
use crate::compile::variables::rewritten;
use crate::compile::{boundary, unusable};
use crate::platform::fingerprint::Fingerprint;
use crate::prelude::facade::{PRELUDE, REAL};

/// Placeholder for the session's folder in the compile cache.
pub const SESSION: &str = "{session}";

/// One compilation of a cell, whose result is in the compile cache or may be added to it.
pub struct Compilation {
    /// Folder of the entry in the compile cache.
    pub entry: PathBuf,
    /// The rewritten source.
    changed: Option<String>,
    /// Fallback source if the rewritten one does not compile; also rewritten.
    pub second: Option<String>,
    /// Reason not to compile the cell: its variable store would differ from that of the other cells.
    pub problem: Option<String>,
    pub session: String,
    out: PathBuf,
    /// Whether the cell links to crates that only this session compiled (`:dep`), so that no other session
    /// can reuse it.
    pub has_dependencies: bool,
}

impl Compilation {
    /// Reads the session's source; `None` if the crate is not a cell.
    pub fn in_session(folder: &Path, session: &str, arguments: &[OsString]) -> Option<Compilation> {
        let arguments: Vec<&str> =
            arguments.iter().map(|argument| argument.to_str()).collect::<Option<_>>()?;
        let source = fs::read_to_string(Path::new(session).join(FILE)).ok()?;
        Compilation::new(folder, session, &arguments, &source)
    }

    /// Creates the compilation of a source with these rustc arguments; `None` if the crate is not a cell.
    pub fn new(folder: &Path, session: &str, arguments: &[&str], source: &str) -> Option<Compilation> {
        let after = |flag: &str| {
            arguments.iter().position(|argument| *argument == flag).and_then(|at| arguments.get(at + 1))
        };
        if after("--crate-name") != Some(&CRATE_NAME) {
            return None;
        }
        let applies = boundary::is_rewritten(Path::new(session));
        let is_rewritten = applies && !is_analysis(source);
        let (mut changed, mut second, mut problem) = (None, None, None);
        if applies && is_analysis(source) {
            // evcxr compiles it for the errors of a cell whose types are unknown.
            changed = Some(without_repeated(source)).filter(|text| text != source);
        } else if is_rewritten && has_prelude(arguments) {
            match rewritten(source, true) {
                Ok(text) => {
                    let text = unusable::losing(&text).unwrap_or(text);
                    second = rewritten(source, false).ok().filter(|second| *second != text);
                    changed = Some(text);
                }
                Err(unexpected) => problem = Some(unexpected),
            }
        } else if is_rewritten && matches!(compiled(source), Ok(Compiled::WithStore(_))) {
            problem = Some("the prelude is not loaded".into());
        }
        let lines = in_order(source);
        let mut hasher = Fingerprint::default();
        (is_rewritten, arguments.join("\u{1f}").replace(session, SESSION), lines).hash(&mut hasher);
        // A crate added by `:dep` may differ from an earlier one with the same name.
        let libraries =
            arguments.iter().filter_map(|argument| argument.split_once('=')).map(|(_, path)| path);
        for metadata in libraries.filter_map(|path| fs::metadata(path).ok()).filter(fs::Metadata::is_file) {
            (metadata.len(), metadata.modified().ok()?).hash(&mut hasher);
        }
        let entry = folder.join(hasher.digits());
        Some(Compilation {
            entry,
            changed,
            second,
            problem,
            out: PathBuf::from(after("--out-dir")?),
            session: session.to_owned(),
            has_dependencies: has_dependencies(arguments),
        })
    }

    /// Name of the entry in the compile cache.
    pub fn name(&self) -> &OsStr {
        self.entry.file_name().unwrap_or_default()
    }

    /// The rewritten source, if there is one.
    pub fn changed(&self) -> Option<&str> {
        self.changed.as_deref()
    }

    /// Folder for rustc's output.
    pub fn out(&self) -> &Path {
        &self.out
    }

    pub fn is_cached(&self) -> bool {
        self.entry.exists()
    }
}

/// Whether rustc links the prelude to the cell.
fn has_prelude(arguments: &[&str]) -> bool {
    let prelude = format!("{PRELUDE}=");
    arguments.iter().any(|argument| argument.starts_with(&prelude))
}

/// Whether rustc links crates other than the prelude to the cell.
fn has_dependencies(arguments: &[&str]) -> bool {
    let named = arguments.windows(2).filter(|pair| pair[0] == "--extern");
    let mut names = named.map(|pair| pair[1].split('=').next().unwrap_or_default());
    names.any(|name| ![PRELUDE, REAL].contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::evcxr_text::source::written;

    #[test]
    fn a_cell_with_a_separate_variable_store_is_rejected() {
        let session = tempfile::tempdir().unwrap();
        let path = session.path().to_str().unwrap();
        let cell = |arguments: &[&str], source: &str| {
            Compilation::new(
                Path::new("cells"),
                path,
                &[&["--crate-name", CRATE_NAME, "--out-dir", "."], arguments].concat(),
                source,
            )
            .unwrap()
        };
        let prelude = ["--extern", &format!("{PRELUDE}=/s/libheadstart.rlib")];
        let source = written(1, "f();\n");
        let changed = source.replace("HashMap<String", "BTreeMap<String");
        assert!(cell(&prelude, &source).problem.is_none() && cell(&prelude, &source).changed.is_some());
        assert!(cell(&prelude, &changed).problem.is_some(), "an unexpected store");
        assert!(cell(&[], &source).problem.is_some(), "the prelude is missing");
        let rewritten_name = cell(&prelude, &source).name().to_owned();
        boundary::Cells::Unchanged(String::new()).apply(session.path()).unwrap();
        for source in [&source, &changed] {
            assert!(cell(&prelude, source).problem.is_none() && cell(&prelude, source).changed.is_none());
        }
        assert_ne!(cell(&prelude, &source).name(), rewritten_name, "the cache tells the two stores apart");
    }

    #[test]
    fn cells_with_session_dependencies_are_not_cached() {
        let prelude =
            [format!("{PRELUDE}=/s/libheadstart.rlib"), format!("{REAL}=/t/libheadstart_prelude.so")];
        let [first, second] = prelude.each_ref().map(String::as_str);
        assert!(!has_dependencies(&["--extern", first, "-L", "a", "--extern", second]));
        assert!(has_dependencies(&["--extern", first, "--extern", "regex=/s/libregex.rlib"]));
    }

    #[test]
    fn only_cells_are_cached() {
        let arguments = ["--crate-name", "candle_core", "--out-dir", "."].map(OsString::from);
        assert!(Compilation::in_session(Path::new("cells"), ".", &arguments).is_none());
    }
}
