//! What a cell can put on the page, live.
//!
//! Under the Headstart kernel a display appears at once and can be changed in place. Under the
//! stock `evcxr_jupyter` it appears when the cell ends, in its last state. In a terminal its text
//! is printed.

mod glue;
mod html;
mod input;
mod pictures;
mod progress_bar;
mod tensor;

use std::fmt::Debug;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub use glue::glue;
pub use headstart_frame::Bundle;
use headstart_frame::{ENVIRONMENT_VARIABLE, Frame};
pub(crate) use html::escape;
pub use input::{input, input_password};
pub use pictures::ImageGrid;
pub(crate) use pictures::thumbnails;
pub(crate) use progress_bar::{Bar, INTERVAL, ProgressBar, blocks};

/// What a value looks like on a page: `text/plain` always, and HTML or SVG where that is better.
///
/// The last value of a cell is shown through this; implement it for a type of your own.
pub trait Show {
    /// The value in each of its forms, pairs of MIME type and content.
    fn bundle(&self) -> Bundle;

    /// Called by the notebook for the value of a cell's last expression.
    fn evcxr_display(&self) {
        show_bundle(&self.bundle());
    }
}

/// The bundle of a value that is shown as text only.
pub(crate) fn text_bundle(value: &dyn std::fmt::Display) -> Bundle {
    vec![("text/plain".into(), value.to_string())]
}

/// Implements `Debug` by the text of `Show`. evcxr shows the last expression of a cell as `Debug` if it moves a variable,
/// and so does `dbg!`: then the text is wanted, not the numbers behind the picture.
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

/// The value of a cell that has no look of its own: as `Debug` has it.
///
/// Its method takes `&mut self` so that the compiler comes to it after [`Show`]'s and a type's own.
/// Without it evcxr finds no method, and compiles each such cell a second time with `Debug` in place.
/// For Headstart's kernel alone, which also lends places that are not to be changed. In the stock one rustc's
/// advice to import it would hide from evcxr that there is no such method.
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

/// Not generic, as is [`show_bundle`]: a cell has less to compile.
#[cfg(feature = "cells")]
fn show_debug(value: &dyn Debug) {
    let text = match IS_PRETTY.load(Ordering::Relaxed) {
        true => format!("{value:#?}"),
        false => format!("{value:?}"),
    };
    show_bundle(&vec![("text/plain".into(), text)]);
}

fn show_bundle(bundle: &Bundle) {
    print!("{}", content_blocks(bundle));
}

static IS_PRETTY: AtomicBool = AtomicBool::new(false);

/// Whether a cell shows such a value as `{:#?}` instead of `{:?}`, as `:fmt` asks.
#[doc(hidden)]
pub fn set_pretty_debug(is_pretty: bool) {
    IS_PRETTY.store(is_pretty, Ordering::Relaxed);
}

/// Prints a value as a notebook shows it as text: in its own way if it has one, or else as `Debug`
/// has it; nothing for `()`.
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

/// What [`show!`](crate::show) prints: of the two traits it finds that one which takes fewer references.
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

/// Something on the page that can be changed in place.
#[derive(Debug)]
pub struct Display {
    id: String,
}

/// Puts a value on the page now, and gives the means to change it.
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
        Sink::Kernel => println!("{}", Frame::Display { id: id.clone(), data }.encode()),
        Sink::StockKernel => print!("{}", content_blocks(&data)),
        Sink::Terminal => println!("{}", plain(&data)),
    }
    Display { id }
}

impl Display {
    /// Replaces what is shown; in a terminal, prints the new text.
    pub fn update(&self, value: &impl Show) {
        let data = value.bundle();
        match sink() {
            Sink::Kernel => println!("{}", Frame::Update { id: self.id.clone(), data }.encode()),
            Sink::StockKernel => print!("{}", content_blocks(&data)),
            Sink::Terminal => println!("{}", plain(&data)),
        }
    }
}

/// Takes away what the cell has shown so far; with `wait`, not before there is something new, so
/// that the page does not flicker. In the stock kernel it does nothing.
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
        Sink::Kernel => println!("{}", Frame::Clear { wait }.encode()),
        Sink::StockKernel => {}
        Sink::Terminal if is_live_terminal() => print!("\x1b[2K\r"),
        Sink::Terminal => {}
    }
}

/// Plain text to show, with its line breaks.
#[derive(Clone, Debug)]
pub struct Text(String);

impl Text {
    /// Shows the text as it is.
    pub fn new(text: impl Into<String>) -> Text {
        Text(text.into())
    }
}

impl Show for Text {
    fn bundle(&self) -> Bundle {
        vec![("text/plain".into(), self.0.clone())]
    }
}

/// Where displays go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// Our kernel, at once.
    Kernel,
    /// evcxr's own kernel, when the cell ends.
    StockKernel,
    /// Standard output.
    Terminal,
}

pub(crate) fn sink() -> Sink {
    if std::env::var_os(ENVIRONMENT_VARIABLE).is_some() {
        Sink::Kernel
    } else if std::env::var_os("EVCXR_IS_RUNTIME").is_some() {
        Sink::StockKernel
    } else {
        Sink::Terminal
    }
}

/// Whether text can be overwritten with `\r` where standard output goes.
pub(crate) fn is_live_terminal() -> bool {
    sink() == Sink::Terminal && std::io::stdout().is_terminal()
}

/// evcxr's own form for the output of a cell: one block for each type.
fn content_blocks(data: &Bundle) -> String {
    let block = |(mime, content): &(String, String)| {
        format!("EVCXR_BEGIN_CONTENT {mime}\n{content}\nEVCXR_END_CONTENT\n")
    };
    data.iter().map(block).collect()
}

pub(crate) fn plain(data: &Bundle) -> &str {
    data.iter().find(|(mime, _)| mime == "text/plain").map_or("", |(_, text)| text)
}
