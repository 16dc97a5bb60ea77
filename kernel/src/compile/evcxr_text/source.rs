//! The source that evcxr generates for a cell: once for rust-analyzer, and once for rustc.
//!
//! Each source consists of the session's items and a frame around the cell's statements. If a frame does
//! not match the expected text exactly, the result is an error, so that no cell is rewritten by mistake.

use std::ops::Range;

/// Name of the crate that contains a cell.
pub const CRATE_NAME: &str = "ctx";
/// Path of a cell's source file in rustc's arguments.
pub const FILE: &str = "src/lib.rs";
/// Default optimisation level of cells.
pub const OPTIMISATION: &str = "opt-level=2";

/// Type that all errors of a cell are converted to, after `:efmt {}`. It differs after `:efmt {:?}` and
/// `:efmt {:#?}`.
pub const ERROR_TYPE: &str = r#"
            struct EvcxrUserCodeError {}
            impl<T: std::fmt::Display> From<T> for EvcxrUserCodeError {
                fn from(error: T) -> Self {
                    eprintln!("{}", error);
                    println!("{}", evcxr_internal_runtime::USER_ERROR_OCCURRED);
                    EvcxrUserCodeError {}
                }
            }
"#;
/// The conversions of errors after `:efmt {:?}` and `:efmt {:#?}`, each with one that reports the error in a frame.
pub fn error_conversions() -> [(String, String); 2] {
    let (_, text) = ERROR_TYPE.split_once("EvcxrUserCodeError {\n").unwrap_or_default();
    let (text, _) = text.rsplit_once("                    EvcxrUserCodeError {}").unwrap_or_default();
    ["{:?}", "{:#?}"].map(|format| {
        let frame = format!(
            "#[track_caller] fn from(error: T) -> Self {{\n\
             let _ = headstart::variables::EvcxrUserCodeError::from(format_args!(\"{format}\", error));\n"
        );
        (text.replace("\"{}\", error", &format!("\"{format}\", error")), frame)
    })
}

/// Beginning of the error type, in both sources.
const ERROR_BEGINS: &str = "\n            struct EvcxrUserCodeError {}\n";
/// Indentation of the end of the error type.
const ERROR_ENDS: &str = "        ";
/// Module with the variable store, which evcxr writes into each cell.
pub const RUNTIME: &str =
    concat!("\nmod evcxr_internal_runtime {\n", include_str!("golden/runtime.txt"), "}");
/// Text before a cell's number.
const FUNCTION: &str = "\n#[unsafe(no_mangle)]\npub extern \"C\" fn run_user_code_";
/// Text after the number, in a cell with a variable store.
const STORE_PARAMETERS: &str = "(\nmut evcxr_variable_store: *mut evcxr_internal_runtime::VariableStore)\n  \
     -> *mut evcxr_internal_runtime::VariableStore {";
/// Text after the number, in a cell without a variable store.
const OTHER_PARAMETERS: [&str; 2] = [
    "(\nevcxr_variable_store: *mut u8) -> *mut u8 {\n",
    "(\nmut x: *mut std::os::raw::c_void) -> *mut std::os::raw::c_void {x}\n",
];
/// Code that gets the variable store, and creates it in the first cell.
pub const STORE: &str = "\nif evcxr_variable_store.is_null() {\n  \
     evcxr_variable_store = evcxr_internal_runtime::create_variable_store();\n}\n\
     let evcxr_variable_store = unsafe {&mut *evcxr_variable_store};";
/// Name of the variable store in a cell.
pub const STORE_NAME: &str = "evcxr_variable_store";
/// Begin and end of the code in which a cell checks that its variables still have their types.
pub const CHECKS: &str = "\n{let mut vars_ok = true;\n";
pub const CHECKED: &str = "if !vars_ok {return evcxr_variable_store;}}\n";
/// Code around a cell's statements: one closure catches panics, and the inner one handles `?`.
pub const CATCH: [&str; 2] = [
    "\nmatch std::panic::catch_unwind(\n  std::panic::AssertUnwindSafe(||{\n\
     let _ = (|| -> std::result::Result<(), EvcxrUserCodeError> {",
    "\nOk(())})();\n})) { \n  Ok(_) => {}\n  Err(_) => {\n    println!(\"EVCXR_PANIC_NOTIFICATION\");\n}}",
];
/// Like [`CATCH`], in a session in which a cell has awaited: evcxr runs all cells in tokio's runtime.
pub const ASYNC_CATCH: [&str; 2] = [
    "\nmatch std::panic::catch_unwind(\n  std::panic::AssertUnwindSafe(||{\n\
     let mut mutex =\nevcxr_variable_store.lazy_arc(\"evcxr_tokio_runtime\", ||\n\
     std::sync::Mutex::new(tokio::runtime::Runtime::new().unwrap())); match\n\
     mutex.lock() { Ok(guard) => guard, Err(poisoned) => poisoned.into_inner(), }\n\
     .block_on(async {",
    "\nOk::<(), EvcxrUserCodeError>(())\n});\n})) { \n  Ok(_) => {}\n  Err(_) => {\n    \
     println!(\"EVCXR_PANIC_NOTIFICATION\");\n}}",
];
/// End of the source for rustc.
pub const COMPILED_ENDS: &str = "\nevcxr_variable_store\n}\n";
/// Parts of the source for rust-analyzer: before the variables, between variables and statements, and at
/// the end.
const ANALYSIS_VARIABLES: &str = "\nasync fn evcxr_analysis_wrapper(\n";
const ANALYSIS_STATEMENTS: &str = ") -> Result<(), EvcxrUserCodeError> {\n";
const ANALYSIS_ENDS: &str = "Ok(())\n}\n";

