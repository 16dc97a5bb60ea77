//! Texts of evcxr's errors, and of rustc's errors about code that evcxr generates.

/// No type was inferred for a variable.
pub const UNKNOWN_TYPE: &str = "Couldn't automatically determine type of variable";
/// Prefix of a message about one variable, whose name follows in backquotes.
pub const VARIABLE: &str = "The variable `";
/// A variable is a closure.
pub const CLOSURE: &str = "is a closure";
/// A variable's type cannot be named.
pub const UNNAMED_TYPE: &str = "which cannot be persisted";
/// A variable borrows from its cell.
pub const BORROWS: &str = "non-static lifetime";
/// Reply if a name has no documentation.
pub const NO_DOCUMENTATION: &str = "No documentation found";
/// rustc errors in generated code that mean rust-analyzer inferred no type or a wrong one: error code and
/// text.
pub const WRONG_INFERENCE: [(&str, &str); 2] =
    [("E0521", "borrowed data escapes"), ("E0658", "the `!` type is experimental")];
/// rustc's codes for a name in the place of a trait that is unknown or means something else.
pub const NO_TRAIT: [&str; 2] = ["E0405", "E0404"];
/// Beginning of rustc's suggestion to import a trait.
pub const IMPORT: &str = "consider importing";
/// Names in generated code, and their replacements in messages.
pub const GENERATED_NAMES: [(&str, &str); 6] = [
    ("`evcxr_variable_store`", "the end of the cell"),
    ("<end of input>", "the end of the cell"),
    ("EvcxrUserCodeError", "the error of a cell"),
    ("evcxr_internal_runtime::", ""),
    ("headstart_core::", "headstart::"),
    ("</* self type */", "<Type"),
];

/// Parts of the generated lines of a source for rustc.
pub const GENERATED_LINES: [&str; 5] =
    ["evcxr_", "Evcxr", "headstart::variables", "run_user_code_", "std::panic::"];

/// The variable that, according to the message, evcxr cannot store for later cells.
pub fn unstorable_variable(message: &str) -> Option<&str> {
    let is_unstorable = message.contains("cannot be persisted")
        || message.contains("can't be persisted")
        || message.contains(UNKNOWN_TYPE);
    let is_about_one = message.starts_with(VARIABLE) || message.starts_with(UNKNOWN_TYPE);
    (is_unstorable && is_about_one).then(|| quoted(message, 0)).flatten()
}

/// The text between the `at`th pair of backquotes.
pub fn quoted(text: &str, at: usize) -> Option<&str> {
    text.split('`').nth(2 * at + 1)
}
