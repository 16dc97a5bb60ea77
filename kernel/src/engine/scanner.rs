//! Parser that splits the cells' standard output into text, frames, and evcxr's markers.
//!
//! A frame or a marker may follow text on the same line, because `print!` does not end its line.

use headstart_frame::{Frame, MARK, Malformed, Parts};

use crate::compile::evcxr_text::protocol::{
    CHANGED_TYPE, CONTENT_BEGINS, ERROR, MARKER, PANIC, QUESTION, is_marker,
};

/// Maximum size of a content, in bytes. A content ends here if its end marker is missing.
const MAX_CONTENT: usize = 256 << 20;

/// A part of a cell's standard output.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Text(String),
    Frame(Result<Frame, Malformed>),
    /// A value to show, in one format: MIME type and content.
    Content(String, String),
    /// A `?` returned an error, whose text is on standard error.
    Failed,
    Panicked,
    /// A variable's type was redefined; the line is for evcxr.
    ChangedType(String),
    /// Input request of the crate `evcxr_input`, which reads the answer from standard input.
    Question,
}

/// Splits a stream of bytes into [`Item`]s.
#[derive(Debug, Default)]
pub struct Scanner {
    /// An incomplete line.
    pending: Vec<u8>,
    /// Number of bytes of it that are known to contain no line feed.
    scanned: usize,
    /// Inside a content: its MIME type, and its lines so far.
    content: Option<(String, String)>,
    /// The parts of an incomplete frame.
    parts: Parts,
}

impl Scanner {
    /// Returns the items that these bytes complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Item> {
        self.pending.extend_from_slice(bytes);
        let mut items = Vec::new();
        let Some(end) = memchr::memrchr(b'\n', &self.pending[self.scanned..]) else {
            self.scanned = self.pending.len();
            return items;
        };
        let rest = self.pending.split_off(self.scanned + end + 1);
        let whole = std::mem::replace(&mut self.pending, rest);
        self.scanned = self.pending.len();
        for line in String::from_utf8_lossy(&whole).split_inclusive('\n') {
            self.line(line, &mut items);
        }
        items
    }

    /// Text of the incomplete line, up to a marker.
    pub fn open_text(&mut self) -> Option<Item> {
        if self.content.is_some() {
            return None;
        }
        let frame = (0..self.pending.len()).find(|at| {
            let rest = &self.pending[*at..];
            rest.starts_with(MARK.as_bytes()) || MARK.as_bytes().starts_with(rest)
        });
        let text = &self.pending[..frame.unwrap_or(self.pending.len())];
        // An incomplete character waits for its remaining bytes.
        let whole = match std::str::from_utf8(text) {
            Err(error) if error.error_len().is_none() && frame.is_none() => error.valid_up_to(),
            _ => text.len(),
        };
        self.take(whole)
    }

    /// Returns the remaining items at the end of a cell, complete or not.
    pub fn finish(&mut self) -> Vec<Item> {
        let mut items = Vec::new();
        let rest = String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned();
        self.scanned = 0;
        if !rest.is_empty() {
            self.line(&rest, &mut items);
        }
        if let Some((mime, content)) = self.content.take() {
            items.push(Item::Content(mime, content));
        }
        items
    }

    fn take(&mut self, length: usize) -> Option<Item> {
        let rest = self.pending.split_off(length);
        let text = std::mem::replace(&mut self.pending, rest);
        self.scanned = self.pending.len();
        (!text.is_empty()).then(|| Item::Text(String::from_utf8_lossy(&text).into_owned()))
    }

    fn line(&mut self, line: &str, items: &mut Vec<Item>) {
        let (text, marker) = match marker(line) {
            Some(at) => line.split_at(at),
            None => (line, ""),
        };
        if let Some((_, content)) = &mut self.content {
            content.push_str(text);
            if content.len() > MAX_CONTENT {
                items.extend(self.content.take().map(|(mime, content)| Item::Content(mime, content)));
            }
        } else if let (Some(Item::Text(before)), false) = (items.last_mut(), text.is_empty()) {
            before.push_str(text);
        } else if !text.is_empty() {
            items.push(Item::Text(text.to_owned()));
        }
        let marker = marker.trim_end_matches('\n');
        if marker.is_empty() {
            return;
        }
        if let Some(whole) = self.parts.add(marker) {
            items.extend(whole.and_then(|frame| Frame::decode(&frame)).map(Item::Frame));
            return;
        }
        if let Some(frame) = Frame::decode(marker) {
            items.push(Item::Frame(frame));
            return;
        }
        if let Some(mime) = marker.strip_prefix(CONTENT_BEGINS) {
            let unclosed = self.content.replace((mime.trim().to_owned(), String::new()));
            items.extend(unclosed.map(|(mime, content)| Item::Content(mime, content)));
            return;
        }
        if let Some((mime, mut content)) = self.content.take() {
            // The line feed before the end marker is not part of the content.
            if content.ends_with('\n') {
                content.pop();
            }
            items.push(Item::Content(mime, content));
        }
        items.extend(match marker {
            ERROR => Some(Item::Failed),
            PANIC => Some(Item::Panicked),
            _ if marker.starts_with(CHANGED_TYPE) => Some(Item::ChangedType(marker.to_owned())),
            _ if marker.starts_with(QUESTION) => Some(Item::Question),
            _ => None,
        });
    }
}

