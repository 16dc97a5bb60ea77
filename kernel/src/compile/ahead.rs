//! A cell is compiled while evcxr still analyses it and starts cargo for it.
//!
//! From what evcxr analyses follows what it will have compiled ([`crate::compile::predict`]), so rustc begins with
//! that at once; where it does not follow, as soon as evcxr has written it. When cargo asks for this
//! source, the program that stands before rustc ([`crate::compile::cache`]) waits for what was begun and hands it
//! over. Had another been told, rustc begins anew: nothing but some time of another core is lost.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::{Deserialize, Serialize};

use crate::compile::evcxr_text::source::{FILE, is_analysis, is_whole, number};
use crate::compile::cache::Cell;
use crate::compile::predict::{self, Forms};
use crate::compile::timing;

/// In a session's folder, where rustc works ahead; beside cargo's folder for what is made, what it makes.
pub const FOLDER: &str = "ahead";
/// In it, how rustc was called last.
const CALL: &str = "call";
/// The source as evcxr would write it.
const TOLD: &str = "told";
/// What was learnt of types.
const FORMS: &str = "forms.json";
/// More forms than that are not kept.
const MANY: usize = 2000;
/// How cargo shares the cores among what it starts, which is of no use to another's child.
const JOBS: &str = "CARGO_MAKEFLAGS";
/// How often it is looked whether evcxr has written a source.
const GLANCE: Duration = Duration::from_micros(300);
/// The same while rustc works, and whether it has ended.
const LOOK: Duration = Duration::from_millis(1);

/// One call of rustc for a cell.
#[derive(Serialize, Deserialize)]
struct Call {
    session: String,
    rustc: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// As evcxr wrote it.
    source: String,
}

impl Call {
    /// The cell that it would be for, had it this source.
    fn cell(&self, cells: &Path, source: &str) -> Option<Cell> {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        Cell::new(cells, &self.session, &arguments, source)
    }
}

/// Notes how cargo has rustc called for a cell, whose source is as evcxr wrote it.
pub fn note(session: &str, rustc: &Command) -> io::Result<()> {
    let folder = Path::new(session).join(FOLDER);
    fs::create_dir_all(folder.join("src"))?;
    let text = |text: &OsStr| text.to_string_lossy().into_owned();
    let call = Call {
        session: session.to_owned(),
        rustc: text(rustc.get_program()),
        arguments: rustc.get_args().map(text).collect(),
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name != JOBS)
            .collect(),
        source: fs::read_to_string(Path::new(session).join(FILE))?,
    };
    // Nobody else is to read the environment.
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(folder.join(CALL))?;
    file.write_all(&serde_json::to_vec(&call)?)
}

/// The last source that evcxr has written for rustc in a session.
pub fn written(session: &Path) -> Option<String> {
    let call = fs::read(session.join(FOLDER).join(CALL)).ok()?;
    serde_json::from_slice(&call).ok().map(|call: Call| call.source)
}

/// What rustc made and said, if it was begun ahead for a cell that would be kept under that name: waits
/// until it is over, and moves what was made to where cargo expects it.
pub fn take(session: &Path, name: &OsStr, out: &Path) -> Option<Output> {
    let mut file = File::open(session.join(FOLDER).join(name)).ok()?;
    // Whoever compiles holds it until that is over.
    file.lock_shared().ok()?;
    let mut said = String::new();
    file.read_to_string(&mut said).ok()?;
    let (status, said) = said.split_once('\n')?;
    let status = ExitStatus::from_raw(status.parse().ok()?);
    // A variable that was stored in another line would be taken for the one of which rustc complains.
    let is_same = || fs::read(session.join(FOLDER).join(TOLD)).ok() == fs::read(session.join(FILE)).ok();
    if !status.success() && !is_same() {
        return None;
    }
    let made = made(out);
    let in_place = |text: &str| text.replace(&*made.to_string_lossy(), &out.to_string_lossy());
    for file in fs::read_dir(&made).ok()?.flatten() {
        let (from, to) = (file.path(), out.join(file.file_name()));
        if from.extension().is_some_and(|extension| extension == "d") {
            let sources = in_place(&fs::read_to_string(&from).ok()?);
            fs::write(&from, sources).ok()?;
        }
        fs::rename(from, to).ok()?;
    }
    Some(Output { status, stdout: Vec::new(), stderr: in_place(said).into_bytes() })
}

