//! Cells that were compiled before, in this session or another, are not compiled again.
//!
//! A notebook that is run anew asks for the same sources in the same order, and before a user's first
//! cell evcxr compiles one to see whether it can and the prelude is loaded in two more. So this
//! program stands before rustc, as cargo's `RUSTC_WRAPPER`, and answers for a source that it knows
//! with what rustc made and said then.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::compile::ahead;
use crate::compile::evcxr_text::source::{CRATE_NAME, Compiled, FILE, OPTIMISATION, compiled, in_order, is_analysis};
use crate::prelude::facade::{ERRORS, PRELUDE, REAL};
use crate::prelude::session::LOADING;
use crate::prelude::template::Template;
use crate::compile::timing;
use crate::compile::variables::rewritten;
use crate::prelude::build::{boundary, warnings};

const WRAPPER_VARIABLE: &str = "RUSTC_WRAPPER";
/// Where what was kept lies.
const FOLDER_VARIABLE: &str = "HEADSTART_KEPT_CRATE_NAMES";
/// Stands for the session's folder in what is kept.
const SESSION: &str = "{session}";
const STATUS: &str = "status";
const STDERR: &str = "stderr";
/// The optimisation level of cells in place of evcxr's. Most loops are as fast, some take up to twice as long; each
/// cell compiles sooner.
const OUR_LEVEL: &str = "-Copt-level=s";
const NOT_OPTIMISED: &str = "-Copt-level=0";
/// The fingerprints of the files that are kept, a line each.
const SUMS: &str = "sums";
/// How much disk the kept cells take at most, in bytes; those that were asked for last stay.
const MAX_BYTES: u64 = 256 << 20;
/// The least that a file takes on a disk, in bytes.
const BLOCK: u64 = 4 << 10;
/// Begins the name of a folder that becomes a kept cell when it is whole.
const PART: &str = ".part-";
/// A part this old (an hour) was left by a process that was killed.
const OLD_PART: Duration = Duration::from_hours(1);

/// Makes cargo ask this program first, if nobody else is to be asked.
///
/// # Safety
/// Sets environment variables: no other thread may be reading them.
pub unsafe fn set_up(template: &Template) {
    let program = std::env::current_exe();
    if let (Ok(program), None) = (program, std::env::var_os(WRAPPER_VARIABLE)) {
        // SAFETY: the caller's promise.
        unsafe {
            std::env::set_var(WRAPPER_VARIABLE, program);
            std::env::set_var(FOLDER_VARIABLE, template.kept_cells());
        }
    }
}

/// Undoes [`set_up`] for a command of ours that compiles something else.
pub fn not_for(command: &mut Command) {
    if std::env::var_os(FOLDER_VARIABLE).is_some() {
        command.env_remove(WRAPPER_VARIABLE).env_remove(FOLDER_VARIABLE);
    }
}

/// Undoes [`set_up`] for what a user's cell starts.
///
/// # Safety
/// Sets environment variables: no other thread may be reading them.
pub unsafe fn forget() {
    if std::env::var_os(FOLDER_VARIABLE).is_some() {
        // SAFETY: the caller's promise.
        unsafe {
            std::env::remove_var(WRAPPER_VARIABLE);
            std::env::remove_var(FOLDER_VARIABLE);
        }
    }
}

/// Removes the cells that were not asked for longest, where they take too much disk, and parts that were left.
pub fn tidy() {
    if let Some(folder) = std::env::var_os(FOLDER_VARIABLE) {
        remove_parts(Path::new(&folder));
        remove_beyond(MAX_BYTES, Path::new(&folder));
    }
}

fn remove_parts(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|part| part.modified());
        let is_old = modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > OLD_PART));
        if is_old && entry.file_name().to_string_lossy().starts_with(PART) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn remove_beyond(most: u64, folder: &Path) {
    let cells = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let used = |cell: &PathBuf| fs::metadata(cell.join(STATUS)).and_then(|status| status.modified()).ok();
    // What another session is keeping at the moment has no status yet.
    let mut cells: Vec<_> = cells.filter_map(|cell| Some((used(&cell)?, cell))).collect();
    cells.sort_unstable();
    let mut bytes = 0;
    for (_, cell) in cells.iter().rev() {
        let files =
            fs::read_dir(cell).into_iter().flatten().flatten().filter_map(|file| file.metadata().ok());
        bytes += files.map(|file| file.len().next_multiple_of(BLOCK)).sum::<u64>();
        if bytes > most {
            let _ = fs::remove_dir_all(cell);
        }
    }
}

