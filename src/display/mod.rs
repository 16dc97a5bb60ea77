//! Rich output of notebook cells, updated live.
//!
//! Under the Headstart kernel, a display appears immediately and can be updated in place. Under the
//! stock `evcxr_jupyter`, its final state appears when the cell ends. In a terminal, its text is
//! printed.

mod glue;
mod html;
mod image_grid;
mod input;
mod progress_bar;
mod tensor;
pub mod widgets;

use std::fmt::Debug;
#[cfg(feature = "cells")]
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub use glue::glue;
pub use headstart_frame::Bundle;
use headstart_frame::{ENVIRONMENT_VARIABLE, Frame};
pub(crate) use html::escape;
pub use image_grid::ImageGrid;
pub(crate) use image_grid::{encoded_images, thumbnails};
pub use input::{input, input_password};
pub(crate) use progress_bar::{Bar, INTERVAL, ProgressBar, blocks};
pub use widgets::{
    Button, Checkbox, Dropdown, FileUpload, FloatSlider, HBox, ImageView, IntSlider, Label, Output,
    TextInput, VBox,
};

/// The rich representation of a value: always `text/plain`, and HTML or SVG where useful.
///
/// The value of a cell's last expression is displayed through this trait. Implement it for your own
/// types.
pub trait Show {
    /// Returns the representations of the value, as pairs of MIME type and content.
    fn bundle(&self) -> Bundle;

    /// Called by the notebook for the value of a cell's last expression.
    fn evcxr_display(&self) {
        show_bundle(self.bundle());
    }
}

/// Returns the bundle of a value that has only a text representation.
pub(crate) fn text_bundle(value: &dyn std::fmt::Display) -> Bundle {
    vec![("text/plain".into(), value.to_string())]
}

/// Implements `Debug` with the text of `Show`. If the last expression of a cell moves a variable, evcxr
/// shows it with `Debug`, as `dbg!` does. The text is more useful there than the fields of the struct.
macro_rules! debug_as_text {
    ($($type:ty),*) => {
        $(impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($crate::display::plain(&$crate::display::Show::bundle(self)))
            }
        })*
    };
}
pub(crate) use debug_as_text;

/// Displays the value of a cell's last expression with `Debug`, for types without [`Show`].
///
/// The method takes `&mut self`, so that method resolution prefers [`Show`] and a type's own method.
/// Without this trait, evcxr finds no method, and compiles each such cell a second time with `Debug`.
///
/// Only for Headstart's kernel, which also passes immutable places. In the stock kernel, rustc's advice
/// to import the trait would hide from evcxr that the method is missing.
#[cfg(feature = "cells")]
#[doc(hidden)]
pub trait ShowDebug {
    fn evcxr_display(&mut self);
}

#[cfg(feature = "cells")]
impl<T: Debug> ShowDebug for T {
    fn evcxr_display(&mut self) {
        show_debug(self);
    }
}

/// Like [`show_bundle`], not generic, so that a cell has less code to compile.
#[cfg(feature = "cells")]
fn show_debug(value: &dyn Debug) {
    let mut shown = Limited { text: String::new(), is_full: false };
    let written = match IS_PRETTY.load(Ordering::Relaxed) {
        true => write!(shown, "{value:#?}"),
        false => write!(shown, "{value:?}"),
    };
    if shown.is_full {
        shown.text.push_str("… (the rest is not shown)");
    } else if written.is_err() {
        shown.text.push_str("… (`Debug` returned an error)");
    }
    show_bundle(vec![("text/plain".into(), shown.text)]);
}

/// Maximum size of the value of a type without [`Show`], in bytes. A notebook cannot show much longer texts.
#[cfg(feature = "cells")]
const MAX_DEBUG: usize = 100_000;

/// A text that takes at most [`MAX_DEBUG`] bytes.
#[cfg(feature = "cells")]
struct Limited {
    text: String,
    is_full: bool,
}

#[cfg(feature = "cells")]
impl Write for Limited {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = MAX_DEBUG - self.text.len();
        self.is_full |= text.len() > room;
        self.text.push_str(&text[..text.floor_char_boundary(room)]);
        if self.is_full { Err(std::fmt::Error) } else { Ok(()) }
    }
}

fn show_bundle(data: Bundle) {
    match sink() {
        Sink::Kernel => Frame::Value { data }.print(),
        Sink::StockKernel | Sink::Terminal => print!("{}", content_blocks(&data)),
    }
}

static IS_PRETTY: AtomicBool = AtomicBool::new(false);

/// Sets whether cells show such values with `{:#?}` instead of `{:?}`, as `:fmt` asks.
#[doc(hidden)]
pub fn set_pretty_debug(is_pretty: bool) {
    IS_PRETTY.store(is_pretty, Ordering::Relaxed);
}

