//! The `headstart run` command: executes notebooks without Jupyter.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use headstart_frame::Answer;
use serde_json::{Value, json};

use crate::cli::html;
use crate::cli::notebook::{
    check_writable, is_meant_to_fail, is_skipped, joined, read_notebook, to_text, write_whole,
};
use crate::cli::parameters::{self, Parameter};
use crate::cli::stop;
use crate::compile::cell::quits;
use crate::engine::handle::{Engine, Stage};
use crate::engine::output::{CellError, Event, Outcome, Output, saved_media};

/// Interval at which the timer of a cell checks whether the prelude has loaded (50 ms).
const LOADING_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Options of `headstart run`.
#[derive(clap::Args)]
pub struct Options {
    /// Value for a variable of the cell tagged `parameters`, as for papermill; may be repeated.
    #[arg(short = 'p', long = "parameter", value_name = "NAME=VALUE", value_parser = Parameter::parse)]
    parameters: Vec<Parameter>,
    /// Continue after a cell that fails.
    #[arg(long)]
    allow_errors: bool,
    /// Stop a cell that runs longer than this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let found = text.parse().ok().filter(|seconds| *seconds > 0.0);
    found
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("expected a positive number of seconds, found {text:?}"))
}

/// Runs every code cell of a notebook in order, writes the notebook with its outputs and returns it.
///
/// Stops at the first cell that fails, writes the outputs so far, and returns an error. It continues if errors
/// are allowed or the cell has the tag `raises-exception`. A failed session or a stopped run always ends it.
pub fn run_notebook(
    engine: &Engine,
    run: &stop::Run,
    from: &Path,
    to: &Path,
    page: Option<&Path>,
    options: &Options,
) -> Result<Value, String> {
    let mut notebook = read_notebook(from)?;
    check_writable(to)?;
    if !options.parameters.is_empty() {
        parameters::inject(&mut notebook, &options.parameters, from)?;
    }
    let cells = notebook["cells"].as_array_mut().ok_or_else(|| format!("{} has no cells", from.display()))?;
    let failure = run_cells(engine, cells, options, run);
    write_whole(to, to_text(&notebook) + "\n")?;
    if let Some(page) = page {
        write_whole(page, html::page(&notebook, &title(from)))?;
    }
    match failure {
        None => Ok(notebook),
        Some((count, error)) => {
            Err(format!("{}: cell {count} failed\n{}", from.display(), in_terminal(&error)))
        }
    }
}

/// Runs the code cells until one fails; returns its number and error.
fn run_cells(
    engine: &Engine,
    cells: &mut [Value],
    options: &Options,
    run: &stop::Run,
) -> Option<(usize, CellError)> {
    let mut failure = None;
    let mut count = 0;
    let background = Background::collect(engine);
    let mut displays = Displays::new();
    let mut has_quit = false;
    let runs = |cell: &Value| cell["cell_type"] == "code" && !is_skipped(cell);
    let numbers: Vec<usize> = (0..cells.len()).filter(|number| runs(&cells[*number])).collect();
    let mut last = None;
    for number in &numbers {
        let cell = &mut cells[*number];
        cell["outputs"] = json!([]);
        cell["execution_count"] = Value::Null;
        let code = joined(&cell["source"]);
        if failure.is_some() || has_quit || code.trim().is_empty() {
            continue;
        }
        has_quit = quits(&code);
        count += 1;
        eprintln!("[{count}/{}] {}", numbers.len(), code.lines().next().unwrap_or_default());
        let (mut outputs, mut outcome) = match run.is_stopped() {
            true => (Vec::new(), Ok(None)),
            false => run_cell(engine, code, options.timeout),
        };
        outputs.splice(..0, background.take());
        let is_stopped = run.is_stopped();
        if is_stopped && outcome.is_ok() {
            outcome = Err(CellError::interrupted("when the run was stopped", &BTreeSet::new()));
        }
        cell["execution_count"] = json!(count);
        let (shown, new) = cell_outputs(&outputs, &outcome, count);
        cell["outputs"] = shown;
        update(cells, &displays, &outputs);
        displays.extend(new.into_iter().map(|(id, at)| (id, *number, at)));
        last = Some(*number);
        let ends_run = |error: &CellError| is_stopped || error.is_of_session();
        let error = outcome.err().filter(|error| ends_run(error) || !is_meant_to_fail(&cells[*number]));
        if options.allow_errors && !error.as_ref().is_some_and(ends_run) {
            error.iter().for_each(|error| eprintln!("cell {count} failed\n{}", in_terminal(error)));
        } else {
            failure = error.map(|error| (count, error));
        }
    }
    // Output of threads after the last cell.
    let rest = background.take();
    if let Some(outputs) = last.and_then(|last| cells[last]["outputs"].as_array_mut()) {
        let (Value::Array(more), _) = cell_outputs(&rest, &Ok(None), count) else { return failure };
        outputs.extend(more);
    }
    update(cells, &displays, &rest);
    failure
}

