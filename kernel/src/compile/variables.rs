//! Rewrites a cell to use the variable store, the error type and the panic handler that the prelude has
//! compiled once.
//!
//! evcxr writes the source of all three into each cell, which takes half of rustc's time for a small cell.
//! The rewritten source refers to the prelude's. Each byte and line of the user's code keeps its position.

use std::collections::HashSet;

use crate::compile::definitions::table;
use crate::compile::evcxr_text::source::{
    self, ASYNC_CATCH, CATCH, Compiled, ERROR_TYPE, RUNTIME, STORE, STORE_NAME, Use, WithStore,
    error_conversions, takes_variables, use_of_variable,
};
use crate::compile::lost::without_lost;
use crate::compile::macros::with_macros_first;
use crate::compile::redefined::{Redefined, redefined};
use crate::prelude::tokens::identifiers;

const OUR_RUNTIME: &str = "\nuse headstart::variables as evcxr_internal_runtime;";
const OUR_ERROR_TYPE: &str = "\nuse headstart::variables::EvcxrUserCodeError;";
const OUR_STORE: &str =
    "\nlet evcxr_variable_store = unsafe { headstart::variables::variable_store(evcxr_variable_store) };";
/// [`OUR_STORE`] for a cell with variables of types that cells define.
const OUR_CHECKED_STORE: &str = "\nlet evcxr_variable_store = unsafe { \
     headstart::variables::checked_store(evcxr_variable_store, &HEADSTART_DEFINITIONS) };";
/// Paths are whole, because a cell may define other things with the names `Ok` and `Result`.
const OUR_CATCH: [&str; 2] = [
    "\nheadstart::variables::run_cell(\n|| -> std::result::Result<(), EvcxrUserCodeError> {",
    "\nheadstart::variables::ends()\n});",
];
/// [`OUR_CATCH`] for a cell that redefines a variable. `$` stands for the code that saves values if the
/// cell fails.
const OUR_SAVING_CATCH: [&str; 2] = [
    "\nif !headstart::variables::run_cell(\n|| -> std::result::Result<(), EvcxrUserCodeError> {",
    "\nheadstart::variables::ends()\n}) {$}",
];
/// [`OUR_CATCH`] for a cell in tokio's runtime. tokio's own `block_on` would be compiled in each cell, which
/// takes longer than everything else. No name is defined here that the cell's code could mean otherwise.
const OUR_ASYNC_CATCH: [&str; 2] = [
    "\nheadstart::variables::run_async(\n\
     &evcxr_variable_store.lazy_arc(\"evcxr_tokio_runtime\", || tokio::runtime::Runtime::new().unwrap()).enter(),\n\
     std::pin::pin!(async {",
    "\nheadstart::variables::ends::<EvcxrUserCodeError>()\n}));",
];
/// [`OUR_ASYNC_CATCH`] for a cell that redefines a variable, like [`OUR_SAVING_CATCH`].
const OUR_SAVING_ASYNC_CATCH: [&str; 2] = [
    "\nif !headstart::variables::run_async(\n\
     &evcxr_variable_store.lazy_arc(\"evcxr_tokio_runtime\", || tokio::runtime::Runtime::new().unwrap()).enter(),\n\
     std::pin::pin!(async {",
    "\nheadstart::variables::ends::<EvcxrUserCodeError>()\n})) {$}",
];
/// First part of [`OUR_CATCH`] for a cell that takes no variable. `$` stands for the store's name in the
/// code.
const OUR_CATCH_ALONE: &str = "\nheadstart::variables::run_alone(evcxr_variable_store,\n\
     |$| -> std::result::Result<(), EvcxrUserCodeError> {";

/// Symbol in the library of each rewritten cell: its variables are in the prelude's store, not in evcxr's.
pub const MARKER: &std::ffi::CStr = c"headstart_variable_store";

/// Rewrites a cell's source to use the prelude's variable store, error type and panic handler. Removes the
/// lines that move variables which the cell does not name.
///
/// With `saves`, a cell that fails saves the values of the variables that it redefines. That does not
/// compile if the cell has moved one of them; then rewrite again without `saves`.
///
/// # Errors
/// If the source is not what evcxr is expected to generate.
pub fn rewritten(source: &str, saves: bool) -> Result<String, String> {
    let marker = format!("#[unsafe(no_mangle)] pub static {}: u8 = 0;\n", MARKER.to_string_lossy());
    let WithStore { items, error_type, runtime, function, store, body } = match source::compiled(source)? {
        Compiled::WithoutStore => return Ok(with_macros_first([source, &marker].concat())),
        Compiled::WithStore(parts) => parts,
    };
    let without_lost = without_lost(body);
    let cell = with_named_only(without_lost.as_deref().unwrap_or(body));
    let items = with_frames(items);
    let table = table(&items, &cell);
    let our_store = if table.is_empty() { OUR_STORE } else { OUR_CHECKED_STORE };
    let parts = || {
        Some([
            items.clone(),
            error_type.replace(ERROR_TYPE, &in_place_of(ERROR_TYPE, OUR_ERROR_TYPE)?),
            in_place_of(runtime, OUR_RUNTIME)?,
            function.to_owned(),
            in_place_of(store, our_store)?,
            with_compiled_catch(&cell, saves)?,
            marker,
            table,
        ])
    };
    debug_assert_eq!((runtime, store), (RUNTIME, STORE));
    parts()
        .map(|parts| with_macros_first(parts.concat()))
        .ok_or_else(|| "evcxr's source is shorter than expected".into())
}

