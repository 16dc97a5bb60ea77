//! Errors about variables that a cell has moved, so that they cannot be stored.

use serde_json::{Value, json};

use crate::compile::evcxr_text::source::{Use, use_of_variable};

/// rustc's code for the use of a moved value.
const USE_AFTER_MOVE: &str = "E0382";

/// Removes the labels in the user's code from errors about the storing of a moved variable.
///
/// evcxr leaves such a variable out and compiles again. If one of the labels is in the last expression, it would also
/// show that expression's value as text, without its figure.
pub fn without_labels(messages: &str) -> String {
    messages
        .split_inclusive('\n')
        .map(|line| without_labels_of(line).unwrap_or_else(|| line.to_owned()))
        .collect()
}

fn without_labels_of(line: &str) -> Option<String> {
    if !line.contains(USE_AFTER_MOVE) {
        return None;
    }
    let mut message: Value = serde_json::from_str(line).ok()?;
    // cargo may have wrapped the message in one of its own.
    let inner = if message["message"].is_object() { &mut message["message"] } else { &mut message };
    if inner["code"]["code"] != USE_AFTER_MOVE {
        return None;
    }
    let spans = inner["spans"].as_array_mut()?;
    let is_primary = |span: &Value| span["is_primary"] == true;
    let stores = |span: &Value| {
        let line = span["text"][0]["text"].as_str().unwrap_or_default();
        matches!(use_of_variable(line), Some((Use::Put, _)))
    };
    if !spans.iter().any(|span| is_primary(span) && stores(span)) {
        return None;
    }
    spans.retain(is_primary);
    inner["children"] = json!([]);
    Some(format!("{message}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::evcxr_text::source::put_line;

    #[test]
    fn only_errors_about_storing_lose_their_labels() {
        let message = |code: &str, source: &str| {
            let span =
                |is_primary: bool, text: &str| json!({"is_primary": is_primary, "text": [{"text": text}]});
            let spans = [span(true, source), span(false, "(take(b)).evcxr_display();")];
            let children = [json!({"message": "consider cloning"})];
            let message = json!({"code": {"code": code}, "spans": spans, "children": children});
            format!("{message}\n")
        };
        let put = put_line("b", "Vec<u8>");
        let short = without_labels(&message(USE_AFTER_MOVE, &put));
        let short: Value = serde_json::from_str(&short).unwrap();
        assert_eq!(short["spans"].as_array().unwrap().len(), 1);
        assert_eq!(short["children"], json!([]));
        let others =
            message(USE_AFTER_MOVE, "println!(\"{b:?}\");") + &message("E0308", &put) + "no JSON E0382\n";
        assert_eq!(without_labels(&others), others);
    }
}