/// Runs code as one cell, without a notebook.
///
/// # Errors
/// The error of the cell.
pub fn run_code(engine: &Engine, code: String) -> Result<(), String> {
    let _background = Background::collect(engine);
    outputs_of(engine, code).1.map(drop).map_err(|error| in_terminal(&error))
}

/// The error as text, with colours if standard error is a terminal.
fn in_terminal(error: &CellError) -> String {
    if std::io::stderr().is_terminal() { error.traceback.join("\n") } else { error.plain() }
}

/// Output that background threads of the cells write between cells. It is put before the next cell's
/// outputs.
#[derive(Clone, Default)]
struct Background(Arc<Mutex<Vec<Output>>>);

impl Background {
    /// Starts to collect background output, and shows its text immediately.
    fn collect(engine: &Engine) -> Background {
        let background = Background::default();
        if let Some(mut received) = engine.background() {
            let collected = background.clone();
            std::thread::spawn(move || {
                while let Some((_, output)) = received.blocking_recv() {
                    show(&output);
                    collected.outputs().push(output);
                }
            });
        }
        background
    }

    fn outputs(&self) -> MutexGuard<'_, Vec<Output>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<Output> {
        std::mem::take(&mut *self.outputs())
    }
}

/// Prints text output to the terminal.
fn show(output: &Output) {
    match output {
        Output::Stdout(text) => print!("{text}"),
        Output::Stderr(text) => eprint!("{text}"),
        Output::Display { .. }
        | Output::Update { .. }
        | Output::Clear { .. }
        | Output::Comm(_)
        | Output::CommsEnded => {}
    }
    let _ = std::io::stdout().flush();
}

/// Runs one cell and streams its text to the terminal. Interrupts the cell at the timeout, which begins when the
/// prelude has loaded: its compilation may take longer.
fn run_cell(engine: &Engine, code: String, timeout: Option<Duration>) -> (Vec<Output>, Outcome) {
    let Some(timeout) = timeout else { return outputs_of(engine, code) };
    std::thread::scope(|scope| {
        let (ended, end) = crossbeam_channel::bounded::<()>(0);
        let timer = scope.spawn(move || {
            while matches!(*engine.stage().borrow(), Stage::Loading(_)) {
                if end.recv_timeout(LOADING_POLL_INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return false;
                }
            }
            let is_late = end.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout);
            if is_late {
                engine.interrupt();
            }
            is_late
        });
        let (outputs, outcome) = outputs_of(engine, code);
        drop(ended);
        let is_late = timer.join().unwrap_or_default();
        let late = |_| {
            CellError::new("TimeoutError", &format!("the cell ran longer than {timeout:?} and was stopped"))
        };
        (outputs, if is_late { outcome.map_err(late) } else { outcome })
    })
}

/// Runs one cell and streams its text to the terminal.
fn outputs_of(engine: &Engine, code: String) -> (Vec<Output>, Outcome) {
    let mut received = engine.execute(code);
    let mut outputs = Vec::new();
    while let Some(event) = received.blocking_recv() {
        match event {
            Event::Done(outcome) => return (outputs, outcome),
            Event::Input { prompt, question, .. } => {
                eprint!("{prompt}");
                // In a thread, because the cell can be stopped while it waits for the line.
                std::thread::spawn(move || {
                    let mut line = String::new();
                    question.answer(&match std::io::stdin().read_line(&mut line) {
                        Ok(length) if length > 0 => {
                            Answer::Text(line.trim_end_matches(['\r', '\n']).to_owned())
                        }
                        _ => Answer::NoInput,
                    });
                });
            }
            Event::Output(output) => {
                show(&output);
                outputs.push(output);
            }
        }
    }
    (outputs, Err(CellError::engine_stopped()))
}