/// If cargo called this program in rustc's place, does so and does not return.
pub fn hook() {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(folder), Some(rustc)) = (std::env::var_os(FOLDER_VARIABLE), arguments.next()) else { return };
    if Path::new(&rustc).file_stem().is_none_or(|name| name != "rustc") {
        return;
    }
    let mut arguments: Vec<OsString> = arguments.collect();
    arguments.extend(our_level(&arguments).map(OsString::from));
    let session = std::env::current_dir().unwrap_or_default();
    let cell = session.to_str().and_then(|session| Cell::of_session(Path::new(&folder), session, &arguments));
    let status = match cell {
        Some(cell) => cell.answer(Command::new(&rustc).args(&arguments)),
        None => Err(Command::new(&rustc).args(&arguments).exec()),
    };
    std::process::exit(status.unwrap_or_else(|error| {
        eprintln!("error: {}: {error}", rustc.display());
        1
    }));
}

/// Another level than evcxr's for a cell and for the libraries that have compiled for cells what they
/// share (facade/): at evcxr's, rustc compiles that in each cell anew.
fn our_level(arguments: &[OsString]) -> Option<&'static str> {
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    match has(OPTIMISATION) {
        true if has(CRATE_NAME) || has(PRELUDE) => Some(OUR_LEVEL),
        true if has(ERRORS) => Some(NOT_OPTIMISED),
        _ => None,
    }
}

/// Where cells are kept.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from)
}

/// One compilation of a cell that is kept or may be.
pub struct Cell {
    /// Where it is kept.
    kept: PathBuf,
    /// What rustc is to read in place of the source.
    changed: Option<String>,
    /// What it is to read if that does not compile.
    second: Option<String>,
    /// Why the cell must not be compiled: it would have another variable store than the others.
    problem: Option<String>,
    session: String,
    out: PathBuf,
    /// Whether it links to crates that this session alone compiled (`:dep`): no other session asks for it.
    has_dependencies: bool,
}

impl Cell {
    /// `None` for anything but a cell.
    fn of_session(folder: &Path, session: &str, arguments: &[OsString]) -> Option<Cell> {
        let arguments: Vec<&str> =
            arguments.iter().map(|argument| argument.to_str()).collect::<Option<_>>()?;
        let source = fs::read_to_string(Path::new(session).join(FILE)).ok()?;
        Cell::new(folder, session, &arguments, &source)
    }

    /// That of a source and of what rustc is called with for it.
    pub fn new(folder: &Path, session: &str, arguments: &[&str], source: &str) -> Option<Cell> {
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
        let kept = folder.join(format!("{:016x}", hasher.finish()));
        Some(Cell {
            kept,
            changed,
            second,
            problem,
            out: PathBuf::from(after("--out-dir")?),
            session: session.to_owned(),
            has_dependencies: has_dependencies(arguments),
        })
    }

    /// What it is called where it is kept.
    pub fn name(&self) -> &OsStr {
        self.kept.file_name().unwrap_or_default()
    }

    /// What rustc is to read in place of the source, if that is something else.
    pub fn changed(&self) -> Option<&str> {
        self.changed.as_deref()
    }

    /// Where rustc is to put what it makes.
    pub fn out(&self) -> &Path {
        &self.out
    }

    pub fn is_kept(&self) -> bool {
        self.kept.exists()
    }

    fn answer(&self, rustc: &mut Command) -> io::Result<i32> {
        if let Some(problem) = &self.problem {
            // As rustc does for cargo.
            let message =
                format!("the cell cannot be compiled with the variables of the other cells: {problem}");
            let diagnostic = json!({
                "$message_type": "diagnostic", "message": message, "code": null, "level": "error", "spans": [],
                "children": [], "rendered": format!("error: {message}\n"),
            });
            self.say(&format!("{diagnostic}\n"))?;
            return Ok(1);
        }
        // Only speed depends on it.
        let _ = ahead::note(&self.session, rustc);
        if let Ok(status) = self.recall() {
            return Ok(status);
        }
        let output = match ahead::take(Path::new(&self.session), self.name(), &self.out) {
            Some(output) => output,
            None => self.compile(rustc, self.changed())?,
        };
        let output = match &self.second {
            Some(second) if !output.status.success() => self.compile(rustc, Some(second))?,
            _ => output,
        };
        io::stdout().write_all(&output.stdout)?;
        self.say(&String::from_utf8_lossy(&output.stderr))?;
        // Only speed depends on it.
        let _ = self.keep(output.status, &String::from_utf8_lossy(&output.stderr));
        Ok(output.status.code().unwrap_or(1))
    }

