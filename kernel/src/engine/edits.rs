//! Edited text, with a mapping of positions to the original.

use std::ops::Range;

/// A text made from another by replacing some of its parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edited {
    pub text: String,
    /// Edits in order: the replaced range in bytes of the original, and the length of the new text.
    edits: Vec<(Range<usize>, usize)>,
}

impl Edited {
    /// Replaces ranges of a text, which do not overlap.
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

    /// Position of a byte in the original text; for inserted text, the position of the insertion.
    pub fn before(&self, position: usize) -> usize {
        // Bytes that the edits up to here have added and removed.
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
    fn positions_are_mapped_to_the_original_text() {
        let edited = Edited::new("let é = f(x);\ny", vec![(15..15, "&".into()), (4..6, "name".into())]);
        assert_eq!(edited.text, "let name = f(x);\n&y");
        for (here, there) in [(0, 0), (4, 4), (8, 6), (11, 9), (17, 15), (18, 15), (19, 16)] {
            assert_eq!(edited.before(here), there, "{here}");
        }
    }
}
