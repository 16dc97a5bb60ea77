//! What evcxr writes around a cell's code, compiled once.
//!
//! That is the source of the variables' store, with all that it takes of the standard library, the
//! type that errors become, and what catches panics. The prelude has all three, so a cell can do with
//! their names.

use std::collections::HashSet;

use crate::redefined::{Redefined, redefined};
use crate::tokens::identifiers;

/// How evcxr's store begins in a cell.
const BEGIN: &str = "\nmod evcxr_internal_runtime {\n";
/// What follows it.
const AFTER: &str = "\n#[unsafe(no_mangle)]\n";
const OURS: &str = "\nuse headstart::variables as evcxr_internal_runtime;";

/// How evcxr makes one type of all errors of a cell, unless the user asked for `Debug`'s words.
const ERROR: &str = r#"
            struct EvcxrUserCodeError {}
            impl<T: std::fmt::Display> From<T> for EvcxrUserCodeError {
                fn from(error: T) -> Self {
                    eprintln!("{}", error);
                    println!("{}", evcxr_internal_runtime::USER_ERROR_OCCURRED);
                    EvcxrUserCodeError {}
                }
            }
"#;
const OUR_ERROR: &str = "\nuse headstart::variables::EvcxrUserCodeError;";

/// How a cell comes by the store.
const STORE: &str = "\nif evcxr_variable_store.is_null() {\n  \
     evcxr_variable_store = evcxr_internal_runtime::create_variable_store();\n}\n\
     let evcxr_variable_store = unsafe {&mut *evcxr_variable_store};";
const OUR_STORE: &str =
    "\nlet evcxr_variable_store = unsafe { headstart::variables::variable_store(evcxr_variable_store) };";

/// Between these two a cell looks whether its variables are still of their types.
pub const CHECKS: &str = "\n{let mut vars_ok = true;\n";
pub const CHECKED: &str = "if !vars_ok {return evcxr_variable_store;}}\n";

/// How evcxr runs a cell's code: in one closure for panics, and in another for `?`.
pub const CATCH: [&str; 2] = [
    "\nmatch std::panic::catch_unwind(\n  std::panic::AssertUnwindSafe(||{\n\
     let _ = (|| -> std::result::Result<(), EvcxrUserCodeError> {",
    "\nOk(())})();\n})) { \n  Ok(_) => {}\n  Err(_) => {\n    println!(\"EVCXR_PANIC_NOTIFICATION\");\n}}",
];
const OUR_CATCH: [&str; 2] = [
    "\nheadstart::variables::run_cell(\n|| -> std::result::Result<(), EvcxrUserCodeError> {",
    "\nOk(())\n});",
];
/// The same for a cell that defines a variable anew: if it fails, [`OUR_SAVE`] keeps the value from before.
const OUR_SAVING_CATCH: [&str; 2] = [
    "\nif !headstart::variables::run_cell(\n|| -> std::result::Result<(), EvcxrUserCodeError> {",
    "\nOk(())\n}) {$}",
];
/// In place of the first, where no variable is taken; `$` is what the code calls the store.
const OUR_CATCH_ALONE: &str = "\nheadstart::variables::run_alone(evcxr_variable_store,\n\
     |$| -> std::result::Result<(), EvcxrUserCodeError> {";

/// What evcxr calls the store in a cell.
const NAME: &str = "evcxr_variable_store";
const CHECK: &str = "check_variable::<";
pub const TAKE: &str = "take_variable::<";
pub const PUT: &str = "put_variable::<";

/// A cell's source with the prelude's store in the place of evcxr's own, if it has that, and so for
/// the other two, and without moving variables that it does not name; each byte and line of the user's
/// code where it was, as evcxr knows them.
///
/// With `saves`, a cell that fails saves the values of variables that it was to define anew. That does not
/// compile where the cell has moved one of them, so there must be a second try without.
pub fn with_compiled_store(source: &str, saves: bool) -> Option<String> {
    let (before, rest) = source.split_once(BEGIN)?;
    let (store, after) = rest.rsplit_once(AFTER)?;
    let store = in_place_of(&[BEGIN, store].concat(), OURS)?;
    let before = before.replacen(ERROR, &in_place_of(ERROR, OUR_ERROR)?, 1);
    let (begin, cell) = after.split_once(STORE)?;
    let cell = with_compiled_catch(&with_named_only(cell), saves)?;
    Some([&before, &store, AFTER, begin, &in_place_of(STORE, OUR_STORE)?, &cell].concat())
}

