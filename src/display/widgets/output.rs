//! A widget that shows values and text of cells and callbacks.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::comm::{Kind, OUTPUT, Widget};
use super::widget::widget;
use crate::display::{Bundle, Show, escape};

/// Maximum number of outputs in the widget. Beyond it, the oldest ones are removed.
const MAX_OUTPUTS: usize = 1000;
/// Types of images that HTML shows.
const IMAGES: [&str; 3] = ["image/png", "image/jpeg", "image/gif"];

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
        self.outputs().iter().map(text_of).collect::<Vec<_>>().join("\n")
    }

    /// HTML of all outputs, with successive texts in one block.
    fn html(&self) -> String {
        let (mut html, mut texts) = (String::new(), Vec::new());
        for output in self.outputs() {
            match rich(&output["data"]) {
                Some(shown) => {
                    html += &block(&mut texts);
                    html += &shown;
                }
                None => texts.push(text_of(&output)),
            }
        }
        html + &block(&mut texts)
    }
}

/// Text of an output.
fn text_of(output: &Value) -> String {
    let text = output["text"].as_str().or(output["data"]["text/plain"].as_str());
    text.unwrap_or_default().trim_end().to_owned()
}

/// HTML of a value that is more than text.
fn rich(data: &Value) -> Option<String> {
    let part = |mime: &str| data[mime].as_str();
    if let Some(html) = part("text/html").or(part("image/svg+xml")) {
        return Some(html.to_owned());
    }
    IMAGES.iter().find_map(|mime| Some(format!("<img src=\"data:{mime};base64,{}\">", part(mime)?)))
}

/// HTML of the texts, which are taken out. Empty if there are none.
fn block(texts: &mut Vec<String>) -> String {
    match std::mem::take(texts) {
        texts if texts.is_empty() => String::new(),
        texts => format!("<pre>{}</pre>", escape(&texts.join("\n"))),
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
        assert_eq!(area.html(), "<pre>a &lt;b&gt;\nc</pre>");
        area.add(json!({"data": {"text/plain": "a chart", "image/svg+xml": "<svg></svg>"}}));
        area.add(json!({"data": {"text/plain": "an image", "image/png": "iVBO"}}));
        area.println("d");
        let images = "<svg></svg><img src=\"data:image/png;base64,iVBO\">";
        assert_eq!(area.html(), format!("<pre>a &lt;b&gt;\nc</pre>{images}<pre>d</pre>"));
        for _ in 0..MAX_OUTPUTS {
            area.println("d");
        }
        assert_eq!(area.outputs().len(), MAX_OUTPUTS);
        assert!(!area.text().contains('a'));
        area.clear();
        assert_eq!(area.text(), "");
    }
}
