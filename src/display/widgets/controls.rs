//! The controls: sliders, lists, buttons and text fields.

use std::sync::Arc;

use serde_json::{Value, json};

use super::comm::{CONTROLS, CallbackResult, Event, Kind, Widget};
use super::widget::{widget, with_value};
use crate::display::{Bundle, Show, escape};

widget! {
    /// A slider for a floating-point number.
    FloatSlider, FLOAT_SLIDER = (CONTROLS, "FloatSlider", "SliderStyleModel")
}
with_value!(FloatSlider, f64, f64, |widget| {
    let [value, min, max] = ["value", "min", "max"].map(|key| widget.get(key).as_f64().unwrap_or_default());
    value.min(max).max(min)
});

impl FloatSlider {
    /// Creates a slider from 0 to 10 in steps of 0.1, with an initial value.
    pub fn new(value: f64) -> FloatSlider {
        let state = json!({"value": value, "min": 0.0, "max": 10.0, "step": 0.1, "description": "", "readout_format": ".2f"});
        FloatSlider(Widget::new(&FLOAT_SLIDER, state))
    }

    /// Sets the smallest value.
    pub fn min(self, min: f64) -> FloatSlider {
        self.0.set_bound("min", min);
        self
    }

    /// Sets the largest value.
    pub fn max(self, max: f64) -> FloatSlider {
        self.0.set_bound("max", max);
        self
    }

    /// Sets the distance between two values.
    pub fn step(self, step: f64) -> FloatSlider {
        self.0.set("step", step);
        self
    }

    /// Sets the format of the number beside the slider, as in `.4f` or `.1e`.
    pub fn readout_format(self, format: &str) -> FloatSlider {
        self.0.set("readout_format", format);
        self
    }

    fn text(&self) -> String {
        text("FloatSlider", &self.0, &self.value())
    }

    fn html(&self) -> String {
        slider_html(&self.0, &self.value())
    }
}

widget! {
    /// A slider for a whole number.
    IntSlider, INT_SLIDER = (CONTROLS, "IntSlider", "SliderStyleModel")
}
with_value!(IntSlider, i64, i64, |widget| {
    let [value, min, max] = ["value", "min", "max"].map(|key| widget.get(key).as_i64().unwrap_or_default());
    value.min(max).max(min)
});

impl IntSlider {
    /// Creates a slider from 0 to 100 in steps of 1, with an initial value.
    pub fn new(value: i64) -> IntSlider {
        let state = json!({"value": value, "min": 0, "max": 100, "step": 1, "description": ""});
        IntSlider(Widget::new(&INT_SLIDER, state))
    }

    /// Sets the smallest value.
    pub fn min(self, min: i64) -> IntSlider {
        self.0.set_bound("min", min);
        self
    }

    /// Sets the largest value.
    pub fn max(self, max: i64) -> IntSlider {
        self.0.set_bound("max", max);
        self
    }

    /// Sets the distance between two values.
    pub fn step(self, step: i64) -> IntSlider {
        self.0.set("step", step);
        self
    }

    fn text(&self) -> String {
        text("IntSlider", &self.0, &self.value())
    }

    fn html(&self) -> String {
        slider_html(&self.0, &self.value())
    }
}

widget! {
    /// A list from which the user chooses one option.
    Dropdown, DROPDOWN = (CONTROLS, "Dropdown", "DescriptionStyleModel")
}

impl Dropdown {
    /// Creates a list with these options, of which the first is chosen.
    pub fn new(options: impl IntoIterator<Item = impl Into<String>>) -> Dropdown {
        let options: Vec<String> = options.into_iter().map(Into::into).collect();
        let index = if options.is_empty() { Value::Null } else { json!(0) };
        let state = json!({"_options_labels": options, "index": index, "description": ""});
        Dropdown(Widget::new(&DROPDOWN, state))
    }

    /// The options.
    pub fn options(&self) -> Vec<String> {
        serde_json::from_value(self.0.get("_options_labels")).unwrap_or_default()
    }

    /// The position of the chosen option; `None` if the list is empty.
    pub fn index(&self) -> Option<usize> {
        self.0.get("index").as_u64().and_then(|index| usize::try_from(index).ok())
    }

    /// The chosen option; empty if the list is empty.
    pub fn value(&self) -> String {
        let mut options = self.options();
        self.index()
            .filter(|index| *index < options.len())
            .map(|index| options.swap_remove(index))
            .unwrap_or_default()
    }

    /// Chooses an option, here and in the notebook. Runs no callbacks.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) if there is no such option.
    pub fn set_value(&self, value: &str) -> crate::Result<()> {
        let options = self.options();
        let index =
            options.iter().position(|option| option == value).ok_or_else(|| crate::Error::Argument {
                name: "value",
                expected: format!("one of {}", options.join(", ")),
                found: value.to_owned(),
            })?;
        self.0.set("index", index);
        Ok(())
    }

    /// Calls a function with the chosen option after the user has changed it. The function runs when no
    /// cell runs.
    pub fn on_change<R: CallbackResult>(&self, mut callback: impl FnMut(String) -> R + Send + 'static) {
        self.0.callbacks.add(Event::Change, move |widget| callback(Dropdown(widget.clone()).value()));
    }

    /// Calls a function at once after a change by the user, in the thread that receives messages.
    pub(crate) fn on_receive(&self, function: impl Fn() + Send + Sync + 'static) {
        self.0.on_receive(function);
    }

    fn text(&self) -> String {
        text("Dropdown", &self.0, &self.value())
    }

    fn html(&self) -> String {
        let options = self.options();
        let option = |(at, option): (usize, &String)| {
            let selected = if Some(at) == self.index() { " selected" } else { "" };
            format!("<option{selected}>{}</option>", escape(option))
        };
        let options: String = options.iter().enumerate().map(option).collect();
        format!("<label>{} <select disabled>{options}</select></label>", self.0.label())
    }
}

