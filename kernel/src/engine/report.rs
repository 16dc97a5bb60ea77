//! Error report for a cell that does not compile, with positions in the cell.

use std::ops::Range;

use ariadne::{Color, ColorGenerator, Config, IndexType, Label, Report, ReportKind};
use evcxr::{CompilationError, Error};
use serde_json::Value;

use crate::compile::completeness::{Completeness, completeness};
use crate::compile::evcxr_text::messages::{
    BORROWS, CLOSURE, GENERATED_NAMES, UNKNOWN_TYPE, UNNAMED_TYPE, VARIABLE, WRONG_INFERENCE, quoted,
    unkept_variable,
};
use crate::engine::errors::without_colours;
use crate::engine::hints::Gone;
use crate::engine::output::CellError;
use crate::engine::prepare::Prepared;

/// Beginnings of rustc's help for library authors, and of headings whose lists evcxr drops.
const OMITTED_HELP: [&str; 3] = [
    "the following other types implement trait",
    "you can use `cargo tree`",
    "the nightly-only, unstable trait",
];
/// Message that summarises other errors.
const SUMMARY: &str = "Some errors have detailed explanations";
const NOT_FOUND: &str = "the type of a variable of this cell was not found, so no later cell can have it\n\
    hint: write the type of each new variable, as in `let x: Vec<f64> = …;`, or use it inside `{ … }`";
/// Creates the report of an evcxr error.
pub fn describe(error: &Error, prepared: &Prepared, cell: &str, gone: &Gone) -> CellError {
    let Error::CompilationErrors(errors) = error else {
        let text = in_own_words(&error.to_string());
        let hint =
            gone.hint(None, &text, "", &prepared.named_by_items()).map(|hint| format!("\nhint: {hint}"));
        return CellError::new("Error", &(text + &hint.unwrap_or_default()));
    };
    let is_error =
        |error: &&CompilationError| error.level() != "warning" && !error.message().starts_with(SUMMARY);
    let mut traceback: Vec<String> = Vec::new();
    let mut values = Vec::new();
    for error in errors.iter().filter(is_error) {
        let is_nowhere = error.spanned_messages().iter().all(|message| message.span.is_none());
        if is_nowhere
            && WRONG_INFERENCE
                .iter()
                .any(|(code, text)| error.code() == Some(*code) && error.message().contains(text))
        {
            traceback.insert(0, format!("Error: {NOT_FOUND}"));
            values.insert(0, NOT_FOUND.to_owned());
            break;
        }
        let message = match is_unclosed(&error.message())
            && matches!(completeness(cell), Completeness::Incomplete { .. })
        {
            true => "the cell ends before a bracket is closed".to_owned(),
            false => in_own_words(&error.message()),
        };
        let report = report(error, &message, prepared, cell);
        if traceback.windows(report.len().max(1)).any(|shown| shown == report) {
            continue;
        }
        traceback.extend(report);
        let shown = without_colours(&traceback.join("\n"));
        let new = helps(&error.json).into_iter().filter(|help| {
            let first = help.lines().next().unwrap_or_default();
            !shown.contains(first) && !OMITTED_HELP.iter().any(|known| first.starts_with(known))
        });
        traceback.extend(
            new.flat_map(|help| format!("help: {help}").lines().map(str::to_owned).collect::<Vec<_>>()),
        );
        let hint = gone
            .hint(error.code(), &error.message(), &shown, &prepared.named_by_items())
            .map(|hint| format!("hint: {hint}"));
        traceback.extend(hint.filter(|hint| !traceback.contains(hint)));
        let hint = crate::engine::other_languages::of_error(error, cell);
        traceback.extend(hint.map(|hint| format!("hint: {hint}")).filter(|hint| !traceback.contains(hint)));
        values.push(message);
    }
    let value = values.into_iter().next().unwrap_or_else(|| "the cell does not compile".into());
    let value = value.lines().next().unwrap_or_default().to_owned();
    if traceback.is_empty() {
        traceback.push(value.clone());
    }
    CellError { name: "CompileError".into(), value, traceback }
}

/// Whether rustc found an unexpected bracket, possibly one at the end of evcxr's source.
fn is_unclosed(message: &str) -> bool {
    message.starts_with("mismatched closing delimiter") || message.contains("unclosed delimiter")
}

