//! A widget that shows values and text of cells and callbacks.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::comm::{Kind, OUTPUT, Widget};
use super::widget::widget;
use crate::display::{Bundle, Show, escape};

/// Maximum number of outputs in the widget. Beyond it, the oldest ones are removed.
const MAX_OUTPUTS: usize = 1000;

widget! {
    /// An area of the notebook that shows values and text, also from callbacks and from later cells.
    Output, OUTPUT_AREA = (OUTPUT, "Output", "")
}

impl Output {
    /// Creates an empty area.
    pub fn new() -> Output {
        Output(Widget::new(&OUTPUT_AREA, json!({"msg_id": "", "outputs": []})))
    }

    /// Adds a value.
    pub fn show(&self, value: &impl Show) {
        let data = value.bundle();
        let is_json = |mime: &str| mime.ends_with("+json");
        let content = |mime: &str, text: &str| match is_json(mime) {
            true => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
            false => json!(text),
        };
        let data: Map<String, Value> =
            data.iter().map(|(mime, text)| (mime.clone(), content(mime, text))).collect();
        self.add(json!({"output_type": "display_data", "data": data, "metadata": {}}));
    }

    /// Adds a line of text.
    pub fn println(&self, text: &str) {
        self.add(json!({"output_type": "stream", "name": "stdout", "text": format!("{text}\n")}));
    }

    /// Removes all values and text.
    pub fn clear(&self) {
        self.0.set("outputs", json!([]));
    }

    fn add(&self, output: Value) {
        let mut outputs = self.outputs();
        outputs.push(output);
        let excess = outputs.len().saturating_sub(MAX_OUTPUTS);
        self.0.set("outputs", outputs.split_off(excess));
    }

    fn outputs(&self) -> Vec<Value> {
        self.0.get("outputs").as_array().cloned().unwrap_or_default()
    }

    fn text(&self) -> String {
        let text = |output: &Value| {
            let text = output["text"].as_str().or(output["data"]["text/plain"].as_str());
            text.unwrap_or_default().trim_end().to_owned()
        };
        self.outputs().iter().map(text).collect::<Vec<_>>().join("\n")
    }

    fn html(&self) -> String {
        format!("<pre>{}</pre>", escape(&self.text()))
    }
}

impl Default for Output {
    fn default() -> Output {
        Output::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::{Text, plain};

    #[test]
    fn an_area_shows_what_is_put_into_it() {
        let area = Output::new();
        area.println("a <b>");
        area.show(&Text::new("c"));
        assert_eq!(plain(&area.bundle()), "a <b>\nc");
        assert!(area.html().contains("a &lt;b&gt;"));
        for _ in 0..MAX_OUTPUTS {
            area.println("d");
        }
        assert_eq!(area.outputs().len(), MAX_OUTPUTS);
        assert!(!area.text().contains('a'));
        area.clear();
        assert_eq!(area.text(), "");
    }
}
