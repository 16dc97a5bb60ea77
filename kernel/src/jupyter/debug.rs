//! The notebook's variables pane: the part of the debugger protocol that shows variables.
//!
//! JupyterLab asks for variables through its debugger. There is no debugger here: breakpoints are accepted
//! but never verified, and the program never stops.

use std::sync::PoisonError;
use std::time::Duration;

use headstart_frame::Answer;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::engine::known::Variable;
use crate::engine::output::{Bundle, Event};
use crate::jupyter::kernel::{Kernel, media};

/// Longest time for the representation of a variable (5 s). After it, the pane shows the value as text.
const RICH_TIMEOUT: Duration = Duration::from_secs(5);
/// Seed of the hash by which JupyterLab names a cell's source.
const HASH_SEED: u32 = 0xc70f_6907;

impl Kernel {
    /// Answers a request of the debugger protocol.
    pub async fn debug(&self, request: &Value) -> Value {
        let command = request["command"].as_str().unwrap_or_default();
        let body = match command {
            "initialize" => Some(json!({
                "supportsSetVariable": false, "supportsModulesRequest": false, "supportsConditionalBreakpoints": false,
                "supportsExceptionInfoRequest": false, "exceptionBreakpointFilters": [],
            })),
            "attach" | "configurationDone" | "disconnect" => Some(json!({})),
            "debugInfo" => Some(json!({
                "isStarted": self.is_debugging.load(std::sync::atomic::Ordering::SeqCst),
                "hashMethod": "Murmur2", "hashSeed": HASH_SEED, "tmpFilePrefix": "/tmp/headstart/",
                "tmpFileSuffix": ".rs", "breakpoints": [], "stoppedThreads": [], "richRendering": true,
                "exceptionPaths": [], "copyToGlobals": false,
            })),
            "dumpCell" => Some(json!({"sourcePath": ""})),
            "setBreakpoints" => Some(json!({"breakpoints": []})),
            "setExceptionBreakpoints" | "threads" | "stackTrace" | "scopes" | "modules" => Some(
                json!({"breakpoints": [], "threads": [], "stackFrames": [], "scopes": [], "modules": []}),
            ),
            // Variables have no parts.
            "variables" => Some(json!({"variables": []})),
            "inspectVariables" => {
                Some(json!({"variables": self.engine.variables().iter().map(row).collect::<Vec<_>>()}))
            }
            "richInspectVariables" => {
                self.rich(request["arguments"]["variableName"].as_str().unwrap_or_default()).await
            }
            _ => None,
        };
        match command {
            "attach" => self.is_debugging.store(true, std::sync::atomic::Ordering::SeqCst),
            "disconnect" => self.is_debugging.store(false, std::sync::atomic::Ordering::SeqCst),
            _ => {}
        }
        let mut reply = json!({
            "seq": request["seq"], "type": "response", "request_seq": request["seq"], "success": body.is_some(),
            "command": command,
        });
        match body {
            Some(body) => reply["body"] = body,
            None => {
                reply["message"] =
                    format!("headstart shows variables and has no debugger: unknown request `{command}`")
                        .into();
            }
        }
        reply
    }

    /// Representations of a variable, as its own cell would show them.
    async fn rich(&self, name: &str) -> Option<Value> {
        let variable = self.engine.variables().into_iter().find(|variable| variable.name == name)?;
        let shown = match self.engine.is_busy() {
            true => None,
            false => timeout(RICH_TIMEOUT, self.shown(name)).await.ok().flatten(),
        };
        let data = shown.unwrap_or_else(|| vec![("text/plain".into(), value_of(&variable))]);
        Some(json!({"data": media(&data), "metadata": {}}))
    }

    async fn shown(&self, name: &str) -> Option<Bundle> {
        let mut received = self.engine.execute(name.to_owned());
        while let Some(event) = received.recv().await {
            match event {
                Event::Done(outcome) => return outcome.ok().flatten(),
                Event::Output(output) => {
                    // A thread of the last cell prints, not the variable's value.
                    let last = self.last_cell.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    self.publish_output(output, last.as_ref()).await;
                }
                Event::Input { question, .. } => question.answer(&Answer::NoInput),
            }
        }
        None
    }
}

/// A row of the pane.
fn row(variable: &Variable) -> Value {
    json!({
        "name": variable.name, "type": variable.type_, "value": value_of(variable), "evaluateName": variable.name,
        "variablesReference": 0,
    })
}

fn value_of(variable: &Variable) -> String {
    variable.value.clone().unwrap_or_else(|| variable.type_.clone())
}
