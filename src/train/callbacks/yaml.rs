//! The YAML of MLflow's files: one entry per line.

use serde_json::Value;

/// Writes entries. A JSON value is also a YAML value.
pub(super) fn write(entries: &[(&str, Value)]) -> String {
    entries.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
}

/// Reads the text of an entry.
pub(super) fn read(yaml: &str, name: &str) -> Option<String> {
    // MLflow continues a long text in indented lines.
    let lines = yaml.replace("\n  ", " ");
    lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(plain)
}

/// A YAML string without its quotes.
fn plain(text: &str) -> String {
    let text = text.trim();
    let single = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
    match (serde_json::from_str::<String>(text), single) {
        (Ok(text), _) => text,
        (Err(_), Some(text)) => text.replace("''", "'"),
        (Err(_), None) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_are_read_as_written_here_and_by_mlflow() {
        let text =
            write(&[("name", json!("a \"b\": 'c'")), ("start_time", json!(17)), ("end_time", json!(null))]);
        assert_eq!(read(&text, "name").as_deref(), Some("a \"b\": 'c'"));
        assert_eq!(read(&text, "start_time").as_deref(), Some("17"));
        assert_eq!(read(&text, "time"), None);
        let mlflow = "experiment_id: '1'\nname: 'it''s a long name that\n  continues here'\n";
        assert_eq!(read(mlflow, "name").as_deref(), Some("it's a long name that continues here"));
        assert_eq!(read("name: a, b\n  c\n", "name").as_deref(), Some("a, b c"));
    }
}