/// Whether a source is for rust-analyzer.
pub fn is_analysis(source: &str) -> bool {
    source.contains(ANALYSIS_VARIABLES)
}

/// Whether evcxr has written all of a source.
pub fn is_whole(source: &str) -> bool {
    source.ends_with(if is_analysis(source) { ANALYSIS_ENDS } else { COMPILED_ENDS })
}

/// Number of the cell that a source belongs to.
pub fn number(source: &str) -> Option<usize> {
    let (_, rest) = source.split_once(FUNCTION)?;
    rest.split_once('(')?.0.parse().ok()
}

/// The source for rustc.
#[derive(Debug, PartialEq)]
pub enum Compiled<'a> {
    /// A cell without variables, which passes the store through.
    WithoutStore,
    WithStore(WithStore<'a>),
}

/// Parts of the source of a cell with a variable store, in order.
#[derive(Debug, PartialEq)]
pub struct WithStore<'a> {
    /// The session's attributes and items.
    pub items: &'a str,
    /// [`ERROR_TYPE`] with the blanks after it. Empty before the session's first `?`, and if the error type
    /// differs: then it is at the end of the items.
    pub error_type: &'a str,
    /// [`RUNTIME`].
    pub runtime: &'a str,
    /// The function's signature.
    pub function: &'a str,
    /// [`STORE`].
    pub store: &'a str,
    /// The code from [`CHECKS`] to the end.
    pub body: &'a str,
}

/// Parses the source for rustc.
///
/// # Errors
/// If this version of evcxr does not generate such a source, or if the cell contains evcxr's own text.
pub fn compiled(source: &str) -> Result<Compiled<'_>, String> {
    let unexpected = |what: &str| format!("evcxr's source does not have the expected {what}");
    let frame = [RUNTIME, FUNCTION].concat();
    let mut frames = source.match_indices(&frame);
    let Some((begin, _)) = frames.next() else {
        let without =
            source.match_indices(FUNCTION).filter_map(|(at, _)| after_number(&source[at + FUNCTION.len()..]));
        let is_other = |rest: &str| OTHER_PARAMETERS.iter().any(|parameters| rest.starts_with(parameters));
        return match without.into_iter().any(is_other) {
            true => Ok(Compiled::WithoutStore),
            false => Err(unexpected("variable store")),
        };
    };
    if frames.next().is_some() {
        return Err("the cell contains evcxr's own source".into());
    }
    let (before, rest) = source.split_at(begin);
    let (runtime, rest) = rest.split_at(RUNTIME.len());
    let after = after_number(&rest[FUNCTION.len()..]).and_then(|rest| rest.strip_prefix(STORE_PARAMETERS));
    let after = after.ok_or_else(|| unexpected("function"))?;
    let function = &rest[..rest.len() - after.len()];
    let body =
        after.strip_prefix(STORE).filter(|body| body.starts_with(CHECKS) && body.ends_with(COMPILED_ENDS));
    let body = body.ok_or_else(|| unexpected("use of the variable store"))?;
    let items =
        before.strip_suffix(ERROR_ENDS).and_then(|before| before.strip_suffix(ERROR_TYPE)).unwrap_or(before);
    let (items, error_type) = before.split_at(items.len());
    Ok(Compiled::WithStore(WithStore {
        items,
        error_type,
        runtime,
        function,
        store: &after[..STORE.len()],
        body,
    }))
}

fn after_number(rest: &str) -> Option<&str> {
    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    (after.len() < rest.len()).then_some(after)
}