/// Position of a frame or of an evcxr marker in a line.
fn marker(line: &str) -> Option<usize> {
    let frame = line.find(MARK).filter(|at| line[at + MARK.len()..].starts_with('\u{1f}'));
    let evcxr = line.match_indices(MARKER).map(|(at, _)| at).find(|at| is_marker(line[*at..].trim_end()));
    frame.into_iter().chain(evcxr).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::evcxr_text::protocol::CONTENT_ENDS;

    fn text(text: &str) -> Item {
        Item::Text(text.into())
    }

    fn content(mime: &str, content: &str) -> Item {
        Item::Content(mime.into(), content.into())
    }

    #[test]
    fn markers_and_frames_are_found_in_mid_line() {
        let question = Frame::Input { prompt: "Name? ".into(), password: false };
        let whole = format!(
            "one\nHi. {}\nx{PANIC}\nEVCXR_ is text\n{CONTENT_BEGINS}is text\ny{CONTENT_BEGINS}text/html\n<b>\n\n</b>\n\
             {CONTENT_ENDS}\n{ERROR}\n{CHANGED_TYPE}v\n{QUESTION}:a?\n",
            question.encode()
        );
        let expected = [
            text("one\nHi. "),
            Item::Frame(Ok(question)),
            text("x"),
            Item::Panicked,
            text(&format!("EVCXR_ is text\n{CONTENT_BEGINS}is text\ny")),
            content("text/html", "<b>\n\n</b>"),
            Item::Failed,
            Item::ChangedType(format!("{CHANGED_TYPE}v")),
            Item::Question,
        ];
        assert_eq!(Scanner::default().feed(whole.as_bytes()), expected);
        // The result does not depend on how the bytes are divided.
        let mut scanner = Scanner::default();
        let mut items: Vec<Item> = Vec::new();
        for item in whole.bytes().flat_map(|byte| scanner.feed(&[byte])) {
            match (items.last_mut(), item) {
                (Some(Item::Text(before)), Item::Text(more)) => before.push_str(&more),
                (_, item) => items.push(item),
            }
        }
        assert_eq!(items, expected);
    }

    #[test]
    fn an_open_line_is_shown_up_to_a_frame() {
        let mut scanner = Scanner::default();
        assert_eq!(scanner.feed("aé".as_bytes().split_last().unwrap().1), []);
        assert_eq!(scanner.open_text(), Some(text("a")));
        assert_eq!(scanner.feed(&"é".as_bytes()[1..]), []);
        assert_eq!(scanner.open_text(), Some(text("é")));
        let frame = Frame::Clear { wait: true };
        let line = format!("b{}\n", frame.encode());
        let (begin, end) = line.split_at(MARK.len() + 4);
        scanner.feed(begin.as_bytes());
        assert_eq!(scanner.open_text(), Some(text("b")));
        assert_eq!(scanner.open_text(), None);
        assert_eq!(scanner.feed(end.as_bytes()), [Item::Frame(Ok(frame))]);
    }

    #[test]
    fn a_frame_in_parts_may_stand_between_other_text() {
        let mut scanner = Scanner::default();
        let part = |kind: &str, part: &str| format!("noi{MARK}\u{1f}{kind}\u{1f}{part}\nse\n");
        let whole = part("part", "\u{1f}clear\u{1f}wa") + &part("last", "it");
        let items = scanner.feed(whole.as_bytes());
        let frame = Item::Frame(Ok(Frame::Clear { wait: true }));
        assert_eq!(items, [text("noise\nnoi"), frame, text("se\n")]);
    }

    #[test]
    fn an_open_content_ends_with_the_cell() {
        let mut scanner = Scanner::default();
        assert_eq!(scanner.feed(format!("{CONTENT_BEGINS}text/plain\nhalf\n").as_bytes()), []);
        assert_eq!(scanner.finish(), [content("text/plain", "half\n")]);
        assert_eq!(scanner.feed(b"\xffend\n"), [text("\u{fffd}end\n")]);
        assert_eq!(
            scanner.feed(format!("{CONTENT_BEGINS}text/plain\na\n{PANIC}\n").as_bytes()),
            [content("text/plain", "a"), Item::Panicked]
        );
        assert_eq!(scanner.finish(), []);
    }
}