/// A cell that evcxr compiles for its errors alone catches nothing; one that awaits keeps evcxr's way.
fn with_compiled_catch(cell: &str, saves: bool) -> Option<String> {
    let parts = || {
        let (before, rest) = cell.split_once(CATCH[0])?;
        let (code, after) = rest.rsplit_once(CATCH[1])?;
        Some((before, code, after))
    };
    let Some((before, code, after)) = parts() else { return Some(cell.to_owned()) };
    let saved: String = match saves {
        true => redefined(before, code).iter().map(save).collect(),
        false => String::new(),
    };
    let name = if code.contains(NAME) { NAME } else { "_" };
    let [begin, end] = match (before.contains(TAKE), saved.is_empty()) {
        (true, false) => OUR_SAVING_CATCH,
        (true, true) => OUR_CATCH,
        (false, _) => [OUR_CATCH_ALONE, OUR_CATCH[1]],
    };
    let begin = in_place_of(CATCH[0], &begin.replace('$', name))?;
    let end = match saved.is_empty() {
        true => in_place_of(CATCH[1], end)?,
        // evcxr knows what follows by its lines alone.
        false => {
            let lines = CATCH[1].matches('\n').count().checked_sub(end.matches('\n').count())?;
            end.replace('$', &saved) + &"\n".repeat(lines)
        }
    };
    Some([before, &begin, code, &end, after].concat())
}

/// What keeps a variable's value when the cell fails.
fn save(variable: &Redefined) -> String {
    let Redefined { name, type_ } = variable;
    let type_ = type_.replace('\n', " ");
    format!("headstart::variables::save::<{type_}>(stringify!({name}), {name});")
}

/// Ours, with spaces and empty lines up to as many bytes and lines as the text.
fn in_place_of(text: &str, ours: &str) -> Option<String> {
    let lines = text.matches('\n').count().checked_sub(ours.matches('\n').count())?;
    let spaces = text.len().checked_sub(ours.len() + lines)?;
    Some([ours, &" ".repeat(spaces), &"\n".repeat(lines)].concat())
}

/// The lines without those that take a variable out of the store and put it back, where no other
/// line has its name, in a string or a comment either.
fn with_named_only(cell: &str) -> String {
    let lines = || cell.split_inclusive('\n').map(|line| (line, use_of_variable(line)));
    let named: HashSet<&str> =
        lines().filter(|(_, used)| used.is_none()).flat_map(|(line, _)| identifiers(line)).collect();
    lines()
        .map(|(line, used)| match used {
            Some((TAKE | PUT, name)) if !named.contains(name) => {
                line.chars().map(|c| if c == '\n' { "\n" } else { &"    "[..c.len_utf8()] }).collect()
            }
            _ => line.to_owned(),
        })
        .collect()
}

/// What evcxr does with a variable, in a line of its own.
pub fn use_of_variable(line: &str) -> Option<(&'static str, &str)> {
    let (_, done) = line.split_once("evcxr_variable_store.")?;
    let use_ = [CHECK, TAKE, PUT].into_iter().find(|use_| done.starts_with(use_))?;
    let (_, name) = done.split_once("stringify!(")?;
    let name = name.split([',', ')']).next()?;
    Some((use_, name.trim_start_matches("r#")))
}

