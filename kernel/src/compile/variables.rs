//! Rewrites a cell to use the variable store, the error type and the panic handler that the prelude has
//! compiled once.
//!
//! evcxr writes the source of all three into each cell, which takes half of rustc's time for a small cell.
//! The rewritten source refers to the prelude's. Each byte and line of the user's code keeps its position.

use std::collections::HashSet;

use crate::compile::cell::blanks;
use crate::compile::evcxr_text::source::{
    self, ASYNC_CATCH, CATCH, Compiled, ERROR_TYPE, RUNTIME, STORE, STORE_NAME, Use, WithStore,
    commented_take, error_conversions, takes_variables, use_of_variable, with_replaced_check,
};
use crate::compile::layouts::layouts;
use crate::compile::macros::with_macros_first;
use crate::compile::redefined::{Redefined, redefined};
use crate::compile::repeated::without_repeated;
use crate::prelude::tokens::identifiers;

const OUR_RUNTIME: &str = "\nuse headstart::variables as evcxr_internal_runtime;";
const OUR_ERROR_TYPE: &str = "\nuse headstart::variables::EvcxrUserCodeError;";
const OUR_STORE: &str =
    "\nlet evcxr_variable_store = unsafe { headstart::variables::variable_store(evcxr_variable_store) };";
/// [`OUR_STORE`] for a cell with variables of types that cells have defined: [`LAYOUTS`] stands at the source's end.
const OUR_STORE_WITH_LAYOUTS: &str = "\nlet evcxr_variable_store = unsafe {\n\
     headstart::variables::variable_store_with(evcxr_variable_store, HEADSTART_LAYOUTS) };";
const LAYOUTS: &str = "const HEADSTART_LAYOUTS: [headstart::variables::Layouts; 2] = ";
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
        Compiled::WithoutStore => {
            return Ok(with_macros_first([&without_repeated(source), marker.as_str()].concat()));
        }
        Compiled::WithStore(parts) => parts,
    };
    let redefined = redefined_variables(body);
    let cell = with_used_only(body, &redefined);
    let layouts = layouts(items, body);
    let (our_store, layouts) = match layouts.iter().all(Vec::is_empty) {
        true => (OUR_STORE, String::new()),
        false => (OUR_STORE_WITH_LAYOUTS, format!("{LAYOUTS}[&{:?}, &{:?}];\n", layouts[0], layouts[1])),
    };
    let parts = || {
        Some([
            without_repeated(&with_frames(items)),
            error_type.replace(ERROR_TYPE, &in_place_of(ERROR_TYPE, OUR_ERROR_TYPE)?),
            in_place_of(runtime, OUR_RUNTIME)?,
            function.to_owned(),
            in_place_of(store, our_store)?,
            with_compiled_catch(&cell, if saves { &redefined } else { &[] })?,
            marker,
            layouts,
        ])
    };
    debug_assert_eq!((runtime, store), (RUNTIME, STORE));
    parts()
        .map(|parts| with_macros_first(parts.concat()))
        .ok_or_else(|| "evcxr's source is shorter than expected".into())
}