/// Prints a value as text, as a notebook shows it: with [`Show`](crate::display::Show) if implemented,
/// otherwise with `Debug`. Prints nothing for `()`.
///
/// ```
/// use headstart::prelude::*;
/// let model = sequential![Input::new(4), Dense::new(1)]?;
/// show!(model.summary());
/// show!(vec![1, 2, 3]);
/// # Ok::<(), headstart::Error>(())
/// ```
#[macro_export]
macro_rules! show {
    ($value:expr) => {{
        #[allow(unused_imports)]
        use $crate::display::{PrintDebug as _, PrintShow as _};
        (&$crate::display::Printed(&$value)).print()
    }};
}

/// The wrapper that [`show!`](crate::show) prints. Method resolution prefers the trait that needs fewer
/// references.
#[doc(hidden)]
pub struct Printed<'a, T>(pub &'a T);

#[doc(hidden)]
pub trait PrintShow {
    fn print(&self);
}

#[doc(hidden)]
pub trait PrintDebug {
    fn print(&self);
}

impl<T: Show> PrintShow for Printed<'_, T> {
    fn print(&self) {
        println!("{}", plain(&self.0.bundle()));
    }
}

impl<T: Debug> PrintDebug for &Printed<'_, T> {
    fn print(&self) {
        let text = format!("{:?}", self.0);
        if text != "()" {
            println!("{text}");
        }
    }
}

/// A display in the notebook that can be updated in place.
#[derive(Debug)]
pub struct Display {
    id: String,
}

/// Displays a value immediately, and returns a handle to update it.
///
/// ```
/// use headstart::prelude::*;
/// let shown = display(&Text::new("one of three done"));
/// shown.update(&Text::new("two of three done"));
/// ```
pub fn display(value: &impl Show) -> Display {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let id = format!("headstart-{}-{number}", std::process::id());
    let data = value.bundle();
    match sink() {
        Sink::Kernel => Frame::Display { id: id.clone(), data }.print(),
        Sink::StockKernel => print!("{}", content_blocks(&data)),
        Sink::Terminal => println!("{}", plain(&data)),
    }
    Display { id }
}

impl Display {
    /// Replaces the displayed value. In a terminal, prints the new text.
    pub fn update(&self, value: &impl Show) {
        let data = value.bundle();
        match sink() {
            Sink::Kernel => Frame::Update { id: self.id.clone(), data }.print(),
            Sink::StockKernel => print!("{}", content_blocks(&data)),
            Sink::Terminal => println!("{}", plain(&data)),
        }
    }
}

/// Clears the output of the cell. With `wait`, clears it only when new output arrives, which avoids
/// flicker. Does nothing in the stock kernel.
///
/// ```
/// use headstart::prelude::*;
/// for number in 1..=3 {
///     clear_output(true);
///     println!("{number} of 3");
/// }
/// ```
pub fn clear_output(wait: bool) {
    match sink() {
        Sink::Kernel => Frame::Clear { wait }.print(),
        Sink::StockKernel => {}
        Sink::Terminal if is_live_terminal() => print!("\x1b[2K\r"),
        Sink::Terminal => {}
    }
}

/// Plain text to display, with its line breaks.
#[derive(Clone, Debug)]
pub struct Text(String);

impl Text {
    /// Creates a text display.
    pub fn new(text: impl Into<String>) -> Text {
        Text(text.into())
    }
}

impl Show for Text {
    fn bundle(&self) -> Bundle {
        vec![("text/plain".into(), self.0.clone())]
    }
}

/// The destination of displays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// The Headstart kernel, immediately.
    Kernel,
    /// evcxr's own kernel, when the cell ends.
    StockKernel,
    /// Standard output.
    Terminal,
}

pub(crate) fn sink() -> Sink {
    if std::env::var(ENVIRONMENT_VARIABLE).is_ok_and(|id| id == std::process::id().to_string()) {
        Sink::Kernel
    } else if std::env::var_os("EVCXR_IS_RUNTIME").is_some() {
        Sink::StockKernel
    } else {
        Sink::Terminal
    }
}

/// Whether standard output is a terminal, where `\r` can overwrite text.
pub(crate) fn is_live_terminal() -> bool {
    sink() == Sink::Terminal && std::io::stdout().is_terminal()
}

/// Encodes output in evcxr's format: one block per MIME type.
fn content_blocks(data: &Bundle) -> String {
    let block = |(mime, content): &(String, String)| {
        format!("EVCXR_BEGIN_CONTENT {mime}\n{content}\nEVCXR_END_CONTENT\n")
    };
    data.iter().map(block).collect()
}

pub(crate) fn plain(data: &Bundle) -> &str {
    data.iter().find(|(mime, _)| mime == "text/plain").map_or("", |(_, text)| text)
}
