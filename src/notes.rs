//! Notes: remarks for the user that are no errors.

use std::fmt::Display;

/// Prints a note to standard error, or to standard output if `HEADSTART_NOTES=stdout`.
pub(crate) fn note(text: impl Display) {
    match headstart_frame::notes_on_stdout() {
        true => println!("{text}"),
        false => eprintln!("{text}"),
    }
}
