//! Edits to the patterns of a cell's `let` statements.
//!
//! evcxr stores the variables that it finds in patterns. It does not look into all patterns, and the kernel hides
//! variables that cannot be stored.

use std::collections::BTreeSet;
use std::ops::Range;

use syn::Pat;
use syn::spanned::Spanned;
use syn::visit::Visit;

/// Macro of the facade that hides a variable from evcxr. evcxr does not see variables in a macro pattern,
/// and so does not store them. The macro is not an item of the session: the order of items in evcxr's
/// source differs between sessions. With another order, the compile cache would not find the cell.
const LOCAL: &str = "headstart::headstart_local";

/// Bytes of the cell for a part of its block.
pub fn in_cell(span: proc_macro2::Span) -> Range<usize> {
    let range = span.byte_range();
    range.start.saturating_sub(1)..range.end.saturating_sub(1)
}

/// Variables, with `mut ` if they are mutable, whose names evcxr does not find in a pattern: those in slices, in
/// alternatives, behind references and in brackets. It would keep the old values of variables with these names.
pub fn rebound(pattern: &Pat) -> Vec<(String, &'static str)> {
    #[derive(Default)]
    struct Hidden {
        found: Vec<(String, &'static str)>,
        /// Number of patterns around the current one into which evcxr does not look.
        depth: usize,
    }
    impl Hidden {
        fn inside(&mut self, visit: impl FnOnce(&mut Hidden)) {
            self.depth += 1;
            visit(self);
            self.depth -= 1;
        }
    }
    impl<'ast> Visit<'ast> for Hidden {
        fn visit_pat_ident(&mut self, pattern: &'ast syn::PatIdent) {
            // An upper-case name is a constant or a variant.
            let name = pattern.ident.to_string();
            let is_variable =
                name.trim_start_matches("r#").starts_with(|c: char| c == '_' || c.is_lowercase());
            if is_variable && self.depth > 0 && !self.found.iter().any(|(known, _)| *known == name) {
                self.found.push((name, if pattern.mutability.is_some() { "mut " } else { "" }));
            }
            // evcxr does not look below `name @ pattern`.
            self.inside(|hidden| syn::visit::visit_pat_ident(hidden, pattern));
        }
        fn visit_pat_slice(&mut self, pattern: &'ast syn::PatSlice) {
            self.inside(|hidden| syn::visit::visit_pat_slice(hidden, pattern));
        }
        fn visit_pat_or(&mut self, pattern: &'ast syn::PatOr) {
            self.inside(|hidden| syn::visit::visit_pat_or(hidden, pattern));
        }
        fn visit_pat_reference(&mut self, pattern: &'ast syn::PatReference) {
            self.inside(|hidden| syn::visit::visit_pat_reference(hidden, pattern));
        }
        fn visit_pat_paren(&mut self, pattern: &'ast syn::PatParen) {
            self.inside(|hidden| syn::visit::visit_pat_paren(hidden, pattern));
        }
    }
    let mut hidden = Hidden::default();
    hidden.visit_pat(pattern);
    hidden.found
}

/// Edits of patterns that are values and that evcxr takes for variables: `None`, and in `let … else` other names in the
/// form of an enum's variants.
pub fn values(local: &syn::Local) -> Vec<(Range<usize>, String)> {
    struct Values {
        may_fail: bool,
        edits: Vec<(Range<usize>, String)>,
    }
    impl<'ast> Visit<'ast> for Values {
        fn visit_pat_ident(&mut self, pattern: &'ast syn::PatIdent) {
            let (name, range) = (pattern.ident.to_string(), in_cell(pattern.span()));
            let is_plain =
                pattern.by_ref.is_none() && pattern.mutability.is_none() && pattern.subpat.is_none();
            if name == "None" {
                self.edits.push((range.end..range.end, " {}".to_owned()));
            } else if self.may_fail && is_plain && is_variant(&name) {
                self.edits.push((range.start..range.start, "self::".to_owned()));
            }
        }
    }
    let may_fail = local.init.as_ref().is_some_and(|init| init.diverge.is_some());
    let mut values = Values { may_fail, edits: Vec::new() };
    values.visit_pat(&local.pat);
    values.edits
}

/// Whether a name has the form of an enum's variant, `Red`.
fn is_variant(name: &str) -> bool {
    name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase) && !name.contains('_')
}

/// Visitor that hides variables from evcxr.
pub struct Hide<'a> {
    pub names: &'a BTreeSet<String>,
    pub edits: &'a mut Vec<(Range<usize>, String)>,
    pub text: &'a str,
}

impl<'ast> Visit<'ast> for Hide<'_> {
    /// A field in short form, `P { x }`, gets its name in front of the hidden variable.
    fn visit_field_pat(&mut self, field: &'ast syn::FieldPat) {
        if let (None, syn::Member::Named(name)) = (&field.colon_token, &field.member)
            && self.names.contains(&name.to_string())
        {
            let start = in_cell(field.pat.span()).start;
            self.edits.push((start..start, format!("{name}: ")));
        }
        syn::visit::visit_field_pat(self, field);
    }

    fn visit_pat_ident(&mut self, pattern: &'ast syn::PatIdent) {
        let range = in_cell(pattern.span());
        if self.names.contains(&pattern.ident.to_string()) {
            let hidden = format!("{LOCAL}!({})", &self.text[range.clone()]);
            self.edits.push((range, hidden));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::prepare::Prepared;

    #[test]
    fn variables_that_evcxr_does_not_find_are_bound_again() {
        for (cell, sent) in [
            ("let [a, mut b] = f();\nb", "let [a, mut b] = f(); let a = a; let mut b = b;\n&b"),
            ("let (Ok(n) | Err(n)) = g();", "let (Ok(n) | Err(n)) = g(); let n = n;"),
            ("let (&x, [.., Y]) = h();", "let (&x, [.., Y]) = h(); let x = x;"),
            ("let whole @ [first, ..] = i();", "let whole @ [first, ..] = i(); let first = first;"),
            ("let None = f() else { panic!() };", "let None {} = f() else { panic!() };"),
            ("let (Red, mut n) = f() else { return };", "let (self::Red, mut n) = f() else { return };"),
        ] {
            assert_eq!(Prepared::new(cell).sent(), sent);
        }
        for cell in ["let Point = 1;", "let (a, P { b, c: Some(d) }) = f();", "let a = 1;", "let a: u8 = 1;"]
        {
            assert_eq!(Prepared::new(cell).sent(), cell);
        }
    }

    #[test]
    fn a_variable_that_is_bound_again_can_be_hidden_without_a_use() {
        let mut prepared = Prepared::new("let [a, b] = &v[..] else { panic!() };\nf(a)");
        assert!(prepared.make_local("a") && prepared.make_local("b") && !prepared.make_local("b"));
        assert!(!prepared.sent().contains("let b = b"), "{}", prepared.sent());
    }

    #[test]
    fn a_hidden_field_keeps_its_name() {
        let mut prepared = Prepared::new("let P { ref name, n, m: k } = p;\nf(name, k)");
        assert!(prepared.make_local("name") && prepared.make_local("k"));
        let hidden = "let P { name: headstart::headstart_local!(ref name), n, m: headstart::headstart_local!(k) } = p;";
        assert_eq!(prepared.sent(), format!("{hidden}\nf(name, k)"));
    }
}
