//! Compilation ahead: rustc runs while evcxr still analyses a cell and starts cargo for it.
//!
//! The source for rustc is predicted from the analysed one ([`crate::compile::predict`]), so rustc starts
//! immediately. Without a prediction, it starts as soon as evcxr has written the source. When cargo asks
//! for this source, the wrapper ([`crate::compile::wrapper`]) waits for the result. On a wrong prediction
//! rustc starts again; the cost is CPU time on another core.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::compile::compilation::Compilation;
use crate::compile::evcxr_text::source::{FILE, is_analysis, is_whole, number};
use crate::compile::handover::{Call, PREDICTED, made};
use crate::compile::predict::{self, Forms};
use crate::compile::timing;
use crate::platform::PARSER_STACK;
use crate::prelude::session::AHEAD;

/// File beside the compile cache with the last known type of each expression form.
const FORMS: &str = "forms.json";
/// Maximum number of stored forms. Beyond it, all are dropped and collected again.
const MAX_FORMS: usize = 2000;
/// Poll interval for the source that evcxr writes (300 µs).
const SOURCE_POLL_INTERVAL: Duration = Duration::from_micros(300);
/// Poll interval for the source and for the end of rustc while rustc runs (1 ms).
const RUSTC_POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Compilation of a session's cells ahead of evcxr.
pub struct Ahead {
    session: PathBuf,
    /// The folder of the compile cache.
    cells: PathBuf,
    forms: Arc<Forms>,
    /// The number that evcxr will give the next cell.
    number: Option<usize>,
}

impl Ahead {
    /// Creates the state for a session's folder and a compile cache.
    pub fn new(session: &Path, cells: PathBuf) -> Ahead {
        let forms = fs::read(cells.with_file_name(FORMS)).ok();
        let forms = forms.and_then(|forms| serde_json::from_slice(&forms).ok()).unwrap_or_default();
        // The path as cargo sees it.
        let session = session.canonicalize().unwrap_or_else(|_| session.to_owned());
        Ahead { session, cells, forms: Arc::new(forms), number: None }
    }

    /// Starts to compile a cell that evcxr is about to receive.
    pub fn begin(&self, code: &str) -> Option<AheadCompilation> {
        let has_spare_core = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
        // With `:timing`, the phases run one after another, so that each can be measured.
        if !has_spare_core || !is_predictable(code) || timing::linker(&self.session).is_some() {
            return None;
        }
        let watcher = SourceWatcher {
            session: self.session.clone(),
            cells: self.cells.clone(),
            forms: self.forms.clone(),
            number: self.number?,
            last_source: source_of(&self.session),
        };
        let (over, ended) = bounded(0);
        // A failure only costs speed.
        let run = move || drop(watcher.run(&ended));
        let thread =
            std::thread::Builder::new().name("ahead".into()).stack_size(PARSER_STACK).spawn(run).ok()?;
        Some(AheadCompilation { over: Some(over), thread: Some(thread) })
    }

    /// Records the types of a finished cell's variables. `is_counted`: whether evcxr has increased the cell
    /// number.
    pub fn end<'a>(
        &mut self,
        code: &str,
        is_counted: bool,
        variables: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        if let Some(number) = number(&source_of(&self.session)) {
            self.number = Some(number + usize::from(is_counted));
        }
        if is_counted && predict::record_types(Arc::make_mut(&mut self.forms), code, &variables.collect()) {
            let _ = self.save_forms();
        }
    }

    fn save_forms(&mut self) -> io::Result<()> {
        if self.forms.len() > MAX_FORMS {
            self.forms = Arc::default();
        }
        let part = self.session.join(FORMS);
        fs::write(&part, serde_json::to_vec(&*self.forms)?)?;
        fs::rename(part, self.cells.with_file_name(FORMS))
    }
}

