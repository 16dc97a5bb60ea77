//! Completions, and positions in a cell as Jupyter counts them.

use ra_ap_rustc_lexer::is_id_continue;

/// Completions for a position: what to put in place of the bytes from `start` to `end`.
#[derive(Debug, Default)]
pub struct Completions {
    pub matches: Vec<(String, &'static str)>,
    pub start: usize,
    pub end: usize,
}

/// A call that takes arguments is left open for them: `sum(sum_dims)` becomes `sum(`.
pub fn insertion(completion: &str) -> &str {
    match completion.find('(') {
        Some(at) if !completion.ends_with("()") => &completion[..=at],
        _ => completion,
    }
}

/// The end of the name in which a byte position of a cell is, with the bracket of a call, which tells a method
/// from a field.
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

/// Jupyter counts characters (Unicode code points), evcxr bytes.
pub fn byte_offset(code: &str, characters: usize) -> usize {
    code.char_indices().nth(characters).map_or(code.len(), |(at, _)| at)
}

/// The reverse of [`byte_offset`]; an offset inside a character counts as before it.
pub fn char_offset(code: &str, bytes: usize) -> usize {
    code.char_indices().take_while(|(at, c)| at + c.len_utf8() <= bytes).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_where_no_letter_follows() {
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
