//! Pretrained weights from the command line: `headstart weights`.
//!
//! The library knows them; this program knows no tensors. So it runs what a notebook would run.

use std::io::{IsTerminal, Write};

use headstart_frame::Answer;
use headstart_hub::Request;

use crate::engine::handle::Engine;
use crate::engine::output::{Bundle, Event, Output};
use crate::platform::parent;

/// Fetches a file for the cells' process, which has no HTTP client, and ends this one; does nothing
/// in a process that was not begun for that.
pub fn hook() {
    let mut arguments = std::env::args_os().skip(1).map_while(|argument| argument.into_string().ok());
    if arguments.next().is_none_or(|command| command != headstart_hub::COMMAND) {
        return;
    }
    let arguments: Vec<String> = arguments.collect();
    if let Some(request) = Request::from_arguments(&arguments) {
        parent::die_with_it();
        let fetched = headstart_fetch::fetch(&request, &mut std::io::stdout().lock());
        std::process::exit(fetched.is_err().into());
    }
}

/// What to do with pretrained weights.
#[derive(clap::Subcommand)]
pub enum Action {
    /// Show those that are known by name, and which of them are here.
    List,
    /// Fetch some, so that a notebook needs no network later.
    Fetch {
        /// Their name, as `weights list` shows it.
        name: String,
    },
    /// Read those that are here again and compare them with what they must be.
    Verify,
    /// Say where some are, or would be.
    Path {
        /// Their name, as `weights list` shows it.
        name: String,
    },
}

impl Action {
    fn code(&self) -> String {
        let begin = "let hub = headstart::weights::Hub::from_environment()?;";
        let all = "for known in headstart::weights::pretrained()";
        match self {
            Action::List => format!(
                "{begin} {all} {{ let here = if hub.path(known).is_file() {{ \"here\" }} else {{ \"\" }};\n\
                 println!(\"{{:<28}}{{:>7.0}} MB  top-1 {{:.1}} %  {{:<14}}{{here}}\", \
                 known.name, known.megabytes, known.top1, known.licence); }}"
            ),
            Action::Fetch { name } => format!(
                "{begin} println!(\"{{}}\", hub.fetch(headstart::weights::named({name:?})?)?.display());"
            ),
            Action::Verify => format!(
                "{begin} let mut wrong = Vec::new();\n\
                 {all} {{ match hub.verify(known) {{\n\
                 Ok(true) => println!(\"{{}}: as it must be\", known.name),\n\
                 Ok(false) => {{}}\n\
                 Err(problem) => {{ println!(\"{{problem}}\"); wrong.push(known.name.clone()); }} }} }}\n\
                 if !wrong.is_empty() {{ panic!(\"not as they must be: {{}}\", wrong.join(\", \")); }}"
            ),
            Action::Path { name } => format!(
                "{begin} println!(\"{{}}\", hub.path(headstart::weights::named({name:?})?).display());"
            ),
        }
    }

    /// Runs it and shows what there is to see.
    pub fn run(&self, engine: &Engine) -> Result<(), String> {
        let mut received = engine.execute(self.code());
        let mut result = Ok(());
        while let Some(event) = received.blocking_recv() {
            match event {
                Event::Output(Output::Stdout(text)) => print!("{text}"),
                Event::Output(Output::Stderr(text)) => eprint!("{text}"),
                Event::Output(Output::Display { data, .. } | Output::Update { data, .. }) => {
                    show_progress(&data)
                }
                Event::Output(Output::Clear { .. }) => {}
                Event::Input { question, .. } => question.answer(&Answer::NoInput),
                Event::Done(outcome) => {
                    result = outcome.map(drop).map_err(|error| error.message());
                }
            }
        }
        result
    }
}

/// A bar on one line of the terminal.
fn show_progress(data: &Bundle) {
    let text = data.iter().find(|(mime, _)| mime == "text/plain");
    if let (Some((_, text)), true) = (text, std::io::stderr().is_terminal()) {
        eprint!("\r{text}\x1b[K");
        let _ = std::io::stderr().flush();
    }
}
