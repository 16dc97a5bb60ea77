//! Completions, and conversion between Jupyter's and evcxr's positions in a cell.

use ra_ap_rustc_lexer::is_id_continue;

/// Completions at a position, which replace the bytes from `start` to `end`.
#[derive(Debug, Default)]
pub struct Completions {
    pub matches: Vec<(String, &'static str)>,
    pub start: usize,
    pub end: usize,
}

impl Completions {
    pub fn none(position: usize) -> Completions {
        Completions { matches: Vec::new(), start: position, end: position }
    }
}

/// Text to insert for a completion. A call with arguments ends with its bracket: `sum(sum_dims)` becomes
/// `sum(`.
pub fn insertion(completion: &str) -> &str {
    match completion.find('(') {
        Some(at) if !completion.ends_with("()") => &completion[..=at],
        _ => completion,
    }
}

/// End of the name at a byte position of a cell. Includes the bracket of a call, which distinguishes a
/// method from a field.
pub fn end_of_name(cell: &str, position: usize) -> usize {
    let rest = cell.get(position..).unwrap_or_default();
    let is_in_name = cell.get(..position).is_some_and(|before| before.ends_with(is_id_continue))
        || rest.starts_with(is_id_continue);
    match is_in_name {
        true => {
            let length = rest.find(|c| !is_id_continue(c)).unwrap_or(rest.len());
            position + length + usize::from(rest[length..].starts_with('('))
        }
        false => position,
    }
}

/// Converts a position in characters (Unicode code points), as in Jupyter, to bytes, as in evcxr.
pub fn byte_offset(code: &str, characters: usize) -> usize {
    code.char_indices().nth(characters).map_or(code.len(), |(at, _)| at)
}

/// Converts bytes to characters, the reverse of [`byte_offset`]. An offset inside a character counts as
/// before it.
pub fn char_offset(code: &str, bytes: usize) -> usize {
    code.char_indices().take_while(|(at, c)| at + c.len_utf8() <= bytes).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_before_the_next_non_letter() {
        for (at, end) in [(0, 4), (2, 4), (4, 4), (5, 10), (9, 10), (10, 10), (12, 12)] {
            assert_eq!(end_of_name("vec_.lén()", at), end, "{at}");
        }
    }

    #[test]
    fn positions_count_characters_and_bytes() {
        let code = "é🦀x";
        assert_eq!([0, 1, 2, 3, 9].map(|at| byte_offset(code, at)), [0, 2, 6, 7, 7]);
        assert_eq!([0, 1, 2, 6, 7].map(|at| char_offset(code, at)), [0, 0, 1, 2, 3]);
    }
}
