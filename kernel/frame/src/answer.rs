//! The kernel's answers to requests for input.

use crate::{FIELD, MARK, push, unescape};

/// The kernel's answer to a [`Frame::Input`]: one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The user's text.
    Text(String),
    /// The user pressed Stop.
    Interrupted,
    /// The client cannot ask the user, or the input has ended.
    NoInput,
}

impl Answer {
    /// Encodes the answer as one line, with the line feed.
    pub fn encode(&self) -> String {
        let mut line = String::from(MARK);
        match self {
            Answer::Text(text) => {
                push(&mut line, "text");
                push(&mut line, text);
            }
            Answer::Interrupted => push(&mut line, "interrupted"),
            Answer::NoInput => push(&mut line, "no input"),
        }
        line.push('\n');
        line
    }

    /// Decodes a line; `None` if it is not an answer.
    pub fn decode(line: &str) -> Option<Answer> {
        let fields = line.trim_end_matches('\n').strip_prefix(MARK)?.strip_prefix(FIELD)?;
        match fields.split(FIELD).collect::<Vec<_>>()[..] {
            ["text", text] => unescape(text).map(Answer::Text),
            ["interrupted"] => Some(Answer::Interrupted),
            ["no input"] => Some(Answer::NoInput),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_survives_a_round_trip() {
        for answer in [Answer::Text("a\\n\nb\u{1f}é".into()), Answer::Interrupted, Answer::NoInput] {
            let line = answer.encode();
            assert_eq!(line.matches('\n').count(), 1);
            assert_eq!(Answer::decode(&line), Some(answer));
        }
        assert_eq!(Answer::decode("LOAD_AND_RUN a b\n"), None);
    }
}
