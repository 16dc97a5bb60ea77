//! One compilation of a cell: what rustc reads, and the name of its result in the compile cache.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::compile::boundary;
use crate::compile::evcxr_text::source::{CRATE_NAME, Compiled, FILE, compiled, in_order, is_analysis};
use crate::compile::variables::rewritten;
use crate::prelude::facade::{PRELUDE, REAL};

/// Stands for the session's folder in the compile cache.
pub const SESSION: &str = "{session}";

/// One compilation of a cell, whose result is in the compile cache or may be put there.
pub struct Compilation {
    /// Its folder in the compile cache.
    pub entry: PathBuf,
    /// The rewritten source.
    changed: Option<String>,
    /// The rewritten source if that does not compile.
    pub second: Option<String>,
    /// Why the cell must not be compiled: it would have another variable store than the others.
    pub problem: Option<String>,
    pub session: String,
    out: PathBuf,
    /// Whether it links to crates that this session alone compiled (`:dep`): no other session asks for it.
    pub has_dependencies: bool,
}

impl Compilation {
    /// `None` for anything but a cell.
    pub fn of_session(folder: &Path, session: &str, arguments: &[OsString]) -> Option<Compilation> {
        let arguments: Vec<&str> =
            arguments.iter().map(|argument| argument.to_str()).collect::<Option<_>>()?;
        let source = fs::read_to_string(Path::new(session).join(FILE)).ok()?;
        Compilation::new(folder, session, &arguments, &source)
    }

    /// The compilation of a source with these arguments of rustc; `None` for anything but a cell.
    pub fn new(folder: &Path, session: &str, arguments: &[&str], source: &str) -> Option<Compilation> {
        let after = |flag: &str| {
            arguments.iter().position(|argument| *argument == flag).and_then(|at| arguments.get(at + 1))
        };
        if after("--crate-name") != Some(&CRATE_NAME) {
            return None;
        }
        let is_rewritten = boundary::is_rewritten(Path::new(session)) && !is_analysis(source);
        let (mut changed, mut second, mut problem) = (None, None, None);
        if is_rewritten && has_prelude(arguments) {
            match rewritten(source, true) {
                Ok(text) => {
                    second = rewritten(source, false).ok().filter(|second| *second != text);
                    changed = Some(text);
                }
                Err(unexpected) => problem = Some(unexpected),
            }
        } else if is_rewritten && matches!(compiled(source), Ok(Compiled::WithStore(_))) {
            problem = Some("the prelude is not loaded".into());
        }
        let lines = in_order(source);
        let mut hasher = DefaultHasher::new();
        (is_rewritten, arguments.join("\u{1f}").replace(session, SESSION), lines).hash(&mut hasher);
        // What `:dep` brought may be another under the same name.
        let libraries =
            arguments.iter().filter_map(|argument| argument.split_once('=')).map(|(_, path)| path);
        for metadata in libraries.filter_map(|path| fs::metadata(path).ok()).filter(fs::Metadata::is_file) {
            (metadata.len(), metadata.modified().ok()?).hash(&mut hasher);
        }
        let entry = folder.join(format!("{:016x}", hasher.finish()));
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

    /// Its name in the compile cache.
    pub fn name(&self) -> &OsStr {
        self.entry.file_name().unwrap_or_default()
    }

    /// The rewritten source, if there is one.
    pub fn changed(&self) -> Option<&str> {
        self.changed.as_deref()
    }

    /// The folder for what rustc writes.
    pub fn out(&self) -> &Path {
        &self.out
    }

    pub fn is_cached(&self) -> bool {
        self.entry.exists()
    }
}

/// Whether rustc is to link the prelude to a cell.
fn has_prelude(arguments: &[&str]) -> bool {
    let prelude = format!("{PRELUDE}=");
    arguments.iter().any(|argument| argument.starts_with(&prelude))
}

/// Whether rustc is to link other crates than the prelude to a cell.
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
    fn a_cell_that_would_have_a_store_of_its_own_is_refused() {
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
    fn cells_with_crates_of_their_own_session_are_not_kept() {
        let prelude =
            [format!("{PRELUDE}=/s/libheadstart.rlib"), format!("{REAL}=/t/libheadstart_prelude.so")];
        let [first, second] = prelude.each_ref().map(String::as_str);
        assert!(!has_dependencies(&["--extern", first, "-L", "a", "--extern", second]));
        assert!(has_dependencies(&["--extern", first, "--extern", "regex=/s/libregex.rlib"]));
    }

    #[test]
    fn only_cells_are_kept() {
        let arguments = ["--crate-name", "candle_core", "--out-dir", "."].map(OsString::from);
        assert!(Compilation::of_session(Path::new("cells"), ".", &arguments).is_none());
    }
}
