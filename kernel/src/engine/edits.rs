//! Changes to a text, and where each of its parts stood before.

use std::ops::Range;

/// A text made from another by replacing some of its parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edited {
    pub text: String,
    /// In order: the place of what was replaced, in bytes of the text from before, and the length of what
    /// came in its place.
    edits: Vec<(Range<usize>, usize)>,
}

impl Edited {
    /// The text with other text in some places, which do not overlap.
    pub fn new(text: &str, mut changes: Vec<(Range<usize>, String)>) -> Edited {
        changes.sort_by_key(|(range, _)| (range.start, range.end));
        let mut result = Edited::default();
        let mut copied = 0;
        for (range, inserted) in changes {
            result.text.push_str(&text[copied..range.start]);
            result.text.push_str(&inserted);
            copied = range.end;
            result.edits.push((range, inserted.len()));
        }
        result.text.push_str(&text[copied..]);
        result
    }

    /// Where a byte of this text stood before; for inserted text, where that was put.
    pub fn before(&self, position: usize) -> usize {
        // How far behind or ahead of the text from before this one is.
        let (mut added, mut removed) = (0, 0);
        for (range, length) in &self.edits {
            let start = range.start + added - removed;
            if position < start {
                break;
            }
            if position < start + length {
                return (range.start + (position - start)).min(range.end);
            }
            added += length;
            removed += range.len();
        }
        position + removed - added
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_found_in_the_text_from_before() {
        let edited = Edited::new("let é = f(x);\ny", vec![(15..15, "&".into()), (4..6, "name".into())]);
        assert_eq!(edited.text, "let name = f(x);\n&y");
        for (here, there) in [(0, 0), (4, 4), (8, 6), (11, 9), (17, 15), (18, 15), (19, 16)] {
            assert_eq!(edited.before(here), there, "{here}");
        }
    }
}
