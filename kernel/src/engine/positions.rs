//! Mapping of positions in evcxr's source to lines of a cell.

use syn::Block;
use syn::spanned::Spanned;

use crate::compile::evcxr_text::source::FILE;

/// Line of the cell for a line of the compiled source, both counted from 1. It is found by the statement,
/// which the source contains verbatim. `None` if the line belongs to evcxr or to an earlier cell.
pub fn cell_line(cell: &str, block: &Block, source: &str, line: usize) -> Option<usize> {
    let source: Vec<&str> = source.lines().map(str::trim).collect();
    let line = line.checked_sub(1).filter(|line| *line < source.len())?;
    let mut found = Vec::new();
    for statement in &block.stmts {
        let range = statement.span().byte_range();
        let range = range.start.saturating_sub(1)..range.end.saturating_sub(1);
        let first = cell[..range.start].matches('\n').count();
        let lines: Vec<&str> = cell[range].lines().map(str::trim).collect();
        for at in 0..lines.len() {
            if line.checked_sub(at).is_some_and(|start| stands_at(&lines, &source, start)) {
                // The number of earlier occurrences in the source distinguishes statements with the same
                // text.
                let before = (0..line - at).filter(|start| stands_at(&lines, &source, *start)).count();
                found.push((before, first + at + 1));
            }
        }
    }
    let (before, _) = *found.first()?;
    found.get(before.min(found.len() - 1)).map(|(_, line)| *line)
}

fn stands_at(lines: &[&str], source: &[&str], start: usize) -> bool {
    let part = source.get(start..start + lines.len());
    part.is_some_and(|part| {
        part.iter().zip(lines).all(|(source, line)| match line.strip_suffix(';') {
            Some(line) => source.trim_end_matches(';') == line,
            None => *source == *line || source.strip_prefix('&') == Some(line),
        })
    })
}

/// Replaces the position that `dbg!` prints, which refers to evcxr's source, by `[cell]`. `None` if there
/// is none.
pub fn without_dbg_positions(text: &str) -> Option<String> {
    let begins = format!("[{FILE}:");
    if !text.contains(&begins) {
        return None;
    }
    let clean = |line: &str| {
        let position = line.strip_prefix(&begins).and_then(|rest| rest.split_once(']'));
        let is_position =
            |position: &str| position.chars().all(|letter| letter.is_ascii_digit() || letter == ':');
        match position.filter(|(position, _)| is_position(position)) {
            Some((_, rest)) => format!("[cell]{rest}"),
            None => line.to_owned(),
        }
    };
    Some(text.split_inclusive('\n').map(clean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::cell::parse;

    #[test]
    fn dbg_does_not_show_positions_in_evcxrs_source() {
        let text = "a\n[src/lib.rs:109:1] 1 + 1 = 2\n[src/lib.rs:x] [src/lib.rs:1:1]\n";
        let expected = "a\n[cell] 1 + 1 = 2\n[src/lib.rs:x] [src/lib.rs:1:1]\n";
        assert_eq!(without_dbg_positions(text).unwrap(), expected);
        assert_eq!(without_dbg_positions("[src/main.rs:1:1] a"), None);
    }

    #[test]
    fn a_line_is_found_by_its_statement() {
        let cell = "let x = f();\nif x {\n    let y = 1;\n}\nfn g() {\n    panic!()\n}\nx[3];\nx[3];\n\nx";
        let source = "fn old() {\n    panic!()\n}\nfn g() {\n    panic!()\n}\nfn run() {\nlet x = f();\nif x {\n    \
            let y = 1;\n}\nx[3];\nx[3];\n(\n&x\n).evcxr_display();\n}\n";
        let block = parse(cell).unwrap();
        let found = |line: usize| cell_line(cell, &block, source, line);
        for (line, expected) in [
            (2, None),
            (5, Some(6)),
            (8, Some(1)),
            (10, Some(3)),
            (11, Some(4)),
            (12, Some(8)),
            (13, Some(9)),
            (15, Some(11)),
            (16, None),
            (17, None),
            (0, None),
            (99, None),
        ] {
            assert_eq!(found(line), expected, "line {line}");
        }
    }
}