/// The variables that a cell takes and redefines; none in a cell that evcxr compiles only for its errors.
fn redefined_variables(cell: &str) -> Vec<Redefined<'_>> {
    let parts = |[begin, end]: [&str; 2]| {
        let (before, rest) = cell.split_once(begin)?;
        Some((before, rest.rsplit_once(end)?.0))
    };
    let parts = parts(ASYNC_CATCH).or_else(|| parts(CATCH));
    parts.map(|(before, code)| redefined(before, code)).unwrap_or_default()
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
/// evcxr compiles only for their errors. `saved`: variables whose values are saved if the cell fails. `None` if the
/// new text is longer than evcxr's.
fn with_compiled_catch(cell: &str, saved: &[Redefined]) -> Option<String> {
    let parts = |catch: [&str; 2]| {
        let (before, rest) = cell.split_once(catch[0])?;
        let (code, after) = rest.rsplit_once(catch[1])?;
        Some((before, code, after))
    };
    let saved: String = saved.iter().map(save).collect();
    if let Some((before, code, after)) = parts(ASYNC_CATCH) {
        let [begin, end] = if saved.is_empty() { OUR_ASYNC_CATCH } else { OUR_SAVING_ASYNC_CATCH };
        let begin = in_place_of(ASYNC_CATCH[0], begin)?;
        let end = end_in_place_of(ASYNC_CATCH[1], end, &saved)?;
        return Some([before, &begin, code, &end, after].concat());
    }
    let Some((before, code, after)) = parts(CATCH) else { return Some(cell.to_owned()) };
    let name = if code.contains(STORE_NAME) { STORE_NAME } else { "_" };
    let [begin, end] = match (takes_variables(before), saved.is_empty()) {
        (_, false) => OUR_SAVING_CATCH,
        (true, true) => OUR_CATCH,
        (false, true) => [OUR_CATCH_ALONE, OUR_CATCH[1]],
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
    let Redefined { name, type_, is_used } = variable;
    let type_ = type_.replace('\n', " ");
    match is_used {
        true => format!("headstart::variables::save::<{type_}>(stringify!({name}), {name});"),
        false => format!("{STORE_NAME}.save::<{type_}>(stringify!({name}));"),
    }
}

/// Pads `ours` with spaces and empty lines to as many bytes and lines as `text`.
fn in_place_of(text: &str, ours: &str) -> Option<String> {
    let lines = text.matches('\n').count().checked_sub(ours.matches('\n').count())?;
    let spaces = text.len().checked_sub(ours.len() + lines)?;
    Some([ours, &" ".repeat(spaces), &"\n".repeat(lines)].concat())
}

/// Removes the lines that move a variable out of the store and back, if no other line contains its name. Names in
/// strings and comments count. A redefined variable whose old value is not used stays in the store until then, so that
/// it may have another type.
fn with_used_only(cell: &str, redefined: &[Redefined]) -> String {
    let lines = || cell.split_inclusive('\n').map(|line| (line, use_of_variable(line)));
    let named: HashSet<&str> =
        lines().filter(|(_, used)| used.is_none()).flat_map(|(line, _)| identifiers(line)).collect();
    let replaced = |name: &str| {
        redefined.iter().any(|variable| variable.name.trim_start_matches("r#") == name && !variable.is_used)
    };
    lines()
        .map(|(line, used)| match used {
            Some((Use::Take | Use::Put, name)) if !named.contains(name) => blanks(line),
            Some((Use::Take, name)) if replaced(name) => commented_take(line),
            Some((Use::Check, name)) if replaced(name) => with_replaced_check(line),
            _ => line.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::evcxr_text::source::{
        CHECKED, CHECKS, check_line, is_taken_mutable, put_line, take_line, written,
    };
    use crate::compile::redefined::taken;

    #[test]
    fn a_failing_cell_saves_the_variables_that_it_redefines() {
        let take = take_line("v", "v", "Vec<\nu8>");
        let [catch, caught] = CATCH;
        let cell =
            [&take, catch.trim_start(), "\nlet v = vec![4];\n", caught.trim_start(), "\nlast\n"].concat();
        let saved = redefined_variables(&cell);
        let changed = |saves| with_compiled_catch(&cell, if saves { &saved } else { &[] }).unwrap();
        assert!(changed(true).contains("{evcxr_variable_store.save::<Vec< u8>>(stringify!(v));}"));
        let used = cell.replace("vec![4]", "v.clone()");
        let saved = redefined_variables(&used);
        let used = with_compiled_catch(&used, &saved).unwrap();
        assert!(used.contains("{headstart::variables::save::<Vec< u8>>(stringify!(v), v);}"));
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
    fn only_a_cell_that_takes_variables_moves_them() {
        let [catch, caught] = CATCH;
        let changed = |before: &str, code: &str| {
            with_compiled_catch(&[before, catch, code, caught].concat(), &[]).unwrap()
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
        let changed = with_compiled_catch(&cell, &[]).unwrap();
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
        let saved = redefined_variables(&cell);
        let changed = |saves| with_compiled_catch(&cell, if saves { &saved } else { &[] }).unwrap();
        assert!(
            changed(true).contains("save::<u8>(stringify!(v));") && changed(true).contains("if !headstart")
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
        let changed = with_used_only(&source, &[]);
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
    fn a_variable_may_be_replaced_by_one_of_another_type() {
        let source = check_line("v", "P") + &take_line("mut v", "v", "P");
        let replaced =
            |is_used| with_used_only(&source.clone(), &[Redefined { name: "v", type_: "P", is_used }]);
        let named = source.clone() + "let v = P;\n";
        let changed = |is_used| with_used_only(&named, &[Redefined { name: "v", type_: "P", is_used }]);
        assert_eq!(changed(true), named);
        assert_eq!(changed(false).len(), named.len());
        let lines: Vec<_> = changed(false).lines().map(str::trim).map(str::to_owned).collect();
        assert!(lines[1].starts_with("//") && lines[2] == "let v = P;");
        assert_eq!((taken(&changed(false)).len(), is_taken_mutable(&changed(false), "v")), (1, true));
        assert!(lines[0].contains("check_replaced::<P>(stringify!(v))"));
        assert!(replaced(true).contains("check_variable"));
    }

    #[test]
    fn an_unexpected_source_is_not_rewritten() {
        assert!(rewritten("#[unsafe(no_mangle)]\nfn run() {}", true).is_err());
    }
}
