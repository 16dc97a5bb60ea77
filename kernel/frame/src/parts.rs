//! Frames that are longer than one write.
//!
//! Programs that a cell has started print to the same pipe. Only a write of limited size arrives without other text in
//! between, so a long frame is printed as several lines, which the kernel joins.

use std::io::{self, Write};

use crate::{FIELD, Frame, MARK};

/// Maximum number of bytes that a pipe takes at once: `PIPE_BUF`.
const MAX_WRITE: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };
/// First field of a line with a part of a frame, and of the line with its last part.
const KINDS: [&str; 2] = ["part", "last"];

impl Frame {
    /// Prints the frame to standard output. If the kernel has gone, this has no effect.
    pub fn print(&self) {
        // No other thread prints between the lines.
        let mut stdout = io::stdout().lock();
        for line in lines(&self.encode()) {
            if stdout.write_all(line.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// The lines in which an encoded frame is printed.
fn lines(frame: &str) -> impl Iterator<Item = String> {
    let is_whole = frame.len() < MAX_WRITE;
    let mut rest = if is_whole { frame } else { frame.strip_prefix(MARK).unwrap_or(frame) };
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if is_whole {
            return Some(format!("{}\n", std::mem::take(&mut rest)));
        }
        let around = MARK.len() + KINDS[0].len() + 2 * FIELD.len_utf8() + 1;
        let (part, after) = rest.split_at(rest.floor_char_boundary(MAX_WRITE - around));
        rest = after;
        let kind = KINDS[usize::from(rest.is_empty())];
        Some(format!("{MARK}{FIELD}{kind}{FIELD}{part}\n"))
    })
}

/// Joins the parts of a frame.
#[derive(Debug, Default)]
pub struct Parts(String);

impl Parts {
    /// Adds the part in a line, without the line feed. `None` if the line contains no part; otherwise the encoded frame
    /// if this was its last part.
    pub fn add(&mut self, line: &str) -> Option<Option<String>> {
        let (kind, part) = line.strip_prefix(MARK)?.strip_prefix(FIELD)?.split_once(FIELD)?;
        let [first, last] = KINDS;
        if kind != first && kind != last {
            return None;
        }
        if self.0.is_empty() {
            self.0.push_str(MARK);
        }
        self.0.push_str(part);
        Some((kind == last).then(|| std::mem::take(&mut self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_any_length_is_joined_again() {
        for length in [0, 1, MAX_WRITE - 60, MAX_WRITE, MAX_WRITE + 1, 10 * MAX_WRITE] {
            let content = "é\u{1f}\n\\x".repeat(length / 5) + "é";
            let frame = Frame::Display { id: "a".into(), data: vec![("text/html".into(), content)] };
            let lines: Vec<String> = lines(&frame.encode()).collect();
            assert_eq!(lines.len() > 1, frame.encode().len() >= MAX_WRITE);
            let mut parts = Parts::default();
            let mut whole = None;
            for line in &lines {
                assert!(line.len() <= MAX_WRITE && line.ends_with('\n') && line.matches('\n').count() == 1);
                let line = line.trim_end_matches('\n');
                assert!(whole.is_none(), "the last line completes the frame");
                whole = parts.add(line).unwrap_or_else(|| Some(line.to_owned()));
            }
            assert_eq!(Frame::decode(&whole.unwrap()), Some(Ok(frame)));
        }
    }

    #[test]
    fn other_lines_are_no_parts() {
        for line in ["noise", "\u{1e}headstart\u{1f}clear\u{1f}now", "\u{1e}headstart\u{1f}part"] {
            assert_eq!(Parts::default().add(line), None);
        }
    }
}