    fn compile(&self, rustc: &mut Command, source: Option<&str>) -> io::Result<Output> {
        let session = Path::new(&self.session);
        if let Some(source) = source {
            replace(&session.join(FILE), source)?;
        }
        let has_linker = rustc.get_args().any(|argument| argument.to_string_lossy().starts_with("linker="));
        if let Some(linker) = timing::linker(session).filter(|_| !has_linker) {
            rustc.arg(format!("-Clinker={}", linker.display()));
        }
        rustc.output()
    }

    /// Does what rustc did, if it is kept.
    fn recall(&self) -> io::Result<i32> {
        let status = fs::read_to_string(self.kept.join(STATUS))?;
        let status = status.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        if fs::read_to_string(self.kept.join(SUMS)).ok() != Some(sums(&self.kept)?) {
            // Damaged: it is compiled and kept anew.
            fs::remove_dir_all(&self.kept)?;
            return Err(io::ErrorKind::InvalidData.into());
        }
        for entry in fs::read_dir(&self.kept)? {
            let (from, to) = {
                let entry = entry?;
                (entry.path(), self.out.join(entry.file_name()))
            };
            match from.extension().and_then(|extension| extension.to_str()) {
                Some("d") => fs::write(to, self.with_session(&from)?)?,
                Some(_) => fs::copy(from, to).map(drop)?,
                None => {}
            }
        }
        self.say(&self.with_session(&self.kept.join(STDERR))?)?;
        let _ = File::options().append(true).open(self.kept.join(STATUS))?.set_modified(SystemTime::now());
        Ok(status)
    }

    /// Gives cargo what rustc said, but for warnings.
    fn say(&self, messages: &str) -> io::Result<()> {
        io::stderr().write_all(warnings::sort_out(Path::new(&self.session), messages).as_bytes())
    }

    fn with_session(&self, file: &Path) -> io::Result<String> {
        Ok(fs::read_to_string(file)?.replace(SESSION, &self.session))
    }

    /// Whether it is one of those with which every session begins.
    fn is_first(&self) -> bool {
        Path::new(&self.session).join(LOADING).exists()
    }

    /// Keeps what rustc made (`libctx.so`, `ctx.d`) and said, whole or not at all.
    fn keep(&self, status: ExitStatus, stderr: &str) -> io::Result<()> {
        let sources = format!("{CRATE_NAME}.d");
        let read = fs::read_to_string(self.out.join(&sources)).unwrap_or_default();
        // Of one that failed nobody knows what it depended on.
        let is_known = if status.success() { stands_alone(&read) } else { self.is_first() };
        if !is_known || self.has_dependencies {
            return Ok(());
        }
        let folder = self.kept.parent().unwrap_or(&self.kept);
        fs::create_dir_all(folder)?;
        let part = tempfile::Builder::new().prefix(PART).tempdir_in(folder)?;
        let in_part = |name: &str| part.path().join(name);
        if status.success() {
            let library =
                format!("{}{CRATE_NAME}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
            fs::copy(self.out.join(&library), in_part(&library))?;
            fs::write(in_part(&sources), read.replace(&self.session, SESSION))?;
        }
        fs::write(in_part(STDERR), stderr.replace(&self.session, SESSION))?;
        fs::write(in_part(STATUS), status.code().unwrap_or(1).to_string())?;
        fs::write(in_part(SUMS), sums(part.path())?)?;
        fs::rename(part.path(), &self.kept)
    }
}

/// The fingerprints of a kept cell's files. They find damage, such as a file that was cut off.
fn sums(folder: &Path) -> io::Result<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == SUMS {
            continue;
        }
        let mut hasher = DefaultHasher::new();
        fs::read(entry.path())?.hash(&mut hasher);
        lines.push(format!("{:016x} {}\n", hasher.finish(), entry.file_name().to_string_lossy()));
    }
    lines.sort_unstable();
    Ok(lines.concat())
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

/// Writes a file anew, which is not younger for it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let modified = fs::metadata(path)?.modified()?;
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.set_modified(modified)
}

