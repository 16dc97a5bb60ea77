//! Variables that no cell can read any more, because a later cell has given another meaning to their name or to a name
//! in their type: `struct Stack` has become `struct Stack<T>`, or the variable `N` a constant.
//!
//! The source of each cell names all variables with their types, so no cell compiles. A cell of the kernel makes evcxr
//! forget them: in its source, the check of such a variable reports a changed type.

use crate::compile::evcxr_text::protocol::CHANGED_TYPE;
use crate::compile::evcxr_text::source::{Use, use_of_variable};

/// Begin of the text that names the variables.
const MARK: &str = "headstart_loses ";

/// A cell that loses variables.
pub fn cell(names: &[String]) -> String {
    format!("let _ = \"{MARK}{}\";", names.join(" "))
}

/// The code of such a cell without its variables; `None` for another cell.
pub fn without_lost(body: &str) -> Option<String> {
    let (before, rest) = body.split_once(&format!("\"{MARK}"))?;
    let (names, after) = rest.split_once('"')?;
    let names: Vec<&str> = names.split(' ').collect();
    let body = format!("{before}\"\"{after}");
    let line = |line: &str| match use_of_variable(line) {
        Some((Use::Check, name)) if names.contains(&name) => format!(
            "vars_ok &= {{ std::eprintln!(\"The variable {name} was lost: its name or its type has another meaning \
             now.\"); std::println!(\"{CHANGED_TYPE}{name}\"); false }};\n"
        ),
        Some((_, name)) if names.contains(&name) => "\n".to_owned(),
        _ => line.to_owned(),
    };
    Some(body.split_inclusive('\n').map(line).collect())
}

/// The variables whose checks are the cause of an error, as rustc shows it: the marks below the line point to it.
pub fn unreadable(rendered: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (line, marks) in rendered.lines().zip(rendered.lines().skip(1)) {
        let Some((Use::Check | Use::Take, name)) = use_of_variable(line) else { continue };
        if marks.contains('^') && !found.iter().any(|known| known == name) {
            found.push(name.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::evcxr_text::source::{check_line, put_line, take_line};

    #[test]
    fn the_variables_of_a_cell_that_loses_them_are_not_named() {
        let lines = |name: &str| check_line(name, "T") + &take_line(name, name, "T") + &put_line(name, "T");
        let body = lines("a") + &lines("s") + &cell(&["s".into(), "é".into()]) + "\n";
        let changed = without_lost(&body).unwrap();
        assert!(
            changed.starts_with(&lines("a")) && !changed.contains("variable::<T>(stringify!(s))"),
            "{changed}"
        );
        assert!(changed.contains("EVCXR_VARIABLE_CHANGED_TYPE:s\"") && changed.ends_with("let _ = \"\";\n"));
        assert_eq!(changed.lines().count(), body.lines().count());
        assert_eq!(without_lost(&lines("a")), None);
    }

    #[test]
    fn only_an_error_at_a_check_makes_a_variable_unreadable() {
        let rendered = format!(
            "error[E0107]: missing generics\n --> src/lib.rs:9:1\n  |\n9 | {}  |             ^^^^^ expected 1\n10 | {}   |     - here\n",
            check_line("s", "Stack"),
            take_line("v", "v", "Vec<u8>")
        );
        assert_eq!(unreadable(&rendered), ["s"]);
        let rendered = format!("8 | {}  |     ^\n", take_line("N", "N", "i32"));
        assert_eq!(unreadable(&rendered), ["N"]);
    }
}