/// As evcxr writes a cell without variables.
#[cfg(test)]
pub fn written(number: usize, code: &str) -> String {
    let store =
        "// A store.\n\npub struct VariableStore {\n    a: u8,\n}\npub fn create_variable_store() {}\n}";
    let [catch, caught] = CATCH;
    format!(
        "use a::b;{ERROR}{BEGIN}{store}{AFTER}pub extern \"C\" fn run_user_code_{number}() {{{STORE}\
         {CHECKS}{CHECKED}{}\n{code}{}\nevcxr_variable_store\n}}\n",
        catch.trim_start(),
        caught.trim_start()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_fails_saves_what_it_was_to_define_anew() {
        let take = "let v = evcxr_variable_store.take_variable::<Vec<\nu8>>(stringify!(v));\n";
        let [catch, caught] = CATCH;
        let cell =
            [take, catch.trim_start(), "\nlet v = vec![4];\n", caught.trim_start(), "\nlast\n"].concat();
        let changed = |saves| with_compiled_catch(&cell, saves).unwrap();
        assert!(changed(true).contains("{headstart::variables::save::<Vec< u8>>(stringify!(v), v);}"));
        assert!(!changed(false).contains("save"));
        for saves in [true, false] {
            let line = |text: &str, word| text.lines().position(|line| line == word).unwrap();
            assert!(changed(saves).contains("run_cell("), "a type over two lines is that of a variable, too");
            for word in ["let v = vec![4];", "last"] {
                assert_eq!(line(&changed(saves), word), line(&cell, word));
            }
        }
    }

    #[test]
    fn all_but_the_store_stays_where_it_was() {
        let source = written(7, "    é();\n");
        let changed = with_compiled_store(&source, true).unwrap();
        assert_eq!(changed.len(), source.len());
        assert_eq!(changed.lines().count(), source.lines().count());
        for word in ["é", "\nevcxr_variable_store\n"] {
            let place = |text: &str| text.find(word).map(|at| (at, text[..at].matches('\n').count()));
            assert_eq!(place(&changed), place(&source));
        }
        let lines: Vec<_> = changed.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        assert_eq!(lines[..3], ["use a::b;", OUR_ERROR.trim(), OURS.trim()]);
        assert_eq!(lines[3], AFTER.trim());
        let expected = [
            "pub extern \"C\" fn run_user_code_7() {",
            OUR_STORE,
            CHECKS,
            CHECKED,
            &OUR_CATCH_ALONE.replace('$', "_"),
            "    é();",
            OUR_CATCH[1],
            "evcxr_variable_store}",
        ];
        assert_eq!(lines[4..].concat(), expected.concat().replace('\n', ""));
    }

    #[test]
    fn only_a_cell_that_takes_variables_owns_them() {
        let [catch, caught] = CATCH;
        let uses =
            ["take", "put"].map(|use_| format!("evcxr_variable_store.{use_}_variable::<u8>(stringify!(a));"));
        let changed = |before: &str, code: &str| {
            with_compiled_catch(&[before, catch, code, caught].concat(), true).unwrap()
        };
        let [take, put] = uses.each_ref().map(String::as_str);
        assert!(changed(take, put).contains(OUR_CATCH[0]));
        assert!(changed("", put).contains("\n|evcxr_variable_store| ->"));
        assert!(changed("", "f();").contains("\n|_| ->"));
    }

    #[test]
    fn what_a_cell_does_not_name_stays_in_the_store() {
        let moved = |name: &str| {
            format!(
                "vars_ok &= evcxr_variable_store.check_variable::<u8>(stringify!({name}));\n\
                 let {name} = evcxr_variable_store.take_variable::<u8>(stringify!({name}));\n"
            )
        };
        let put =
            |name: &str| format!("evcxr_variable_store.put_variable::<u8>(stringify!({name}), {name});\n");
        let source = ["aé", "a", "b", "r#c"].map(|name| moved(name) + &put(name)).concat()
            + "println!(\"{b:.2}\", r#c, aé1);\n";
        let changed = with_named_only(&source);
        assert_eq!(changed.len(), source.len());
        let lines: Vec<&str> = changed.lines().collect();
        for (at, name) in ["aé", "a", "b", "r#c"].into_iter().enumerate() {
            let is_named = at > 1;
            assert!(lines[3 * at].ends_with(&format!("({name}));")));
            assert_eq!([1, 2].map(|n| !lines[3 * at + n].trim().is_empty()), [is_named; 2], "{name}");
        }
        assert_eq!(lines[12], source.lines().last().unwrap());
    }

    #[test]
    fn a_cell_without_a_store_stays_as_it_is() {
        assert_eq!(with_compiled_store("#[unsafe(no_mangle)]\nfn run() {}", true), None);
    }
}
