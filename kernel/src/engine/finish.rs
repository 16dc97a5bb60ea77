//! End of a cell: warnings, lost variables, and the outcome.

use std::collections::BTreeSet;
use std::time::SystemTime;

use evcxr::{Error, EvalOutputs};
use tokio::sync::mpsc::Sender;

use crate::compile::command_lines::has;
use crate::compile::evcxr_text::commands::{CLEAR, RESTART};
use crate::compile::{redefined, restore, timing, warnings};
use crate::engine::collected::Collected;
use crate::engine::hints::Cause;
use crate::engine::interrupt::Cells;
use crate::engine::known::Variables;
use crate::engine::load::Loaded;
use crate::engine::output::{Bundle, CellError, Event, Outcome, Output};
use crate::engine::prepare::Prepared;
use crate::engine::report::describe;
use crate::engine::{notes, positions};
use crate::prelude::session;
use crate::prelude::tokens::identifiers;

/// Part of tokio's message for a call outside its runtime.
const NO_RUNTIME: &str = "there is no reactor running";

/// A cell whose code has ended.
pub struct FinishedCell<'a> {
    /// The cell as the user sent it.
    pub cell: &'a str,
    /// The cell without the commands before its code.
    pub code: &'a str,
    pub prepared: Prepared,
    /// The variables before the cell.
    pub before: Variables,
    pub result: Result<EvalOutputs, Error>,
    pub collected: Collected,
    pub is_interrupted: bool,
    pub begin: SystemTime,
}

impl Loaded {
    /// Completes a cell and returns its outcome for the user.
    pub fn finish(&mut self, cells: &Cells, mut ran: FinishedCell, events: &Sender<Event>) -> Outcome {
        self.warn(&ran.prepared, ran.result.is_ok(), events);
        let source = self.context.last_source().unwrap_or_default();
        let restored = match ran.collected.failed() {
            // Only rewritten cells save values.
            true if self.is_rewritten => self.restore(&ran.before, &source),
            _ => BTreeSet::new(),
        };
        let cleared = self.record_lost(&ran);
        self.prepare_compilation_ahead(ran.code, ran.result.is_ok());
        match std::mem::replace(&mut ran.result, Ok(EvalOutputs::default())) {
            Err(Error::SubprocessTerminated(text)) => {
                if !cells.is_stopping() {
                    // Tells the new process how to report a panic. A failure here will show up there.
                    let _ = self.begin_process();
                }
                let kept = session::checkpointed_models(&self.checkpoints);
                let lost = ran.before.into_keys().collect();
                let fatal = ran.collected.fatal.as_deref();
                Err(CellError::process_ended(&text, ran.is_interrupted, fatal, &lost, &kept))
            }
            Err(_) if ran.is_interrupted => {
                Err(CellError::interrupted("while it was being compiled", &cleared))
            }
            Err(error) => Err(describe(&error, &ran.prepared, ran.code, &self.gone)),
            Ok(_) if ran.collected.failed() => Err(failure(ran, &source, &restored)),
            // For example, `fit` stops and returns normally when interrupted; the statements after it do
            // not run.
            Ok(_) if ran.is_interrupted => Err(CellError::interrupted("while it ran", &cleared)),
            Ok(outputs) => Ok(self.value(outputs, ran, events)),
        }
    }

    /// Records the variables that the cell has lost, with the cause, and returns them.
    fn record_lost(&mut self, ran: &FinishedCell) -> BTreeSet<String> {
        let items: BTreeSet<&str> = self.context.defined_item_names().collect();
        let cause = cause(ran.cell, &ran.result, ran.collected.failed());
        let cause_of = |name: &str| {
            let type_ = ran.before.get(name).map_or("", String::as_str);
            match cause == Cause::Moved && is_retyped(name, type_, &items, ran.code) {
                true => Cause::Retyped,
                false => cause,
            }
        };
        let before: BTreeSet<String> = ran.before.keys().cloned().collect();
        let after = self.variables().into_keys().collect();
        // For a cell that consists of commands such as `:clear`, shows the command.
        let shown = if ran.code.trim().is_empty() { ran.cell } else { ran.code };
        self.gone.note(&before, &after, shown, cause_of);
        self.gone.record_local(ran.prepared.local(), shown);
        before.difference(&after).cloned().collect()
    }

    /// Records the variables that were lost in a cell whose commands failed or were stopped, and returns them.
    pub fn record_cleared(&mut self, before: &Variables, cell: &str) -> BTreeSet<String> {
        let before: BTreeSet<String> = before.keys().cloned().collect();
        let after = self.variables().into_keys().collect();
        let is_cleared = has(cell, CLEAR) || has(cell, RESTART);
        let cause = if is_cleared { Cause::Cleared } else { Cause::Retyped };
        self.gone.note(&before, &after, cell, |_| cause);
        before.difference(&after).cloned().collect()
    }

    /// The value to show for the cell.
    fn value(&self, outputs: EvalOutputs, ran: FinishedCell, events: &Sender<Event>) -> Option<Bundle> {
        let FinishedCell { begin, mut collected, .. } = ran;
        if let Some(whole) = outputs.timing {
            let phases: Vec<_> =
                outputs.phases.into_iter().map(|phase| (phase.name, phase.duration)).collect();
            let line = timing::line(whole, &phases, begin, &self.folder);
            let _ = events.blocking_send(Event::Output(Output::Stdout(line)));
        }
        // The outputs of evcxr's commands, such as `:vars`, are shown before the cell's value.
        let mut data: Bundle = outputs.content_by_mime_type.into_iter().collect();
        let value = std::mem::take(&mut collected.value);
        if !value.is_empty() {
            show_bundle(std::mem::replace(&mut data, value), events);
        }
        data.sort_unstable_by(|a, b| b.0.cmp(&a.0));
        let is_unit = matches!(data.as_slice(), [(mime, text)] if mime == "text/plain" && text == "()");
        (!data.is_empty() && !is_unit).then_some(data)
    }