widget! {
    /// A button.
    Button, BUTTON = (CONTROLS, "Button", "ButtonStyleModel")
}

impl Button {
    /// Creates a button with its text.
    pub fn new(description: &str) -> Button {
        Button(Widget::new(&BUTTON, json!({"description": description})))
    }

    /// Calls a function after each press. The function runs when no cell runs.
    pub fn on_click<R: CallbackResult>(&self, mut callback: impl FnMut() -> R + Send + 'static) {
        self.0.callbacks.add(Event::Click, move |_| callback());
    }

    fn text(&self) -> String {
        format!("Button {}", self.0.get("description"))
    }

    fn html(&self) -> String {
        format!("<button disabled>{}</button>", self.0.label())
    }
}

widget! {
    /// A checkbox.
    Checkbox, CHECKBOX = (CONTROLS, "Checkbox", "CheckboxStyleModel")
}
with_value!(Checkbox, bool, bool, |widget| widget.get("value").as_bool().unwrap_or_default());

impl Checkbox {
    /// Creates a checkbox with an initial value.
    pub fn new(value: bool) -> Checkbox {
        Checkbox(Widget::new(&CHECKBOX, json!({"value": value, "description": "", "indent": false})))
    }

    fn text(&self) -> String {
        text("Checkbox", &self.0, &self.value())
    }

    fn html(&self) -> String {
        let checked = if self.value() { " checked" } else { "" };
        format!("<label><input type=\"checkbox\" disabled{checked}> {}</label>", self.0.label())
    }
}

widget! {
    /// A field for a line of text; `Text` in ipywidgets.
    TextInput, TEXT_INPUT = (CONTROLS, "Text", "TextStyleModel")
}
with_value!(TextInput, String, &str, |widget| widget.get("value").as_str().unwrap_or_default().to_owned());

impl TextInput {
    /// Creates a field with an initial text.
    pub fn new(value: &str) -> TextInput {
        // The client sends the text when the user leaves the field, and not for each letter.
        let state = json!({"value": value, "description": "", "placeholder": "", "continuous_update": false});
        TextInput(Widget::new(&TEXT_INPUT, state))
    }

    /// Sets the text that an empty field shows.
    pub fn placeholder(self, text: &str) -> TextInput {
        self.0.set("placeholder", text);
        self
    }

    fn text(&self) -> String {
        text("TextInput", &self.0, &self.value())
    }

    fn html(&self) -> String {
        let value = escape(&self.value());
        format!("<label>{} <input type=\"text\" disabled value=\"{value}\"></label>", self.0.label())
    }
}

widget! {
    /// A line of text that cells can change.
    Label, LABEL = (CONTROLS, "Label", "LabelStyleModel")
}
with_value!(Label, String, &str, |widget| widget.get("value").as_str().unwrap_or_default().to_owned());

impl Label {
    /// Creates a label with an initial text.
    pub fn new(value: &str) -> Label {
        Label(Widget::new(&LABEL, json!({"value": value, "description": ""})))
    }

    fn text(&self) -> String {
        self.value()
    }

    fn html(&self) -> String {
        format!("<span>{}</span>", escape(&self.value()))
    }
}

/// Text of a widget: its name, description and value.
fn text(name: &str, widget: &Widget, value: &dyn std::fmt::Debug) -> String {
    match widget.get("description").as_str() {
        Some(description) if !description.is_empty() => format!("{name} {description}: {value:?}"),
        _ => format!("{name} {value:?}"),
    }
}

fn slider_html(widget: &Widget, value: &dyn std::fmt::Debug) -> String {
    let [min, max, step] = ["min", "max", "step"].map(|key| widget.get(key));
    format!(
        "<label>{} <input type=\"range\" disabled min=\"{min}\" max=\"{max}\" step=\"{step}\" value=\"{value:?}\"> {value:?}</label>",
        widget.label()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::plain;

    #[test]
    fn a_widget_without_a_client_shows_and_keeps_its_value() {
        let slider = FloatSlider::new(0.5).min(0.1).max(1.0).step(0.1).description("<rate>");
        let bundle = slider.bundle();
        assert_eq!(plain(&bundle), "FloatSlider <rate>: 0.5");
        assert!(bundle[1].1.contains("&lt;rate&gt; <input type=\"range\" disabled min=\"0.1\" max=\"1.0\""));
        assert_eq!(bundle.len(), 2, "no view without a client");
        slider.set_value(0.7);
        assert_eq!(slider.clone().value(), 0.7);
        assert_eq!(IntSlider::new(3).max(5).value(), 3);
        assert_eq!(FloatSlider::new(20.0).min(-1.0).max(15.0).value(), 15.0, "the limits hold");
        assert!(Checkbox::new(true).value() && Checkbox::new(true).html().contains(" checked"));
        assert_eq!((TextInput::new("a\"b").value(), Label::new("c").value()), ("a\"b".into(), "c".into()));
        assert!(TextInput::new("a\"b").html().contains("a&quot;b"));
    }

    #[test]
    fn a_list_has_a_choice() {
        let list = Dropdown::new(["Adam", "SGD"]).description("optimizer");
        assert_eq!((list.value().as_str(), list.index()), ("Adam", Some(0)));
        list.set_value("SGD").unwrap();
        assert_eq!(list.value(), "SGD");
        assert!(list.html().contains("<option selected>SGD</option>"));
        assert!(list.set_value("RMSprop").unwrap_err().to_string().contains("one of Adam, SGD"));
        let empty = Dropdown::new(Vec::<String>::new());
        assert_eq!((empty.value(), empty.index()), (String::new(), None));
    }
}
