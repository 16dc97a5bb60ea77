//! The probe: cells that test whether evcxr generates the expected text (see [`crate::compile::boundary`]).

use std::path::Path;

use evcxr::CommandContext;

use crate::compile::evcxr_text::source::{Compiled, compiled, in_order, number, taken_variables};
use crate::compile::handover::written;
use crate::compile::predict::{self, Forms};
use crate::compile::variables::rewritten;

/// Cells of the probe: the first defines a variable, the second uses it and has a `?`.
const CELLS: [&str; 2] = [
    "let mut headstart_probe: String = String::from(\"text\");\n",
    "headstart_probe.push_str(\"text\");\nheadstart::check_interrupt()?;\n",
];
/// Text inside the cells' string, where completion has no suggestions.
const WITHOUT_COMPLETIONS: &str = "xt\"";

/// Runs the probe in a session that has loaded the prelude. Returns a description of unexpected text.
///
/// # Errors
/// If a cell cannot run.
pub fn run(context: &mut CommandContext, session: &Path) -> Result<Result<(), String>, String> {
    for (at, cell) in CELLS.into_iter().enumerate() {
        let before = written(session).ok_or("cargo does not call the kernel's rustc wrapper")?;
        // Completion writes the source for rust-analyzer.
        context
            .completions(cell, cell.find(WITHOUT_COMPLETIONS).unwrap_or_default())
            .map_err(|error| error.to_string())?;
        let analysed = context.last_source().map_err(|error| error.to_string())?;
        context.execute(cell).map_err(|error| format!("a probe cell failed: {error}"))?;
        let source = written(session).ok_or("the source of a probe cell was not noted")?;
        if let Err(problem) = check(&source, at == 1) {
            return Ok(Err(problem));
        }
        let number = number(&source).unwrap_or_default();
        let predicted = predict::source(&analysed, &before, number, &Forms::new());
        if predicted.as_deref().map(in_order) != Some(in_order(&source)) {
            return Ok(Err("evcxr's source for rustc does not follow from the one for rust-analyzer".into()));
        }
    }
    Ok(Ok(()))
}

fn check(source: &str, takes_variable: bool) -> Result<(), String> {
    let Compiled::WithStore(parts) = compiled(source)? else {
        return Err("evcxr's source has no variable store".into());
    };
    if parts.error_type.is_empty() {
        return Err("evcxr's source does not have the expected error type".into());
    }
    let expected: &[(&str, &str)] = if takes_variable { &[("headstart_probe", "String")] } else { &[] };
    if taken_variables(source) != expected {
        return Err("evcxr's source does not take variables as expected".into());
    }
    match rewritten(source, true)?.contains("headstart::variables::run_") {
        true => Ok(()),
        false => Err("evcxr's source does not catch panics as expected".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_text_is_detected() {
        let source =
            include_str!("evcxr_text/golden/question.compiled.txt").replace("text", "headstart_probe");
        assert_eq!(check(&source, true), Ok(()));
        for (known, new) in [
            ("take_variable::<", "remove_variable::<"),
            ("catch_unwind(\n", "catch_unwind( \n"),
            ("struct EvcxrUserCodeError {}", "struct UserCodeError {}"),
            ("mod evcxr_internal_runtime", "mod runtime"),
        ] {
            assert!(source.contains(known) && check(&source.replace(known, new), true).is_err(), "{new}");
        }
    }
}