/// Signature of a cell's function.
pub fn function(number: usize) -> String {
    format!("{FUNCTION}{number}{STORE_PARAMETERS}")
}

/// Parts of the source for rust-analyzer.
pub struct Analysis<'a> {
    /// The session's attributes and items.
    pub items: &'a str,
    /// Existing variables: name, after `mut` if it is mutable, and type.
    pub variables: Vec<(&'a str, &'a str)>,
    /// The cell's statements.
    pub code: &'a str,
    /// Variables to store after the cell, in evcxr's order.
    pub stored: Vec<&'a str>,
}

/// Parses the source for rust-analyzer.
pub fn analysis(source: &str) -> Option<Analysis<'_>> {
    let (before, rest) = source.split_once(ANALYSIS_VARIABLES)?;
    let items = &before[..before.rfind(ERROR_BEGINS)?];
    let (variables, rest) = rest.split_once(ANALYSIS_STATEMENTS)?;
    let variables =
        variables.lines().map(|line| line.strip_suffix(',')?.split_once(": ")).collect::<Option<_>>()?;
    let mut code = rest.strip_suffix(ANALYSIS_ENDS)?;
    // For each variable, evcxr adds a line that checks whether it can be stored.
    let mut stored = Vec::new();
    while let Some(line) = code.strip_suffix(");\n") {
        let begin = line.rfind('\n').map_or(0, |at| at + 1);
        match line[begin..].strip_prefix("evcxr_variable_store(") {
            Some(name) if !name.contains('(') => stored.push(name),
            _ => break,
        }
        code = &code[..begin];
    }
    stored.reverse();
    Some(Analysis { items, variables, code, stored })
}

/// Use of a variable in a line of the source for rustc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Checks the variable's type.
    Check,
    /// Takes the variable out of the store.
    Take,
    /// Puts the variable into the store.
    Put,
}

const CHECK: &str = "check_variable::<";
/// Text in place of [`CHECK`] for a variable whose old value the cell does not use; as long as that.
const REPLACED: &str = "check_replaced::<";
const TAKE: &str = "take_variable::<";
const PUT: &str = "put_variable::<";

/// Line that checks a variable.
pub fn check_line(name: &str, type_: &str) -> String {
    format!("vars_ok &= {STORE_NAME}.{CHECK}{type_}>(stringify!({name}));\n")
}

/// Line that takes a variable out of the store. `bound` is its name, after `mut` if it is mutable.
pub fn take_line(bound: &str, name: &str, type_: &str) -> String {
    format!("let {bound} = {STORE_NAME}.{TAKE}{type_}>(stringify!({name}));\n")
}

/// Line that puts a variable into the store.
pub fn put_line(name: &str, type_: &str) -> String {
    format!("{STORE_NAME}.{PUT}{type_}>(stringify!({name}), {name});\n")
}

/// The line that checks a variable, for a cell that does not use the variable's old value.
pub fn with_replaced_check(line: &str) -> String {
    line.replacen(CHECK, REPLACED, 1)
}

/// The line that takes a variable out of the store, as a comment of the same length, in which [`taken_variables`] finds
/// it.
pub fn commented_take(line: &str) -> String {
    line.replacen("le", "//", 1)
}

/// Use of a variable in a line, and the variable's name.
pub fn use_of_variable(line: &str) -> Option<(Use, &str)> {
    let (_, done) = line.split_once("evcxr_variable_store.")?;
    let uses = [(CHECK, Use::Check), (REPLACED, Use::Check), (TAKE, Use::Take), (PUT, Use::Put)];
    let (_, use_) = uses.into_iter().find(|(text, _)| done.starts_with(text))?;
    let (_, name) = done.split_once("stringify!(")?;
    let name = name.split([',', ')']).next()?;
    Some((use_, name.trim_start_matches("r#")))
}

/// Line that reports a variable as lost, in place of the line that checks it. `None` for another line.
pub fn lost_line(line: &str) -> Option<String> {
    let (Use::Check, _) = use_of_variable(line)? else { return None };
    let (_, name) = line.rsplit_once("(stringify!(")?;
    Some(format!("vars_ok &= headstart::variables::lost(stringify!({name}"))
}

/// Numbers of the lines with the existing variables, in the source for rust-analyzer.
pub fn variable_lines(source: &str) -> Option<Range<usize>> {
    let begin = source.find(ANALYSIS_VARIABLES)? + ANALYSIS_VARIABLES.len();
    let end = begin + source[begin..].find(ANALYSIS_STATEMENTS)?;
    let number = |at: usize| source[..at].matches('\n').count() + 1;
    Some(number(begin)..number(end))
}

