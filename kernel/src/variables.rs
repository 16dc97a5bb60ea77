//! The variables' store, compiled once.
//!
//! evcxr writes the source of the store into each cell, with all that it takes of the standard
//! library. The prelude has a store of the same functions, so a cell can do with its name.

/// How evcxr's store begins in a cell.
const BEGIN: &str = "\nmod evcxr_internal_runtime {\n";
/// What follows it.
const AFTER: &str = "\n#[unsafe(no_mangle)]\n";
const OURS: &str = "\nuse headstart::variables as evcxr_internal_runtime;";

/// A cell's source with the prelude's store in the place of evcxr's own, if it has that; each byte
/// and line of the rest where it was, as evcxr knows them.
pub fn with_compiled_store(source: &str) -> Option<String> {
    let (before, rest) = source.split_once(BEGIN)?;
    let (_, after) = rest.rsplit_once(AFTER)?;
    let store = &source[before.len()..source.len() - after.len() - AFTER.len()];
    let lines = store.matches('\n').count() - 1;
    let spaces = store.len().checked_sub(OURS.len() + lines)?;
    Some([before, OURS, &" ".repeat(spaces), &"\n".repeat(lines), AFTER, after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_store_stays_where_it_was() {
        let store =
            "// A store.\n\npub struct VariableStore {\n    a: u8,\n}\npub fn create_variable_store() {}\n}";
        let source = format!("use a::b;{BEGIN}{store}{AFTER}fn run() {{\n    é();\n}}\n");
        let changed = with_compiled_store(&source).unwrap();
        assert_eq!(changed.len(), source.len());
        assert_eq!(changed.lines().count(), source.lines().count());
        let place = |text: &str| text.find("é").map(|at| (at, text[..at].matches('\n').count()));
        assert_eq!(place(&changed), place(&source));
        assert!(changed.starts_with("use a::b;\nuse headstart::variables as evcxr_internal_runtime;"));
        assert!(!changed.contains("VariableStore"));
    }

    #[test]
    fn a_cell_without_a_store_stays_as_it_is() {
        assert_eq!(with_compiled_store("#[unsafe(no_mangle)]\nfn run() {}"), None);
    }
}
