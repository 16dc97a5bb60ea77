//! Execution of a cell in evcxr's context: its commands, its code, and the commands after it.

use std::collections::BTreeSet;
use std::time::SystemTime;

use crossbeam_channel::Receiver;
use evcxr::{Error, EvalOutputs};
use tokio::sync::mpsc::Sender;

use crate::compile::cell::blanks;
use crate::compile::command_lines::{self, has};
use crate::compile::evcxr_text::commands::{CLEAR, FORMAT, RESTART, TIMING};
use crate::compile::{timing, unusable};
use crate::engine::certificates;
use crate::engine::commands::{self, Step, last_commands};
use crate::engine::finish::{self, FinishedCell};
use crate::engine::guard::guarded;
use crate::engine::interrupt::Cells;
use crate::engine::known::Variables;
use crate::engine::load::{BEGIN, END, Loaded};
use crate::engine::output::{CellError, Event, Outcome, Output};
use crate::engine::prepare::Prepared;
use crate::engine::report::{describe, outlives, unstorable_variables};
use crate::engine::request::Request;
use crate::engine::{lint_levels, notes, trait_paths};

/// Serves requests until the engine stops.
pub fn serve(cells: &Cells, mut loaded: Result<Loaded, String>, queue: &Receiver<Request>) {
    for request in queue {
        match (&mut loaded, request) {
            (_, Request::Stop) => return,
            (Ok(loaded), Request::Execute { number, code, events }) => {
                if cells.begin(number) {
                    let outcome = guarded(|| loaded.execute(cells, &code, &events));
                    let outcome =
                        outcome.unwrap_or_else(|problem| Err(CellError::new("EngineError", &problem)));
                    cells.known.set_types(loaded.variables());
                    cells.end(number);
                    let _ = events.blocking_send(Event::Done(outcome));
                }
            }
            (Ok(loaded), Request::Complete { code, position, answer }) => {
                if let Ok(found) = guarded(|| loaded.complete(&code, position)) {
                    let _ = answer.send(found);
                }
            }
            (Ok(loaded), Request::Inspect { code, position, answer }) => {
                if let Ok(found) = guarded(|| loaded.inspect(&code, position)) {
                    let _ = answer.send(found);
                }
            }
            (Err(problem), Request::Execute { number, events, .. }) => {
                if cells.begin(number) {
                    cells.end(number);
                    let _ = events.blocking_send(Event::Done(Err(CellError::start(problem))));
                }
            }
            // Dropping the sender sends an empty reply.
            (Err(_), _) => {}
        }
    }
}

impl Loaded {
    /// Runs a cell: the statements between commands one after the other.
    fn execute(&mut self, cells: &Cells, cell: &str, events: &Sender<Event>) -> Outcome {
        let items = self.context.defined_item_names().map(str::to_owned);
        command_lines::set_defined(self.variables().into_keys().chain(items).collect());
        if let Some(problem) = commands::refused(cell) {
            return Err(CellError::new("Error", &problem));
        }
        let mut value = None;
        for (at, part) in commands::parts(cell).iter().enumerate() {
            if at > 0 && !cells.begin_part() {
                return Err(CellError::interrupted("between two statements", &BTreeSet::new()));
            }
            if let Some(value) = value.take() {
                finish::show_bundle(value, events);
            }
            value = self.execute_part(cells, part, events)?;
            if self.listener.has_returned() {
                break;
            }
        }
        Ok(value)
    }