/// Whether, by what rustc noted, a cell was made of its source alone: not of other files, such as
/// `include_str!` reads, nor of environment variables.
fn stands_alone(noted: &str) -> bool {
    let rules = noted.lines().filter_map(|line| line.split_once(": "));
    !noted.lines().any(|line| line.starts_with("# env-dep:"))
        && rules.map(|(_, sources)| sources.trim()).all(|sources| sources == FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::evcxr_text::source::written;

    /// A session's folder with a source, and the cell that rustc would be called for.
    fn cell(template: &Path, session: &Path, source: &str) -> Cell {
        fs::create_dir_all(session.join("src")).unwrap();
        fs::write(session.join("src/lib.rs"), source).unwrap();
        let out = session.to_str().unwrap();
        let arguments = ["--crate-name", CRATE_NAME, "--out-dir", out].map(OsString::from);
        Cell::of_session(&template.join("cells"), session.to_str().unwrap(), &arguments).unwrap()
    }

    #[test]
    fn a_later_session_is_given_what_rustc_made_for_the_same_source() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let first = cell(folder.path(), &one, "fn f() {}");
        let said = "made $0/libctx.so".replace("$0", one.to_str().unwrap());
        let rustc = format!("echo bytes > libctx.so; echo $PWD > ctx.d; echo '{said}' >&2");
        let status = Command::new("sh").args(["-c", &rustc]).current_dir(&one).status().unwrap();
        assert!(first.recall().is_err());
        first.keep(status, &said).unwrap();
        let second = cell(folder.path(), &two, "fn f() {}");
        assert_eq!(second.recall().unwrap(), 0);
        assert_eq!(fs::read_to_string(two.join("libctx.so")).unwrap(), "bytes\n");
        assert_eq!(fs::read_to_string(two.join("ctx.d")).unwrap().trim(), two.to_str().unwrap());
        assert!(cell(folder.path(), &two, "fn g() {}").recall().is_err());
    }

    #[test]
    fn what_depends_on_more_than_its_source_is_not_kept() {
        assert!(stands_alone("/s/libctx.so: src/lib.rs\n\n/s/ctx.d: src/lib.rs\n\nsrc/lib.rs:\n"));
        assert!(!stands_alone("/s/libctx.so: src/lib.rs /s/src/words.txt\n\nsrc/lib.rs:\n"));
        assert!(!stands_alone("/s/libctx.so: src/lib.rs\n\nsrc/lib.rs:\n\n# env-dep:HOME=/root\n"));
        let folder = tempfile::tempdir().unwrap();
        let session = folder.path().join("one");
        let cell = cell(folder.path(), &session, "fn f() { g() }");
        let failed = Command::new("false").status().unwrap();
        cell.keep(failed, "error").unwrap();
        assert!(cell.recall().is_err(), "a user's cell that failed");
        File::create(session.join(LOADING)).unwrap();
        cell.keep(failed, "error").unwrap();
        assert_eq!(cell.recall().unwrap(), 1, "one with which each session begins");
    }

    #[test]
    fn those_that_were_asked_for_last_stay() {
        let folder = tempfile::tempdir().unwrap();
        let cells = ["b", "c", "a"].map(|name| folder.path().join(name));
        for (age, cell) in cells.iter().enumerate() {
            fs::create_dir(cell).unwrap();
            let used = SystemTime::now() - std::time::Duration::from_secs(60 - age as u64);
            fs::write(cell.join("libctx.so"), vec![0; 5000]).unwrap();
            let status = File::create(cell.join(STATUS)).unwrap();
            status.set_modified(used).unwrap();
        }
        remove_beyond(4 * BLOCK, folder.path());
        assert_eq!(cells.map(|cell| cell.exists()), [false, true, true]);
    }

    #[test]
    fn a_damaged_cell_is_compiled_anew() {
        let folder = tempfile::tempdir().unwrap();
        let session = folder.path().join("one");
        let cell = cell(folder.path(), &session, "fn f() {}");
        let rustc = ["-c", "echo bytes > libctx.so; echo > ctx.d"];
        let status = Command::new("sh").args(rustc).current_dir(&session).status().unwrap();
        cell.keep(status, "").unwrap();
        assert_eq!(cell.recall().unwrap(), 0);
        fs::write(cell.kept.join("libctx.so"), "byte").unwrap();
        assert!(cell.recall().is_err() && !cell.is_kept());
        cell.keep(status, "").unwrap();
        assert_eq!(cell.recall().unwrap(), 0);
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
    fn a_cell_that_would_have_a_store_of_its_own_is_refused() {
        let session = tempfile::tempdir().unwrap();
        let path = session.path().to_str().unwrap();
        let cell = |arguments: &[&str], source: &str| {
            Cell::new(
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
        let mut rustc = Command::new("false");
        let refused = Cell { problem: Some("why".into()), ..cell(&prelude, &source) };
        assert_eq!(refused.answer(&mut rustc).unwrap(), 1);
    }

    #[test]
    fn only_cells_are_kept() {
        let arguments = ["--crate-name", "candle_core", "--out-dir", "."].map(OsString::from);
        assert!(Cell::of_session(Path::new("cells"), ".", &arguments).is_none());
    }
}
