//! Types and values of the cells' variables. They can be read while a cell runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Variables of the cells and their types.
pub type Variables = BTreeMap<String, String>;

/// A variable of the cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    pub name: String,
    pub type_: String,
    /// The value in one line, if its type is known to the prelude.
    pub value: Option<String>,
}

/// The variables' types, from evcxr, and their values, from the cells' process.
#[derive(Default)]
pub struct Known {
    types: Mutex<Variables>,
    values: Mutex<BTreeMap<String, String>>,
}

impl Known {
    pub fn set_types(&self, types: Variables) {
        *self.types.lock().unwrap_or_else(PoisonError::into_inner) = types;
    }

    pub fn set_values(&self, values: Vec<(String, String)>) {
        *self.values.lock().unwrap_or_else(PoisonError::into_inner) = values.into_iter().collect();
    }

    /// The variables after the last cell, sorted by name.
    pub fn variables(&self) -> Vec<Variable> {
        let types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let variable = |(name, type_): (&String, &String)| Variable {
            name: name.clone(),
            type_: type_.clone(),
            value: values.get(name).cloned(),
        };
        types.iter().map(variable).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_type_and_perhaps_a_value() {
        let known = Known::default();
        let types = [("a", "i32"), ("b", "Mine")].map(|(name, type_)| (name.to_owned(), type_.to_owned()));
        known.set_types(types.into());
        known.set_values(vec![("a".into(), "1".into()), ("gone".into(), "2".into())]);
        let found: Vec<_> = known.variables().into_iter().map(|v| (v.name, v.type_, v.value)).collect();
        let expected = [("a", "i32", Some("1")), ("b", "Mine", None)];
        assert_eq!(found, expected.map(|(n, t, v)| (n.to_owned(), t.to_owned(), v.map(str::to_owned))));
    }
}