/// Formats an error with the lines of the cell that it refers to.
fn report(error: &CompilationError, message: &str, prepared: &Prepared, cell: &str) -> Vec<String> {
    let name = "cell".to_owned();
    let mut labels: Vec<(Range<usize>, String)> = Vec::new();
    let mut notes: Vec<String> = Vec::new();
    let mut first = None;
    for spanned in error.spanned_messages().iter().chain(error.help_spanned()) {
        let label = label(&spanned.label, message);
        let Some(span) = &spanned.span else {
            // Help without a position in the cell refers to the code around it.
            if !label.is_empty() && !label.starts_with("help: ") && !notes.contains(&label) {
                notes.push(label);
            }
            continue;
        };
        let sent = prepared.sent();
        let [start, end] = [(span.start_line, span.start_column), (span.end_line, span.end_column)]
            .map(|(line, column)| in_characters(cell, prepared.original(offset(sent, line, column))));
        let place = (name.clone(), start..end.max(start));
        if first.is_none() || spanned.is_primary {
            first.get_or_insert(place.1.clone());
        }
        if (!label.is_empty() || spanned.is_primary) && !labels.contains(&(place.1.clone(), label.clone())) {
            labels.push((place.1, label));
        }
    }
    let Some(first) = first else {
        let mut lines = vec![format!("Error: {message}")];
        if let Some(code) = error.code() {
            lines[0] = format!("[{code}] {}", lines[0]);
        }
        lines.extend(notes.into_iter().map(|note| format!("note: {note}")));
        return lines;
    };
    let config = Config::default().with_index_type(IndexType::Char);
    let mut builder =
        Report::build(ReportKind::Error, (name.clone(), first)).with_config(config).with_message(message);
    if let Some(code) = error.code() {
        builder = builder.with_code(code);
    }
    let mut colours = ColorGenerator::new();
    for (place, label) in labels {
        // Darker, for a light page.
        let colour = match colours.next() {
            Color::Fixed(colour) => Color::Fixed(255 - colour),
            colour => colour,
        };
        let made = Label::new((name.clone(), place)).with_color(colour).with_order(10);
        builder = builder.with_label(if label.is_empty() { made } else { made.with_message(label) });
    }
    if !notes.is_empty() {
        builder.set_note(notes.join("\n"));
    }
    let mut text = Vec::new();
    let written = builder.finish().write(ariadne::sources([(name, cell.to_owned())]), &mut text);
    match written {
        Ok(()) => String::from_utf8_lossy(&text).lines().map(|line| line.trim_end().to_owned()).collect(),
        Err(_) => vec![message.to_owned()],
    }
}

/// Removes the level from a label; empty if the label repeats the message.
fn label(label: &str, message: &str) -> String {
    let label = in_own_words(label).replace("\n`", "`").replace('\n', " ");
    let label = ["error: ", "note: "].iter().find_map(|level| label.strip_prefix(level)).unwrap_or(&label);
    if label == message { String::new() } else { label.to_owned() }
}

/// Byte position of a line and a column. Both are counted from 1, the column in characters.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let line = text[start..].lines().next().unwrap_or_default();
    start + line.char_indices().nth(column.saturating_sub(1)).map_or(line.len(), |(at, _)| at)
}

/// Converts a byte position to a number of characters.
fn in_characters(text: &str, position: usize) -> usize {
    text.char_indices().take_while(|(at, _)| *at < position).count()
}

/// rustc's help messages, each with the suggested code.
fn helps(error: &Value) -> Vec<String> {
    let children = error["children"].as_array().into_iter().flatten();
    let helps = children.filter(|child| child["level"] == "help");
    helps
        .filter_map(|help| {
            let mut text = in_own_words(help["message"].as_str()?);
            for line in suggested(&help["spans"]) {
                text += &format!("\n    {}", in_own_words(&line));
            }
            Some(text)
        })
        .collect()
}

/// Lines of the source with rustc's suggestions applied.
fn suggested(spans: &Value) -> Vec<String> {
    let mut lines: Vec<(u64, Vec<char>)> = Vec::new();
    let mut changes: Vec<(u64, usize, usize, &str)> = Vec::new();
    for span in spans.as_array().into_iter().flatten() {
        let (Some(replacement), Some(line)) =
            (span["suggested_replacement"].as_str(), span["line_start"].as_u64())
        else {
            return Vec::new();
        };
        let column = |name: &str| span[name].as_u64().map(|column| (column as usize).saturating_sub(1));
        let text = span["text"][0]["text"].as_str();
        let (Some(start), Some(end), Some(text)) = (column("column_start"), column("column_end"), text)
        else {
            return Vec::new();
        };
        if span["line_end"].as_u64() != Some(line) {
            return Vec::new();
        }
        if !lines.iter().any(|(known, _)| *known == line) {
            lines.push((line, text.chars().collect()));
        }
        changes.push((line, start, end, replacement));
    }
    // From the end, so that earlier positions stay valid.
    changes.sort_by_key(|change| std::cmp::Reverse((change.0, change.1)));
    for (line, start, end, replacement) in changes {
        if let Some((_, text)) = lines.iter_mut().find(|(known, _)| *known == line)
            && start <= end
            && end <= text.len()
        {
            text.splice(start..end, replacement.chars());
        }
    }
    lines.sort();
    let texts = lines.into_iter().map(|(_, text)| text.into_iter().collect::<String>());
    let texts = texts.flat_map(|text| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>());
    texts.filter(|line| !line.contains("evcxr") && !line.is_empty()).collect()
}