/// Whether lines take a variable out of the store.
pub fn takes_variables(lines: &str) -> bool {
    lines.contains(TAKE)
}

/// Names and types of the variables that lines take out of the store.
pub fn taken_variables(lines: &str) -> Vec<(&str, &str)> {
    variables(lines, TAKE)
}

/// Names and types of the variables that a source puts into the store.
pub fn put_variables(source: &str) -> Vec<(&str, &str)> {
    variables(source, PUT)
}

/// Names and types of the variables that a source checks.
pub fn checked_variables(source: &str) -> Vec<(&str, &str)> {
    variables(source, CHECK)
}

fn variables<'a>(source: &'a str, use_: &str) -> Vec<(&'a str, &'a str)> {
    let uses = source.match_indices(use_).map(|(at, found)| &source[at + found.len()..]);
    uses.filter_map(|rest| {
        let (type_, rest) = rest.split_once(">(stringify!(")?;
        Some((rest.split([',', ')']).next()?, type_))
    })
    .collect()
}

/// Whether a source takes a variable out of the store with `let mut`.
pub fn is_taken_mutable(source: &str, name: &str) -> bool {
    source.contains(&format!("mut {name} = {STORE_NAME}."))
}

/// A source's lines with the variables sorted, because their order in evcxr's source differs between
/// sessions.
pub fn in_order(source: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = source.lines().collect();
    let use_ = |line: &str| use_of_variable(line).map(|(use_, _)| use_);
    for variables in lines.chunk_by_mut(|a, b| use_(a) == use_(b)) {
        if use_(variables[0]).is_some() {
            variables.sort_unstable();
        }
    }
    lines
}

/// Source for rustc of a cell without variables.
#[cfg(test)]
pub fn written(number: usize, code: &str) -> String {
    let [catch, caught] = CATCH.map(|text| text.trim_start_matches('\n'));
    format!(
        "use a::b;{ERROR_TYPE}{ERROR_ENDS}{RUNTIME}{}{STORE}{CHECKS}{CHECKED}{catch}\n{code}{caught}{COMPILED_ENDS}",
        function(number)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_order_of_variables_is_ignored() {
        let source = |[a, b]: [&str; 2]| {
            let lines = |line: &dyn Fn(&str) -> String| [a, b].map(line).concat();
            format!(
                "{}{}x += 1;\nx *= 2;\n{}",
                lines(&|name| check_line(name, name)),
                lines(&|name| take_line(&format!("mut {name}"), name, name)),
                lines(&|name| put_line(name, name))
            )
        };
        let (one, other) = (source(["a", "b"]), source(["b", "a"]));
        assert_ne!(one, other);
        assert_eq!(put_variables(&one), [("a", "a"), ("b", "b")]);
        assert_eq!(in_order(&one), in_order(&other));
        assert_ne!(in_order(&one), in_order(&one.replace("x += 1;\nx *= 2;", "x *= 2;\nx += 1;")));
    }

    #[test]
    fn user_code_is_not_mistaken_for_the_frame() {
        let inner = "{\n#[unsafe(no_mangle)]\npub extern \"C\" fn f() {}\n}\n";
        let source = written(3, inner);
        let Ok(Compiled::WithStore(parts)) = compiled(&source) else { panic!("not read") };
        assert!(parts.body.contains(inner) && parts.function.contains("run_user_code_3("));
        assert_eq!((parts.items, parts.runtime, parts.store), ("use a::b;", RUNTIME, STORE));
        let item = format!("fn g() {{\n{inner}}}\nmod evcxr_internal_runtime {{\n}}\n");
        let source = source.replacen("use a::b;", &item, 1);
        let Ok(Compiled::WithStore(parts)) = compiled(&source) else { panic!("not read") };
        assert_eq!(parts.items, item);
        assert!(
            compiled(&written(3, &written(3, ""))).is_err(),
            "it is not known which of the two is evcxr's"
        );
    }

    #[test]
    fn unexpected_text_is_an_error() {
        for (known, new) in [
            ("HashMap<String", "BTreeMap<String"),
            ("unsafe {&mut *", "unsafe{ &mut *"),
            ("*mut evcxr_internal_runtime::VariableStore {", "*mut Store {"),
            ("{let mut vars_ok", "{let vars_ok"),
        ] {
            let source = written(1, "f();\n");
            assert!(compiled(&source).is_ok() && source.contains(known));
            assert!(compiled(&source.replace(known, new)).is_err(), "{new}");
        }
        assert_eq!(
            compiled("fn f() {}"),
            Err("evcxr's source does not have the expected variable store".into())
        );
    }
}
