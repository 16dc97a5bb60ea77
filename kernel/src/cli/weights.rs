//! The `headstart weights` command: lists, downloads and verifies pretrained weights.
//!
//! To list them, the program needs only the manifest and no Rust toolchain. To fetch and verify them, it
//! runs the same cell as a notebook would, so that the library does the work.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use headstart_frame::Answer;
use headstart_hub::Request;
use serde::Deserialize;

use crate::engine::handle::Engine;
use crate::engine::output::{Bundle, Event, Output};
use crate::platform::cache_folder::cache_folder;
use crate::platform::parent;
use crate::prelude::backend::Backend;
use crate::prelude::sources::weights_manifest;

/// Fetches a file for the cells' process, which has no HTTP client, and exits. Returns if this process was
/// not started for that.
pub fn hook() {
    let mut arguments = std::env::args_os().skip(1).map_while(|argument| argument.into_string().ok());
    if arguments.next().is_none_or(|command| command != headstart_hub::COMMAND) {
        return;
    }
    let arguments: Vec<String> = arguments.collect();
    if let Some(request) = Request::from_arguments(&arguments) {
        parent::die_with_parent();
        let fetched = headstart_fetch::fetch(&request, &mut std::io::stdout().lock());
        std::process::exit(fetched.is_err().into());
    }
}

/// Action on pretrained weights.
#[derive(clap::Subcommand)]
pub enum Action {
    /// List the weights that are known by name, and which of them are downloaded.
    List,
    /// Download weights, so that a notebook needs no network later.
    Fetch {
        /// Their name, as shown by `weights list`.
        name: String,
    },
    /// Check the downloaded weights against their size and checksum.
    Verify,
    /// Print the path of weights, downloaded or not.
    Path {
        /// Their name, as shown by `weights list`.
        name: String,
    },
}

/// Entry of the manifest: one file of weights.
#[derive(Deserialize)]
struct Pretrained {
    name: String,
    repository: String,
    revision: Option<String>,
    file: String,
    megabytes: f64,
    licence: String,
    top1: f64,
}

#[derive(Deserialize)]
struct Manifest {
    weights: Vec<Pretrained>,
}

impl Pretrained {
    /// Path of the file in the cache, the same as `Hub::path` in the library.
    fn path(&self) -> Result<PathBuf, String> {
        let revision = self.revision.as_deref().unwrap_or("newest");
        let folder = cache_folder()?.join("weights").join(self.repository.replace('/', "--"));
        Ok(folder.join(revision).join(&self.file))
    }

    fn line(&self) -> Result<String, String> {
        let Pretrained { name, megabytes, top1, licence, .. } = self;
        let here = if self.path()?.is_file() { "here" } else { "" };
        Ok(format!("{name:<28}{megabytes:>7.0} MB  top-1 {top1:.1} %  {licence:<14}{here}"))
    }
}

fn all() -> Result<Vec<Pretrained>, String> {
    let manifest = toml::from_str::<Manifest>(weights_manifest());
    manifest.map(|manifest| manifest.weights).map_err(|error| format!("the list of weights: {error}"))
}

fn find(name: &str) -> Result<Pretrained, String> {
    let all = all()?;
    let names: Vec<&str> = all.iter().map(|known| known.name.as_str()).collect();
    let unknown = format!("pretrained weights: expected one of {}, found {name}", names.join(", "));
    all.into_iter().find(|known| known.name == name).ok_or(unknown)
}

impl Action {
    /// Runs the action.
    ///
    /// # Safety
    /// As for `Engine::start`: no other thread may run.
    pub unsafe fn run(&self) -> Result<(), String> {
        let begin = "let hub = headstart::weights::Hub::from_environment()?;";
        let code = match self {
            Action::List => {
                return all()?.iter().try_for_each(|known| {
                    println!("{}", known.line()?);
                    Ok(())
                });
            }
            Action::Path { name } => {
                println!("{}", find(name)?.path()?.display());
                return Ok(());
            }
            Action::Fetch { name } => {
                let name = find(name)?.name;
                format!(
                    "{begin} println!(\"{{}}\", hub.fetch(headstart::weights::named({name:?})?)?.display());"
                )
            }
            Action::Verify => format!(
                "{begin} let mut wrong = Vec::new();\n\
                 for known in headstart::weights::pretrained() {{ match hub.verify(known) {{\n\
                 Ok(true) => println!(\"{{}}: verified\", known.name),\n\
                 Ok(false) => {{}}\n\
                 Err(problem) => {{ println!(\"{{problem}}\"); wrong.push(known.name.clone()); }} }} }}\n\
                 if !wrong.is_empty() {{ panic!(\"verification failed: {{}}\", wrong.join(\", \")); }}"
            ),
        };
        // SAFETY: the caller promises it.
        let engine = unsafe { Engine::start(Backend::default()) }?;
        let result = execute(&engine, code);
        engine.stop();
        result
    }
}

/// Runs a cell and prints its output.
fn execute(engine: &Engine, code: String) -> Result<(), String> {
    let mut received = engine.execute(code);
    let mut result = Ok(());
    while let Some(event) = received.blocking_recv() {
        match event {
            Event::Output(Output::Stdout(text)) => print!("{text}"),
            Event::Output(Output::Stderr(text)) => eprint!("{text}"),
            Event::Output(Output::Display { data, .. } | Output::Update { data, .. }) => show_progress(&data),
            Event::Output(Output::Clear { .. } | Output::Comm(_) | Output::CommsEnded) => {}
            Event::Input { question, .. } => question.answer(&Answer::NoInput),
            Event::Done(outcome) => {
                result = outcome.map(drop).map_err(|error| error.message());
            }
        }
    }
    result
}

/// Shows a progress bar on one line of the terminal.
fn show_progress(data: &Bundle) {
    let text = data.iter().find(|(mime, _)| mime == "text/plain");
    if let (Some((_, text)), true) = (text, std::io::stderr().is_terminal()) {
        eprint!("\r{text}\x1b[K");
        let _ = std::io::stderr().flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_listed_and_found_without_a_toolchain() {
        let listed = all().unwrap();
        let line = find("vgg16.tv_in1k").unwrap().line().unwrap();
        assert!(line.starts_with("vgg16.tv_in1k") && line.contains("553 MB  top-1 71.6 %"), "{line}");
        assert!(listed.iter().all(|known| known.path().unwrap().ends_with(&known.file)));
        let problem = find("vgg61").err().unwrap();
        assert!(problem.contains("vgg61") && problem.contains("expected one of vgg16.tv_in1k"), "{problem}");
    }
}