    /// Runs a cell, or a part of it: commands, and the code after them.
    fn execute_part(&mut self, cells: &Cells, cell: &str, events: &Sender<Event>) -> Outcome {
        let before = self.variables();
        self.listener.begin(events.clone());
        if let Some(note) = self.note.take() {
            let _ = events.blocking_send(Event::Output(Output::note(note)));
        }
        self.load_config(events);
        let begin = SystemTime::now();
        if let Some(note) = self.loses_by_dependency(cell, &before) {
            let _ = events.blocking_send(Event::Output(Output::note(note)));
        }
        let code = match self.run_commands(cells, cell, events) {
            Ok(code) => code,
            Err(error) => {
                self.listener.finish();
                let is_interrupted = cells.is_interrupted();
                cells.finish();
                let cleared = self.record_cleared(&before, cell);
                return Err(match is_interrupted {
                    true => CellError::interrupted("while a command ran", &cleared),
                    false => error,
                });
            }
        };
        // evcxr handles only the commands before the code.
        let (statements, commands) = code.split_at(last_commands(&code).unwrap_or(code.len()));
        let mut prepared = Prepared::new(statements);
        prepared.give_types(&before);
        prepared.know_items(self.context.defined_item_names());
        if let Some(note) = prepared.block().and_then(|block| notes::input_note(&block.stmts)) {
            let _ = events.blocking_send(Event::Output(Output::note(note.to_owned())));
        }
        if !lint_levels::edits(&code).is_empty() {
            let _ = events.blocking_send(Event::Output(Output::note(lint_levels::NOTE.to_owned())));
        }
        self.listener.expect_value(prepared.has_value());
        let result = self.run_code(&mut prepared);
        let result = self.run_last_commands(cells, &code, commands, &mut prepared, result, events);
        let collected = match &result {
            Err(Error::SubprocessTerminated(_)) => self.listener.finish_ended(),
            _ => self.listener.finish(),
        };
        let is_interrupted = cells.is_interrupted();
        // From here on, the kernel's own code runs, which Stop does not affect.
        cells.finish();
        let ran =
            FinishedCell { cell, code: &code, prepared, before, result, collected, is_interrupted, begin };
        self.finish(cells, ran, events)
    }

    /// Runs the commands before a cell's code, and returns the cell without them.
    fn run_commands(
        &mut self,
        cells: &Cells,
        cell: &str,
        events: &Sender<Event>,
    ) -> Result<String, CellError> {
        if let Some(command) = certificates::for_cell(cell) {
            let _ = self.context.execute(&command);
        }
        let (steps, code) = commands::split(cell);
        for step in steps {
            match step {
                Step::Shell(command) => commands::run(&command, cells, &self.listener)?,
                Step::Clear | Step::Restart => {
                    cells.restarts();
                    let prepared = match step {
                        Step::Clear => self.clear(),
                        _ => self.restart_process(),
                    };
                    let is_interrupted = cells.has_restarted();
                    prepared?;
                    if is_interrupted {
                        return Err(CellError::interrupted("after a command", &BTreeSet::new()));
                    }
                }
                Step::Evcxr(lines) => finish::show(self.run_lines(&lines)?, events),
            }
        }
        Ok(code)
    }

    /// Deletes everything that the cells have defined, and loads the prelude again.
    fn clear(&mut self) -> Result<(), CellError> {
        let load = self.load.clone();
        self.drop_variables();
        self.run_lines(CLEAR)?;
        self.dependencies.clear();
        self.listener.process_has_ended();
        self.run_lines(&load)?;
        // The process is another one.
        self.set_format();
        Ok(())
    }

    /// Ends the cells' process and prepares the next one. With `:restart`, evcxr would still try to take the
    /// variables of the ended process; if the process ends during a cell, it does not.
    fn restart_process(&mut self) -> Result<(), CellError> {
        if !matches!(self.context.execute(END), Err(Error::SubprocessTerminated(_))) {
            // The cell did not run, because it was compiled for another variable store.
            let _ = self.context.execute(RESTART);
            let _ = self.context.execute(END);
        }
        self.listener.process_has_ended();
        // Sets up Stop and the report of panics in the new process.
        self.begin_process()
    }

    /// Drops the variables, before `:clear` kills their process.
    fn drop_variables(&mut self) {
        if !self.variables().is_empty() {
            let _ = self.context.execute(END);
        }
    }

    fn run_lines(&mut self, lines: &str) -> Result<EvalOutputs, CellError> {
        let prepared = Prepared::new(lines);
        let result = self.context.execute(prepared.sent());
        let outputs = result.map_err(|error| describe(&error, &prepared, lines, &self.gone))?;
        self.dependencies.extend(self.new_dependencies(lines));
        Ok(outputs)
    }

