//! Cells that restore variables to their values from before a failed cell (see
//! `headstart::variables::save`).

use crate::compile::evcxr_text::source::is_taken_mutable;
use crate::compile::redefined::taken;

/// For each lost variable that the failed cell took out of the store: its name, and the cell that restores
/// it. `source` is the compiled source of the failed cell.
pub fn saved(lost: &[(&String, &String)], source: &str) -> Vec<(String, String)> {
    let taken = taken(source);
    lost.iter()
        .filter_map(|(name, type_)| {
            taken.iter().find(|variable| variable.name == name.as_str())?;
            let mutable = if is_taken_mutable(source, name) { "mut " } else { "" };
            let code = format!(
                "let {mutable}{name}: {type_} = headstart::variables::restore::<{type_}>(\"{name}\");\n"
            );
            Some((name.to_string(), code))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_variable_is_restored_with_its_type_and_mutability() {
        let source = "let mut v = evcxr_variable_store.take_variable::<Vec<u8>>(stringify!(v));\n\
            let n = evcxr_variable_store.take_variable::<i32>(stringify!(n));\n";
        let lost: [(String, String); 3] = [("v", "Vec<u8>"), ("n", "i32"), ("other", "u8")]
            .map(|(name, type_)| (name.into(), type_.into()));
        let lost = lost.each_ref().map(|(name, type_)| (name, type_));
        let cells: Vec<_> = saved(&lost, source).into_iter().map(|(_, cell)| cell).collect();
        assert_eq!(
            cells,
            [
                "let mut v: Vec<u8> = headstart::variables::restore::<Vec<u8>>(\"v\");\n",
                "let n: i32 = headstart::variables::restore::<i32>(\"n\");\n"
            ]
        );
    }
}