/// As deep as cargo's own folder: libraries are looked for from there.
fn made(out: &Path) -> PathBuf {
    out.with_file_name(FOLDER)
}

/// What is known for the next cell.
pub struct Ahead {
    session: PathBuf,
    /// Where cells are kept.
    cells: PathBuf,
    forms: Arc<Forms>,
    /// The number that evcxr will give it.
    number: Option<usize>,
}

impl Ahead {
    /// For a session's folder, and that where cells are kept.
    pub fn new(session: &Path, cells: PathBuf) -> Ahead {
        let forms = fs::read(cells.with_file_name(FORMS)).ok();
        let forms = forms.and_then(|forms| serde_json::from_slice(&forms).ok()).unwrap_or_default();
        // As cargo sees it.
        let session = session.canonicalize().unwrap_or_else(|_| session.to_owned());
        Ahead { session, cells, forms: Arc::new(forms), number: None }
    }

    /// evcxr is about to get a cell.
    pub fn begin(&self, code: &str) -> Option<Begun> {
        let is_apart = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
        // For whom wants to know how long each part takes, one follows the other.
        if !is_apart || !may_be_told(code) || timing::linker(&self.session).is_some() {
            return None;
        }
        let watch = Watch {
            session: self.session.clone(),
            cells: self.cells.clone(),
            forms: self.forms.clone(),
            number: self.number?,
            seen: source_of(&self.session),
        };
        let (over, ended) = bounded(0);
        // Only speed depends on how it ends.
        let run = move || drop(watch.run(&ended));
        let thread = std::thread::Builder::new().name("ahead".into()).spawn(run).ok()?;
        Some(Begun { over: Some(over), thread: Some(thread) })
    }

    /// evcxr is through with a cell, and has counted it or not.
    pub fn end<'a>(
        &mut self,
        code: &str,
        is_counted: bool,
        variables: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        if let Some(number) = number(&source_of(&self.session)) {
            self.number = Some(number + usize::from(is_counted));
        }
        if is_counted && predict::learn(Arc::make_mut(&mut self.forms), code, &variables.collect()) {
            let _ = self.keep();
        }
    }

    fn keep(&mut self) -> io::Result<()> {
        if self.forms.len() > MANY {
            self.forms = Arc::default();
        }
        let part = self.session.join(FORMS);
        fs::write(&part, serde_json::to_vec(&*self.forms)?)?;
        fs::rename(part, self.cells.with_file_name(FORMS))
    }
}

/// Not where evcxr takes lines for itself, which may change how rustc is called, nor where a file is to be
/// found beside the source.
fn may_be_told(code: &str) -> bool {
    !code.lines().any(|line| line.trim_start().starts_with(':'))
        && !["include!", "include_str!", "include_bytes!"].iter().any(|name| code.contains(name))
}