/// Makes the error type of `:efmt {:?}` or `:efmt {:#?}` report errors like the prelude's, and not among the text of
/// standard error.
fn with_frames(items: &str) -> String {
    for (text, new) in error_conversions() {
        if let (Some(at), Some(new)) = (items.rfind(&text), in_place_of(&text, &new)) {
            return [&items[..at], &new, &items[at + text.len()..]].concat();
        }
    }
    items.to_owned()
}

/// Replaces evcxr's panic handler by the prelude's. Cells without the expected handler stay unchanged: those that
/// evcxr compiles only for their errors. `None` if the new text is longer than evcxr's.
fn with_compiled_catch(cell: &str, saves: bool) -> Option<String> {
    let parts = |catch: [&str; 2]| {
        let (before, rest) = cell.split_once(catch[0])?;
        let (code, after) = rest.rsplit_once(catch[1])?;
        Some((before.to_owned(), code.to_owned(), after.to_owned()))
    };
    let saved = |before: &str, code: &str| -> String {
        match saves {
            true => redefined(before, code).iter().map(save).collect(),
            false => String::new(),
        }
    };
    if let Some((before, code, after)) = parts(ASYNC_CATCH) {
        let saved = saved(&before, &code);
        let [begin, end] = if saved.is_empty() { OUR_ASYNC_CATCH } else { OUR_SAVING_ASYNC_CATCH };
        let begin = in_place_of(ASYNC_CATCH[0], begin)?;
        let end = end_in_place_of(ASYNC_CATCH[1], end, &saved)?;
        return Some([before, begin, code, end, after].concat());
    }
    let Some((before, code, after)) = parts(CATCH) else { return Some(cell.to_owned()) };
    let (before, code, after) = (before.as_str(), code.as_str(), after.as_str());
    let saved = saved(before, code);
    let name = if code.contains(STORE_NAME) { STORE_NAME } else { "_" };
    let [begin, end] = match (takes_variables(before), saved.is_empty()) {
        (true, false) => OUR_SAVING_CATCH,
        (true, true) => OUR_CATCH,
        (false, _) => [OUR_CATCH_ALONE, OUR_CATCH[1]],
    };
    let begin = in_place_of(CATCH[0], &begin.replace('$', name))?;
    let end = end_in_place_of(CATCH[1], end, &saved)?;
    Some([before, &begin, code, &end, after].concat())
}

/// Pads the end of the catch to as many lines as `text`. evcxr locates the text after it only by its line number, so
/// the code that saves variables may add bytes.
fn end_in_place_of(text: &str, ours: &str, saved: &str) -> Option<String> {
    if saved.is_empty() {
        return in_place_of(text, ours);
    }
    let lines = text.matches('\n').count().checked_sub(ours.matches('\n').count())?;
    Some(ours.replace('$', saved) + &"\n".repeat(lines))
}

/// Statement that saves a variable's value.
fn save(variable: &Redefined) -> String {
    let Redefined { name, type_ } = variable;
    let type_ = type_.replace('\n', " ");
    format!("headstart::variables::save::<{type_}>(stringify!({name}), {name});")
}

/// Pads `ours` with spaces and empty lines to as many bytes and lines as `text`.
fn in_place_of(text: &str, ours: &str) -> Option<String> {
    let lines = text.matches('\n').count().checked_sub(ours.matches('\n').count())?;
    let spaces = text.len().checked_sub(ours.len() + lines)?;
    Some([ours, &" ".repeat(spaces), &"\n".repeat(lines)].concat())
}

