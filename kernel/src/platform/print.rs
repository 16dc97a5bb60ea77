//! Printing that does not end the program. In place of the macros of the standard library, which panic if a pipe is
//! closed, as by `headstart models list | head`.

/// Prints to standard output. Text for a closed pipe is dropped.
macro_rules! print {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stdout(), $($text)*);
    }};
}

/// Prints a line to standard output. Text for a closed pipe is dropped.
macro_rules! println {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// Prints to standard error. Text for a closed pipe is dropped.
macro_rules! eprint {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stderr(), $($text)*);
    }};
}

/// Prints a line to standard error. Text for a closed pipe is dropped.
macro_rules! eprintln {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}