    /// Runs a cell's code.
    fn run_code(&mut self, prepared: &mut Prepared) -> Result<EvalOutputs, Error> {
        let ahead = self.ahead.as_ref().and_then(|ahead| ahead.begin(prepared.sent()));
        let mut result = self.execute_code(prepared.sent());
        drop(ahead);
        // A variable that evcxr cannot store for later cells remains usable in its own cell.
        while let Err(error) = &result
            && (prepared.make_any_local(&unstorable_variables(error), outlives(error))
                || prepared.make_explicit(self.types_with_paths(error, prepared.plain())))
        {
            result = self.execute_code(prepared.sent());
        }
        if result.is_ok() {
            self.dependencies.extend(self.new_dependencies(prepared.plain()));
            self.check_types(prepared);
        }
        result
    }

    /// Executes code. If no cell can take some variables any more, drops them and executes the code again.
    pub fn execute_code(&mut self, code: &str) -> Result<EvalOutputs, Error> {
        let result = self.context.execute(code);
        if result.is_err()
            && let Some(names) = unusable::take(&self.folder)
            && self.context.execute(&unusable::cell(&names)).is_ok()
        {
            return self.context.execute(code);
        }
        result
    }

    fn types_with_paths(&self, error: &Error, cell: &str) -> Vec<(String, String)> {
        let source = self.context.last_source().unwrap_or_default();
        trait_paths::types_with_paths(error, &source, cell)
    }

    /// Runs the commands after a cell's code, and the kernel's additions to evcxr's commands.
    fn run_last_commands(
        &mut self,
        cells: &Cells,
        code: &str,
        commands: &str,
        prepared: &mut Prepared,
        mut result: Result<EvalOutputs, Error>,
        events: &Sender<Event>,
    ) -> Result<EvalOutputs, Error> {
        // As the next line of a program, a command runs only if the code before it has reached its end.
        let commands = if self.listener.has_ended_early() { "" } else { commands };
        let restarts = has(commands, CLEAR) || has(commands, RESTART);
        if restarts {
            cells.restarts();
        }
        if let Ok(outputs) = &mut result
            && !commands.is_empty()
        {
            // With blanks in place of the code, so that an error has its position in the cell.
            let last = Prepared::new(&(blanks(&code[..code.len() - commands.len()]) + commands));
            match self.context.execute(last.sent()) {
                Ok(more) => {
                    outputs.merge(more);
                    self.dependencies.extend(self.new_dependencies(commands));
                }
                Err(error) => (result, *prepared) = (Err(error), last),
            }
        }
        if result.is_ok() && has(commands, CLEAR) {
            self.listener.process_has_ended();
            // `:clear` also removes the prelude.
            result = self.context.execute(&self.load).and(result);
            self.dependencies.clear();
            self.set_format();
        }
        if has(commands, RESTART)
            && let Err(error) = self.restart_process()
        {
            let _ = events.blocking_send(Event::Output(Output::Stderr(error.plain() + "\n")));
        }
        if restarts {
            cells.has_restarted();
        }
        if command_lines::commands(code).filter(|line| *line == TIMING).count() % 2 == 1 {
            timing::toggle(&self.folder);
        }
        let is_format = |line: &&str| line.split(' ').next() == Some(FORMAT);
        if let Some(format) = command_lines::commands(code).filter(is_format).last() {
            self.is_pretty = format.contains('#');
            self.set_format();
        }
        result
    }

    /// Sets the format of `:fmt` in the cells' process: evcxr uses it only for values that the prelude does not show.
    fn set_format(&mut self) {
        let _ = self.context.execute(&format!("headstart::display::set_pretty_debug({});", self.is_pretty));
    }

    /// Prepares a new process of cells.
    ///
    /// # Errors
    /// If the code that reports panics and Stop does not run.
    pub fn begin_process(&mut self) -> Result<(), CellError> {
        self.run_lines(BEGIN)?;
        if self.is_pretty {
            self.set_format();
        }
        Ok(())
    }

    /// Prepares compilation ahead of the next cell. `is_counted`: whether evcxr has increased the cell
    /// number.
    pub fn prepare_compilation_ahead(&mut self, code: &str, is_counted: bool) {
        if let Some(ahead) = &mut self.ahead {
            ahead.end(code, is_counted, self.context.variables_and_types());
        }
    }

    /// Current variables.
    pub fn variables(&self) -> Variables {
        let variables = self.context.variables_and_types();
        variables.map(|(name, type_)| (name.to_owned(), type_.to_owned())).collect()
    }
}