/// Variables that, according to the error, evcxr cannot store for later cells.
pub fn unkept_variables(error: &Error) -> Vec<String> {
    let messages: Vec<String> = match error {
        Error::CompilationErrors(errors) => errors.iter().map(CompilationError::message).collect(),
        error => vec![error.to_string()],
    };
    messages.iter().filter_map(|message| unkept_variable(message)).map(str::to_owned).collect()
}

/// Whether a variable, which evcxr does not name, would outlive what it borrows if it were stored.
pub fn outlives(error: &Error) -> bool {
    const CODES: [&str; 5] = ["E0373", "E0505", "E0521", "E0597", "E0716"];
    let Error::CompilationErrors(errors) = error else { return false };
    errors.iter().any(|error| error.code().is_some_and(|code| CODES.contains(&code)))
}

/// Rewrites a message of evcxr or rustc without the names of generated code.
fn in_own_words(message: &str) -> String {
    let name = quoted(message, 0).unwrap_or_default();
    if message.starts_with(UNKNOWN_TYPE) {
        return format!(
            "the type of the variable `{name}` was not found, so no later cell can have it\n\
             hint: write the type, as in `let {name}: Vec<f64> = …;`, or use `{name}` in this cell alone"
        );
    }
    if message.starts_with(VARIABLE) && message.contains(CLOSURE) {
        return format!(
            "the variable `{name}` is a closure, whose type has no name, so no later cell can have it\n\
             hint: write a function, `fn {name}(…)`, or box it with its type, as in \
             `let {name}: Box<dyn Fn(f64) -> f64> = Box::new(|x| 2.0 * x);`, or use `{name}` in this cell alone"
        );
    }
    if message.starts_with(VARIABLE) && message.contains(UNNAMED_TYPE) {
        let type_ = quoted(message, 1).unwrap_or_default();
        return format!(
            "the variable `{name}` is of the type `{type_}`, which cannot be written, so no later cell can have it\n\
             hint: box it as a trait that it has, as in `let {name}: Box<dyn {}> = Box::new(…);`, \
             or use `{name}` in this cell alone",
            boxed_trait(type_)
        );
    }
    if message.starts_with(VARIABLE) && message.contains(BORROWS) {
        return format!(
            "the variable `{name}` borrows what ends with this cell (a reference with a non-static lifetime)"
        );
    }
    GENERATED_NAMES.iter().fold(message.to_owned(), |text, (word, ours)| text.replace(word, ours))
}

/// The trait of a value of type `impl Trait`, for a trait object.
fn boxed_trait(type_: &str) -> &str {
    // Of several traits, only the first can be more than a marker.
    let trait_ = type_.strip_prefix("impl ").map(|traits| traits.split(" + ").next().unwrap_or(traits));
    trait_.filter(|trait_| !trait_.starts_with('?')).unwrap_or("Iterator<Item = u8>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_hint_names_the_trait_of_the_value() {
        assert_eq!(boxed_trait("impl Fn(i32) -> i32"), "Fn(i32) -> i32");
        assert_eq!(boxed_trait("impl Debug + Clone"), "Debug");
        assert_eq!(boxed_trait("Map<Range<i32>, impl FnMut(i32) -> i32>"), "Iterator<Item = u8>");
    }

    #[test]
    fn suggestions_are_applied_to_their_line() {
        let span = |start: u64, end: u64, text: &str| {
            json!({"line_start": 9, "line_end": 9, "column_start": start, "column_end": end,
                "suggested_replacement": text, "text": [{"text": "    let é = T::new();"}]})
        };
        let spans = json!([span(13, 14, "<T"), span(14, 14, " as Make>")]);
        assert_eq!(suggested(&spans), ["let é = <T as Make>::new();"]);
        assert_eq!(suggested(&json!([{"line_start": 1}])), Vec::<String>::new());
    }

    #[test]
    fn positions_are_counted_in_characters() {
        let text = "// é\nlet 🦀x = 1;\n";
        assert_eq!(&text[offset(text, 2, 6)..][..1], "x");
        assert_eq!(in_characters(text, offset(text, 2, 6)), 10);
        assert_eq!(offset(text, 9, 9), text.len());
    }
}