    /// Shows rustc's warnings, if the cell ran, and notes on differences between a notebook and a program.
    fn warn(&self, prepared: &Prepared, has_run: bool, events: &Sender<Event>) {
        let mut lines = Vec::new();
        let found = warnings::take(&self.folder);
        if !has_run {
            return;
        }
        let source = self.context.last_source().unwrap_or_default();
        if !found.is_empty() {
            for (message, line) in found {
                if let Some((number, text)) = line_of(prepared, &source, line) {
                    lines.push(format!(
                        "warning: {message}\n{number:>4} │ {text}\n{}",
                        warnings::remedy(&message)
                    ));
                }
            }
        }
        if let Some(block) = prepared.block() {
            lines.extend(notes::notes(&block.stmts, &source));
            let lasting = prepared.local().iter().filter(|name| !redefined::may_move(&block.stmts, name));
            lines.extend(lasting.map(|name| {
                format!("note: later cells cannot use `{name}`: it borrows from this cell, holds a standard stream, or has a type \
                     without a name")
            }));
        }
        for line in lines {
            let _ = events.blocking_send(Event::Output(Output::note(line + "\n")));
        }
    }

    /// Restores variables that the failed cell took out of the store to redefine them.
    fn restore(&mut self, before: &Variables, source: &str) -> BTreeSet<String> {
        let after = self.variables();
        let lost: Vec<_> = before.iter().filter(|(name, _)| !after.contains_key(*name)).collect();
        let saved = restore::saved(&lost, source);
        let all: String = saved.iter().map(|(_, code)| code.as_str()).collect();
        if !all.is_empty() && self.context.execute(&all).is_err() && saved.len() > 1 {
            for (_, code) in &saved {
                let _ = self.context.execute(code);
            }
        }
        let there = self.variables();
        saved.into_iter().map(|(name, _)| name).filter(|name| there.contains_key(name)).collect()
    }
}

/// Shows what evcxr's commands return, such as the table of `:vars`.
pub fn show(outputs: EvalOutputs, events: &Sender<Event>) {
    show_bundle(outputs.content_by_mime_type.into_iter().collect(), events);
}

/// Shows a value that is not the last one of its cell.
pub fn show_bundle(mut data: Bundle, events: &Sender<Event>) {
    if !data.is_empty() {
        data.sort_unstable_by(|a, b| b.0.cmp(&a.0));
        let id = format!("headstart-command-{:?}", SystemTime::now());
        let _ = events.blocking_send(Event::Output(Output::Display { id, data }));
    }
}

/// Error of a cell whose code failed.
fn failure(ran: FinishedCell, source: &str, restored: &BTreeSet<String>) -> CellError {
    let FinishedCell { prepared, mut collected, is_interrupted, .. } = ran;
    let text = collected.error.take().unwrap_or_default();
    let place = |line: u32| line_of(&prepared, source, line as usize);
    let mut error = match collected.panic.take() {
        Some((message, line)) => CellError::at("Panic", &message, line.and_then(place)),
        None if is_interrupted => {
            CellError::new("Interrupted", text.strip_prefix("interrupted; ").unwrap_or(&text))
        }
        None => CellError::at("Error", &text, place(collected.error_line)),
    };
    if error.value.contains(NO_RUNTIME) {
        error.traceback.push(
            "hint: run `tokio::task::yield_now().await;` in a cell: later cells then run in tokio's runtime"
                .into(),
        );
    }
    if !restored.is_empty() {
        let names: Vec<_> = restored.iter().map(|name| format!("`{name}`")).collect();
        error.traceback.push(format!("note: {} from before this cell", with_values(&names)));
    }
    error
}

/// Converts a line of the compiled source to the cell's line number and text.
fn line_of<'a>(prepared: &'a Prepared, source: &str, line: usize) -> Option<(usize, &'a str)> {
    let cell = prepared.plain();
    let number = positions::cell_line(cell, prepared.block()?, source, line)?;
    Some((number, cell.lines().nth(number - 1)?))
}

/// Cause for the loss of variables in a cell.
fn cause<T>(code: &str, result: &Result<T, Error>, failed: bool) -> Cause {
    match result {
        Err(Error::SubprocessTerminated(_)) => Cause::ProcessEnded,
        _ if has(code, CLEAR) || has(code, RESTART) => Cause::Cleared,
        _ if failed => Cause::Failed,
        Err(_) => Cause::Retyped,
        Ok(_) => Cause::Moved,
    }
}

/// Whether a variable is lost because its type, which a cell defines, was compiled again.
fn is_retyped(name: &str, type_: &str, items: &BTreeSet<&str>, code: &str) -> bool {
    let has = |text: &str| identifiers(code).any(|word| word == text);
    let mut own = identifiers(type_).filter(|word| items.contains(word)).peekable();
    own.peek().is_some() && (!has(name) || own.any(has))
}

fn with_values(names: &[String]) -> String {
    match names {
        [name] => format!("{name} has its value"),
        names => format!("{} have their values", names.join(", ")),
    }
}