/// Removes the lines that move a variable out of the store and back, if no other line contains its name.
/// Names in strings and comments count.
fn with_named_only(cell: &str) -> String {
    let lines = || cell.split_inclusive('\n').map(|line| (line, use_of_variable(line)));
    let named: HashSet<&str> =
        lines().filter(|(_, used)| used.is_none()).flat_map(|(line, _)| identifiers(line)).collect();
    lines()
        .map(|(line, used)| match used {
            Some((Use::Take | Use::Put, name)) if !named.contains(name) => {
                line.chars().map(|c| if c == '\n' { "\n" } else { &"    "[..c.len_utf8()] }).collect()
            }
            _ => line.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::evcxr_text::source::{CHECKED, CHECKS, check_line, put_line, take_line, written};

    #[test]
    fn a_failing_cell_saves_the_variables_that_it_redefines() {
        let take = take_line("v", "v", "Vec<\nu8>");
        let [catch, caught] = CATCH;
        let cell =
            [&take, catch.trim_start(), "\nlet v = vec![4];\n", caught.trim_start(), "\nlast\n"].concat();
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
    fn only_the_store_is_replaced() {
        let source = written(7, "    é();\n");
        let changed = rewritten(&source, true).unwrap();
        let (cell, marker) = changed.split_at(source.len());
        assert_eq!(cell.lines().count(), source.lines().count());
        assert_eq!(marker, "#[unsafe(no_mangle)] pub static headstart_variable_store: u8 = 0;\n");
        for word in ["é", "\nevcxr_variable_store\n"] {
            let place = |text: &str| text.find(word).map(|at| (at, text[..at].matches('\n').count()));
            assert_eq!(place(cell), place(&source));
        }
        let lines: Vec<_> = cell.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        assert_eq!(lines[..3], ["use a::b;", OUR_ERROR_TYPE.trim(), OUR_RUNTIME.trim()]);
        let expected = [
            &source::function(7),
            OUR_STORE,
            CHECKS,
            CHECKED,
            &OUR_CATCH_ALONE.replace('$', "_"),
            "    é();",
            OUR_CATCH[1],
            "evcxr_variable_store}",
        ];
        assert_eq!(lines[3..].concat(), expected.concat().replace('\n', ""));
    }

    #[test]
    fn a_cell_with_variables_of_its_own_types_has_their_fingerprints() {
        let source = written(7, &("let p = P(1);\n".to_owned() + &put_line("p", "P")))
            .replace("use a::b;", "struct P(i32);");
        let changed = rewritten(&source, true).unwrap();
        assert!(changed.contains("checked_store(evcxr_variable_store, &HEADSTART_DEFINITIONS)"));
        assert!(changed.ends_with(",]];\n") && changed.contains("\nstatic HEADSTART_DEFINITIONS: "));
        let place = |text: &str| text.find("\nevcxr_variable_store\n");
        assert_eq!(place(&changed), place(&source));
    }

    #[test]
    fn only_a_cell_that_takes_variables_moves_them() {
        let [catch, caught] = CATCH;
        let changed = |before: &str, code: &str| {
            with_compiled_catch(&[before, catch, code, caught].concat(), true).unwrap()
        };
        let (take, put) = (take_line("a", "a", "u8"), put_line("a", "u8"));
        assert!(changed(&take, &put).contains(OUR_CATCH[0]));
        assert!(changed("", &put).contains("\n|evcxr_variable_store| ->"));
        assert!(changed("", "f();").contains("\n|_| ->"));
    }

    #[test]
    fn an_awaiting_cell_keeps_its_lines() {
        let [catch, caught] = ASYNC_CATCH;
        let cell = ["let a = f();", catch, "\na.await;", caught, "\nlast"].concat();
        let changed = with_compiled_catch(&cell, true).unwrap();
        assert!(changed.contains("headstart::variables::run_async(") && !changed.contains("block_on"));
        for word in ["a.await;", "last"] {
            let line = |text: &str| text.lines().position(|line| line == word).unwrap();
            assert_eq!(line(&changed), line(&cell), "{word}");
        }
    }

    #[test]
    fn an_awaiting_cell_saves_the_variables_that_it_redefines() {
        let [catch, caught] = ASYNC_CATCH;
        let cell =
            [&*take_line("v", "v", "u8"), catch, "\nlet v = f();\na.await;", caught, "\nlast"].concat();
        let changed = |saves| with_compiled_catch(&cell, saves).unwrap();
        assert!(
            changed(true).contains("save::<u8>(stringify!(v), v);")
                && changed(true).contains("if !headstart")
        );
        assert!(!changed(false).contains("save::<"));
        for saves in [true, false] {
            let line = |text: &str| text.lines().position(|line| line == "last").unwrap();
            assert_eq!(line(&changed(saves)), line(&cell));
        }
    }

    #[test]
    fn variables_that_a_cell_does_not_name_stay_in_the_store() {
        let moved = |name: &str| check_line(name, "u8") + &take_line(name, name, "u8");
        let source = ["aé", "a", "b", "r#c"].map(|name| moved(name) + &put_line(name, "u8")).concat()
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
    fn an_unexpected_source_is_not_rewritten() {
        assert!(rewritten("#[unsafe(no_mangle)]\nfn run() {}", true).is_err());
    }
}