/// Places of displays in the notebook: name, number of the cell, and number of the output.
type Displays = Vec<(String, usize, usize)>;

/// Applies a cell's updates of displays that earlier cells have shown.
fn update(cells: &mut [Value], displays: &Displays, outputs: &[Output]) {
    for output in outputs {
        let Output::Update { id, data } = output else { continue };
        for (_, cell, at) in displays.iter().filter(|(known, ..)| known == id) {
            if let Some(output) = cells[*cell]["outputs"].get_mut(*at) {
                output["data"] = saved_media(data);
            }
        }
    }
}

/// Converts outputs to the notebook format: joins streams, and keeps the last state of each display. Also returns the
/// names of the displays, and their numbers among the outputs.
fn cell_outputs(outputs: &[Output], outcome: &Outcome, count: usize) -> (Value, Vec<(String, usize)>) {
    let mut list: Vec<Value> = Vec::new();
    let mut ids: Vec<(String, usize)> = Vec::new();
    let mut clear = false;
    for output in outputs {
        if std::mem::take(&mut clear) {
            list.clear();
            ids.clear();
        }
        match output {
            Output::Clear { wait: true } => clear = true,
            Output::Clear { wait: false } => {
                list.clear();
                ids.clear();
            }
            Output::Stdout(text) => stream(&mut list, "stdout", text),
            Output::Stderr(text) => stream(&mut list, "stderr", text),
            Output::Display { id, data } => {
                ids.push((id.clone(), list.len()));
                list.push(json!({"output_type": "display_data", "data": saved_media(data), "metadata": {}}));
            }
            Output::Comm(_) | Output::CommsEnded => {}
            Output::Update { id, data } => {
                if let Some((_, at)) = ids.iter().find(|(known, _)| known == id) {
                    list[*at]["data"] = saved_media(data);
                }
            }
        }
    }
    match outcome {
        Ok(None) => {}
        Ok(Some(data)) => list.push(json!({
            "output_type": "execute_result", "execution_count": count, "data": saved_media(data), "metadata": {}
        })),
        Err(error) => list.push(json!({
            "output_type": "error", "ename": error.name, "evalue": error.value, "traceback": error.traceback
        })),
    }
    (Value::Array(list), ids)
}

fn stream(list: &mut Vec<Value>, name: &str, text: &str) {
    match list.last_mut().filter(|output| output["name"] == name).map(|output| &mut output["text"]) {
        Some(Value::String(before)) => before.push_str(text),
        _ => list.push(json!({"output_type": "stream", "name": name, "text": text})),
    }
}

fn title(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_joined_and_displays_keep_their_last_state() {
        let text = |text: &str| vec![("text/plain".to_owned(), text.to_owned())];
        let outputs = [
            Output::Stdout("a\n".into()),
            Output::Stdout("b\n".into()),
            Output::Display { id: "1".into(), data: text("first") },
            Output::Stderr("c\n".into()),
            Output::Update { id: "1".into(), data: text("last") },
        ];
        let (value, displays) = cell_outputs(&outputs, &Ok(Some(text("7"))), 3);
        assert_eq!(displays, [("1".to_owned(), 1)]);
        assert_eq!(value[0]["text"], "a\nb\n");
        assert_eq!(value[1]["data"]["text/plain"], "last");
        assert_eq!(value[2]["name"], "stderr");
        assert_eq!(value[3]["execution_count"], 3);
        assert_eq!(value.as_array().unwrap().len(), 4);
    }

    #[test]
    fn cleared_output_is_removed_or_waits_for_new_output() {
        let line = |text: &str| Output::Stdout(text.into());
        let last = |outputs: &[Output]| cell_outputs(outputs, &Ok(None), 1).0;
        assert_eq!(last(&[line("a"), Output::Clear { wait: false }]).as_array().unwrap().len(), 0);
        assert_eq!(last(&[line("a"), Output::Clear { wait: true }])[0]["text"], "a");
        assert_eq!(last(&[line("a"), Output::Clear { wait: true }, line("b")])[0]["text"], "b");
    }
}
