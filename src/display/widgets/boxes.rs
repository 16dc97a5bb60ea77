//! Boxes: containers that show widgets in a row or in a column.

use std::sync::Arc;

use serde_json::json;

use super::comm::{CONTROLS, Kind, Widget};
use super::widget::{Control, widget};
use crate::display::{Bundle, Show};

widget! {
    /// Widgets side by side.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let (rate, train) = (FloatSlider::new(0.1), Button::new("Train"));
    /// VBox::new(&[&HBox::new(&[&rate, &train]), &Label::new("ready")])
    /// # ;
    /// ```
    HBox, ROW = (CONTROLS, "HBox", "")
}

impl HBox {
    /// Creates a row of widgets.
    pub fn new(widgets: &[&dyn Control]) -> HBox {
        HBox(with(&ROW, widgets))
    }

    fn text(&self) -> String {
        texts(&self.0).join(" | ")
    }

    fn html(&self) -> String {
        html(&self.0, "row")
    }
}

widget! {
    /// Widgets one below the other.
    VBox, COLUMN = (CONTROLS, "VBox", "")
}

impl VBox {
    /// Creates a column of widgets.
    pub fn new(widgets: &[&dyn Control]) -> VBox {
        VBox(with(&COLUMN, widgets))
    }

    fn text(&self) -> String {
        texts(&self.0).join("\n")
    }

    fn html(&self) -> String {
        html(&self.0, "column")
    }
}

fn with(kind: &'static Kind, widgets: &[&dyn Control]) -> Arc<Widget> {
    let children = widgets.iter().map(|widget| widget.child()).collect();
    Widget::with_children(kind, json!({"box_style": "", "children": []}), children)
}

fn texts(widget: &Widget) -> Vec<String> {
    widget.children.iter().map(|child| (child.rendered)(&child.widget).0).collect()
}

fn html(widget: &Widget, direction: &str) -> String {
    let children: String = widget.children.iter().map(|child| (child.rendered)(&child.widget).1).collect();
    format!("<div style=\"display:flex;flex-direction:{direction};gap:4px\">{children}</div>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::widgets::{Button, Label};

    #[test]
    fn a_box_names_and_shows_its_widgets() {
        let (label, button) = (Label::new("a<b"), Button::new("go"));
        let column = VBox::new(&[&label, &HBox::new(&[&button, &label])]);
        let children = column.0.get("children");
        assert_eq!(children[0], format!("IPY_MODEL_{}", label.0.id));
        assert_eq!(children.as_array().unwrap().len(), 2);
        label.set_value("c<d");
        assert_eq!(column.text(), "c<d\nButton \"go\" | c<d");
        assert_eq!(column.html().matches("c&lt;d").count(), 2);
    }
}