/// Whether a cell can be compiled ahead: it has no command (which may change rustc's arguments), and rustc
/// reads no other file and no environment variable for it.
fn is_predictable(code: &str) -> bool {
    !code.lines().any(|line| line.trim_start().starts_with(':'))
        && !["include!", "include_str!", "include_bytes!", "env!"].iter().any(|name| code.contains(name))
}

/// A cell that is being compiled ahead; dropping it ends the compilation.
pub struct AheadCompilation {
    over: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for AheadCompilation {
    fn drop(&mut self) {
        drop(self.over.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn source_of(session: &Path) -> String {
    fs::read_to_string(session.join(FILE)).unwrap_or_default()
}

/// Polls the source that evcxr writes, first for rust-analyzer and then for rustc.
struct SourceWatcher {
    session: PathBuf,
    cells: PathBuf,
    forms: Arc<Forms>,
    number: usize,
    last_source: String,
}

impl SourceWatcher {
    fn run(mut self, ended: &Receiver<()>) -> io::Result<()> {
        let folder = self.session.join(AHEAD);
        let call = Call::last(&self.session).ok_or(io::ErrorKind::NotFound)?;
        if Path::new(&call.session) != self.session {
            return Ok(());
        }
        let mut compiling: Option<Compiling> = None;
        let mut is_final = false;
        loop {
            let source = source_of(&self.session);
            if source != self.last_source && is_whole(&source) {
                is_final = number(&source).is_some();
                if let Some((cell, source)) = self.cell(&call, &source)
                    && compiling.as_ref().is_none_or(|compiling| !compiling.is_of(&cell))
                {
                    // Only one rustc runs at a time.
                    drop(compiling.take());
                    if !cell.is_cached() {
                        compiling = Some(Compiling::begin(&folder, &cell, &call, &source)?);
                    }
                }
                if is_final && compiling.is_none() {
                    return Ok(());
                }
                self.last_source = source;
            }
            let is_done = compiling.as_mut().map_or(Ok(false), Compiling::is_done)?;
            if is_final && is_done {
                // Wait without polling: the cell may run for a long time.
                let _ = ended.recv();
                return Ok(());
            }
            // After a failure, evcxr may write another source.
            let interval = if compiling.is_some() { RUSTC_POLL_INTERVAL } else { SOURCE_POLL_INTERVAL };
            if ended.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                return Ok(());
            }
        }
    }

    /// Returns the compilation for a source that evcxr wrote, and the source to compile.
    fn cell(&self, call: &Call, written: &str) -> Option<(Compilation, String)> {
        let source = match is_analysis(written) {
            true => predict::source(written, &call.source, self.number, &self.forms)?,
            false => written.to_owned(),
        };
        let cell = call.compilation(&self.cells, &source)?;
        // evcxr's rustc already reads a source that is not rewritten.
        cell.changed()?;
        Some((cell, source))
    }
}

/// A running rustc; killed when dropped.
struct Compiling {
    /// Path of the result file, named after the entry in the compile cache.
    name: PathBuf,
    /// Locked until rustc has ended.
    result: Option<File>,
    rustc: Child,
    messages: PathBuf,
    is_done: bool,
}

impl Compiling {
    fn begin(folder: &Path, cell: &Compilation, call: &Call, source: &str) -> io::Result<Compiling> {
        fs::write(folder.join(FILE), cell.changed().unwrap_or(source))?;
        fs::write(folder.join(PREDICTED), source)?;
        let made = made(cell.out());
        let _ = fs::remove_dir_all(&made);
        fs::create_dir_all(&made)?;
        let arguments = call.arguments.iter().map(|argument| match Path::new(argument) == cell.out() {
            true => made.as_os_str(),
            false => argument.as_ref(),
        });
        // The file is renamed after it is locked.
        let (part, name) = (folder.join("part"), folder.join(cell.name()));
        let result = File::create(&part)?;
        result.lock()?;
        let messages = folder.join("messages");
        let rustc = Command::new(&call.rustc)
            .args(arguments)
            .env_clear()
            .envs(call.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&messages)?)
            .spawn()?;
        fs::rename(&part, &name)?;
        Ok(Compiling { name, result: Some(result), rustc, messages, is_done: false })
    }

    fn is_of(&self, cell: &Compilation) -> bool {
        self.name.file_name() == Some(cell.name())
    }

    /// Whether rustc has ended and succeeded. When it ends, its status and messages are handed over.
    fn is_done(&mut self) -> io::Result<bool> {
        let Some(result) = &mut self.result else { return Ok(self.is_done) };
        if let Some(status) = self.rustc.try_wait()? {
            let messages = fs::read_to_string(&self.messages)?;
            if status.code().is_some() && write!(result, "{}\n{messages}", status.into_raw()).is_err() {
                result.set_len(0)?;
            }
            (self.result, self.is_done) = (None, status.success());
        }
        Ok(self.is_done)
    }
}

impl Drop for Compiling {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.name);
        if self.result.is_some() {
            let _ = self.rustc.kill();
            let _ = self.rustc.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Output;

    use crate::compile::evcxr_text::source::written;
    use crate::compile::handover::{note, take};
    use crate::prelude::facade::PRELUDE;

    /// A session after its first cell, with a script in place of rustc.
    struct TestSession {
        _folder: tempfile::TempDir,
        ahead: Ahead,
    }

    /// Output folder of rustc.
    fn out(session: &Path) -> PathBuf {
        session.join("target/deps")
    }

    fn given(rustc: &str) -> TestSession {
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
        TestSession { _folder: folder, ahead }
    }

    /// Does what evcxr does: writes one source for analysis and one for compilation; then cargo asks for
    /// `g()`.
    fn hand_over(given: &TestSession, analysed: &str, compiled: Option<&str>) -> Option<Output> {
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
        let call = Call::last(session).unwrap();
        let compilation = call.compilation(&given.ahead.cells, &written(2, "g();\n")).unwrap();
        let taken = take(session, compilation.name(), &out(session));
        drop(begun);
        assert!(take(session, compilation.name(), &out(session)).is_none(), "the next cell is another");
        taken
    }

    #[test]
    fn a_result_is_handed_over() {
        let given = given("sleep 0.4; echo bytes > $3/libctx.so; echo $3 > $3/ctx.d; cat src/lib.rs >&2");
        let output = hand_over(&given, "g();\n", None).unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("fn run_user_code_2"));
        let out = out(&given.ahead.session);
        assert_eq!(fs::read_to_string(out.join("libctx.so")).unwrap(), "bytes\n");
        assert_eq!(fs::read_to_string(out.join("ctx.d")).unwrap().trim(), out.to_str().unwrap());
    }

    #[test]
    fn the_written_source_replaces_a_wrong_prediction() {
        let given = given("grep -q 'g();' src/lib.rs || sleep 60");
        let begin = std::time::Instant::now();
        for analysed in ["h();\n", "let a = unknown();\n"] {
            assert!(hand_over(&given, analysed, None).is_none());
            assert!(hand_over(&given, analysed, Some("g();\n")).unwrap().status.success());
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "rustc is stopped");
    }

    #[test]
    fn a_failure_is_handed_over_only_for_the_same_source() {
        let given = given("exit 3");
        assert!(hand_over(&given, "g();\n", None).is_none(), "evcxr has not written it");
        assert_eq!(hand_over(&given, "g();\n", Some("g();\n")).unwrap().status.code(), Some(3));
    }

    #[test]
    fn nothing_is_handed_over_from_a_killed_rustc() {
        assert!(hand_over(&given("kill -9 $$"), "g();\n", None).is_none());
    }

    #[test]
    fn a_cell_that_reads_a_file_or_has_a_command_is_not_predicted() {
        assert!(is_predictable("Vgg16::new(Weights::Demo).include_top(false)"));
        for code in ["include_str!(\"a\")", "option_env!(\"A\")", "f();\n  :dep a = \"1\""] {
            assert!(!is_predictable(code), "{code}");
        }
    }
}