/// A cell that is compiled ahead, until this is dropped.
pub struct Begun {
    over: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Begun {
    fn drop(&mut self) {
        drop(self.over.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn source_of(session: &Path) -> String {
    fs::read_to_string(session.join(FILE)).unwrap_or_default()
}

/// What looks at the source that evcxr writes: first to be analysed, then to be compiled.
struct Watch {
    session: PathBuf,
    cells: PathBuf,
    forms: Arc<Forms>,
    number: usize,
    seen: String,
}

impl Watch {
    fn run(mut self, ended: &Receiver<()>) -> io::Result<()> {
        let folder = self.session.join(FOLDER);
        let call: Call = serde_json::from_slice(&fs::read(folder.join(CALL))?)?;
        if Path::new(&call.session) != self.session {
            return Ok(());
        }
        let mut compiling: Option<Compiling> = None;
        let mut is_certain = false;
        loop {
            let source = source_of(&self.session);
            if source != self.seen && is_whole(&source) {
                is_certain = number(&source).is_some();
                if let Some((cell, source)) = self.cell(&call, &source)
                    && compiling.as_ref().is_none_or(|compiling| !compiling.is_of(&cell))
                {
                    // The one is over before the other begins.
                    drop(compiling.take());
                    if !cell.is_kept() {
                        compiling = Some(Compiling::begin(&folder, &cell, &call, &source)?);
                    }
                }
                if is_certain && compiling.is_none() {
                    return Ok(());
                }
                self.seen = source;
            }
            let is_done = compiling.as_mut().map_or(Ok(false), Compiling::is_done)?;
            if is_certain && is_done {
                // The cell may run long.
                let _ = ended.recv();
                return Ok(());
            }
            // What did not succeed may be written in another way.
            let patience = if compiling.is_some() { LOOK } else { GLANCE };
            if ended.recv_timeout(patience) != Err(RecvTimeoutError::Timeout) {
                return Ok(());
            }
        }
    }

    /// The cell that is or will be compiled by what evcxr wrote, and its source.
    fn cell(&self, call: &Call, written: &str) -> Option<(Cell, String)> {
        let source = match is_analysis(written) {
            true => predict::source(written, &call.source, self.number, &self.forms)?,
            false => written.to_owned(),
        };
        let cell = call.cell(&self.cells, &source)?;
        // Else it is what rustc is reading already.
        cell.changed()?;
        Some((cell, source))
    }
}

/// A rustc at work for a cell; stopped when dropped.
struct Compiling {
    /// By which the cell is handed over.
    name: PathBuf,
    /// Locked until rustc has ended.
    handed: Option<File>,
    rustc: Child,
    said: PathBuf,
    is_done: bool,
}

impl Compiling {
    fn begin(folder: &Path, cell: &Cell, call: &Call, source: &str) -> io::Result<Compiling> {
        fs::write(folder.join(FILE), cell.changed().unwrap_or(source))?;
        fs::write(folder.join(TOLD), source)?;
        let made = made(cell.out());
        let _ = fs::remove_dir_all(&made);
        fs::create_dir_all(&made)?;
        let arguments = call.arguments.iter().map(|argument| match Path::new(argument) == cell.out() {
            true => made.as_os_str(),
            false => argument.as_ref(),
        });
        // It has its name only when it is locked.
        let (part, name) = (folder.join("part"), folder.join(cell.name()));
        let handed = File::create(&part)?;
        handed.lock()?;
        let said = folder.join("said");
        let rustc = Command::new(&call.rustc)
            .args(arguments)
            .env_clear()
            .envs(call.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said)?)
            .spawn()?;
        fs::rename(&part, &name)?;
        Ok(Compiling { name, handed: Some(handed), rustc, said, is_done: false })
    }

    fn is_of(&self, cell: &Cell) -> bool {
        self.name.file_name() == Some(cell.name())
    }

    /// Whether rustc has ended and succeeded; what it said is handed over then, or why it did not succeed.
    fn is_done(&mut self) -> io::Result<bool> {
        let Some(handed) = &mut self.handed else { return Ok(self.is_done) };
        if let Some(status) = self.rustc.try_wait()? {
            let said = fs::read_to_string(&self.said)?;
            if status.code().is_some() && write!(handed, "{}\n{said}", status.into_raw()).is_err() {
                handed.set_len(0)?;
            }
            (self.handed, self.is_done) = (None, status.success());
        }
        Ok(self.is_done)
    }
}

impl Drop for Compiling {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.name);
        if self.handed.is_some() {
            let _ = self.rustc.kill();
            let _ = self.rustc.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::evcxr_text::source::written;
    use crate::prelude::facade::PRELUDE;

    /// A session whose rustc is a script, after its first cell.
    struct Given {
        _folder: tempfile::TempDir,
        ahead: Ahead,
    }

    /// Where rustc is to put what it makes.
    fn out(session: &Path) -> PathBuf {
        session.join("target/deps")
    }

    fn given(rustc: &str) -> Given {
        let folder = tempfile::tempdir().unwrap();
        let session = folder.path().join("session");
        for folder in [session.join("src"), out(&session)] {
            fs::create_dir_all(folder).unwrap();
        }
        let mut ahead = Ahead::new(&session, folder.path().join("cells"));
        fs::write(session.join(FILE), written(1, "f();\n")).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", rustc, "--crate-name", "ctx", "--out-dir"]).arg(out(&ahead.session));
        command.arg(format!("{PRELUDE}=prelude"));
        note(ahead.session.to_str().unwrap(), &command).unwrap();
        ahead.end("", true, std::iter::empty());
        Given { _folder: folder, ahead }
    }

    /// As evcxr does: has one cell analysed and one compiled, and cargo asks for `g()`.
    fn hand_over(given: &Given, analysed: &str, compiled: Option<&str>) -> Option<Output> {
        let session = &given.ahead.session;
        let begun = given.ahead.begin("").unwrap();
        let analysis = format!(
            "use a::b;\n            struct EvcxrUserCodeError {{}}\n\nasync fn evcxr_analysis_wrapper(\n\
             ) -> Result<(), EvcxrUserCodeError> {{\n{analysed}Ok(())\n}}\n"
        );
        let write = |source: String| {
            fs::write(session.join(FILE), source).unwrap();
            std::thread::sleep(Duration::from_millis(200));
        };
        write(analysis);
        if let Some(compiled) = compiled {
            write(written(2, compiled));
        }
        let call: Call = serde_json::from_slice(&fs::read(session.join(FOLDER).join(CALL)).unwrap()).unwrap();
        let asked = call.cell(&given.ahead.cells, &written(2, "g();\n")).unwrap();
        let taken = take(session, asked.name(), &out(session));
        drop(begun);
        assert!(take(session, asked.name(), &out(session)).is_none(), "the next cell is another");
        taken
    }

    #[test]
    fn what_is_begun_is_handed_over() {
        let given = given("sleep 0.4; echo bytes > $3/libctx.so; echo $3 > $3/ctx.d; cat src/lib.rs >&2");
        let output = hand_over(&given, "g();\n", None).unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("fn run_user_code_2"));
        let out = out(&given.ahead.session);
        assert_eq!(fs::read_to_string(out.join("libctx.so")).unwrap(), "bytes\n");
        assert_eq!(fs::read_to_string(out.join("ctx.d")).unwrap().trim(), out.to_str().unwrap());
    }

    #[test]
    fn what_is_written_counts_more_than_what_was_told() {
        let given = given("grep -q 'g();' src/lib.rs || sleep 60");
        let begin = std::time::Instant::now();
        for analysed in ["h();\n", "let a = unknown();\n"] {
            assert!(hand_over(&given, analysed, None).is_none());
            assert!(hand_over(&given, analysed, Some("g();\n")).unwrap().status.success());
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "rustc is stopped");
    }

    #[test]
    fn a_failure_is_that_of_the_same_text_alone() {
        let given = given("exit 3");
        assert!(hand_over(&given, "g();\n", None).is_none(), "evcxr has not written it");
        assert_eq!(hand_over(&given, "g();\n", Some("g();\n")).unwrap().status.code(), Some(3));
    }

    #[test]
    fn what_rustc_did_not_end_is_not_handed_over() {
        assert!(hand_over(&given("kill -9 $$"), "g();\n", None).is_none());
    }

    #[test]
    fn a_cell_that_reads_a_file_or_speaks_to_evcxr_is_not_told() {
        assert!(may_be_told("Vgg16::new(Weights::Demo).include_top(false)"));
        for code in ["include_str!(\"a\")", "f();\n  :dep a = \"1\""] {
            assert!(!may_be_told(code), "{code}");
        }
    }
}
