//! Interactive widgets: sliders, buttons and other controls of the notebook.
//!
//! The widgets are those of Python's ipywidgets, and its front end in JupyterLab shows them. `value()` returns
//! the current value, even in a running cell. Callbacks run between cells. Their output appears below the cell
//! that shows the widget.
//!
//! ```
//! use headstart::prelude::*;
//! let rate = FloatSlider::new(0.1).min(0.0).max(1.0).step(0.01).description("rate");
//! rate.on_change(|rate| println!("the rate is now {rate}"));
//! assert_eq!(rate.value(), 0.1);
//! ```
//!
//! Elsewhere, such as in evcxr's own kernel or in a terminal, a widget is not interactive and shows its value.

mod boxes;
mod comm;
mod controls;
mod events;
mod files;
mod output;
mod widget;

pub use boxes::{HBox, VBox};
pub use comm::{CallbackResult, Child};
pub use controls::{Button, Checkbox, Dropdown, FloatSlider, IntSlider, Label, TextInput};
pub use files::{FileUpload, ImageView, UploadedFile};
pub use output::Output;
pub use widget::Control;
