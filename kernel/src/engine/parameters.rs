//! Types for cells of injected parameters, which papermill and `headstart run -p` write without types.

use std::ops::Range;

use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Block, Expr, ExprLit, ExprPath, GenericArgument, Lit, Pat, PathArguments, Stmt, Type};

use crate::engine::known::Variables;

/// First line of an injected cell. Another line than papermill's default, which people write above their own cells.
pub const COMMENT: &str = "// Injected parameters";

/// Whether a cell was injected.
pub fn is_injected(cell: &str) -> bool {
    cell.lines().next().is_some_and(|line| line.trim_end() == COMMENT)
}

/// Name, explicit type and value of a `let` statement.
pub fn binding(statement: &Stmt) -> Option<(String, Option<&syn::Type>, &Expr)> {
    let Stmt::Local(local) = statement else { return None };
    let value = &local.init.as_ref()?.expr;
    match &local.pat {
        Pat::Ident(pattern) => Some((pattern.ident.to_string(), None, value)),
        Pat::Type(typed) => match &*typed.pat {
            Pat::Ident(pattern) => Some((pattern.ident.to_string(), Some(&typed.ty), value)),
            _ => None,
        },
        _ => None,
    }
}

/// Edits to an injected cell that convert each value to the type of the variable that it replaces, and make it mutable.
///
/// papermill does not know types: it writes `let epochs = 10;`, which is an `i32`, where the default was a
/// `usize`. Positions refer to the cell; they are one byte less than in the block.
pub fn typing(block: &Block, variables: &Variables) -> Vec<(Range<usize>, String)> {
    let mut changes = Vec::new();
    for statement in &block.stmts {
        let Stmt::Local(local) = statement else { continue };
        let Some((name, None, value)) = binding(statement) else { continue };
        let Some(type_) = variables.get(&name) else { continue };
        if matches!(&local.pat, Pat::Ident(pattern) if pattern.mutability.is_none()) {
            // The default may be mutable, and later cells may change it. evcxr does not tell.
            let begin = local.pat.span().byte_range().start - 1;
            changes.push((begin..begin, "mut ".to_owned()));
        }
        let end = end(&local.pat);
        changes.push((end..end, format!(": {type_}")));
        convert(type_, value, &mut changes);
    }
    changes
}

/// Converts a value to a type. A value for an `Option` is one that exists, except for `None`.
fn convert(type_: &str, value: &Expr, changes: &mut Vec<(Range<usize>, String)>) {
    let is_none = matches!(value, Expr::Path(path) if path.path.is_ident("None"));
    match option_of(type_).filter(|_| !is_none) {
        Some(inner) => {
            let range = value.span().byte_range();
            changes.push((range.start - 1..range.start - 1, "Some(".to_owned()));
            convert(inner, value, changes);
            changes.push((range.end - 1..range.end - 1, ")".to_owned()));
        }
        None => Literals { type_, changes }.visit_expr(value),
    }
}

/// Text of a part of a type that was parsed.
fn text_of<'a>(part: &Type, type_: &'a str) -> &'a str {
    &type_[part.span().byte_range()]
}

/// The type `T` in a type such as `Vec<T>`.
fn argument_of(type_: &Type) -> Option<&Type> {
    let Type::Path(path) = type_ else { return None };
    let PathArguments::AngleBracketed(arguments) = &path.path.segments.last()?.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(argument) => Some(argument),
        _ => None,
    }
}

/// The type `T` in `Option<T>`, whose path may be written.
fn option_of(type_: &str) -> Option<&str> {
    let (path, rest) = type_.split_once('<')?;
    (path.trim().rsplit("::").next() == Some("Option")).then(|| rest.trim_end().strip_suffix('>')).flatten()
}

/// End of a part of a block, as a byte position in the cell.
fn end(part: &impl Spanned) -> usize {
    part.span().byte_range().end - 1
}

/// Types, other than `String`, that are made from a string by `into`.
const OWNED_TEXTS: [&str; 5] = ["PathBuf", "OsString", "Box", "Rc", "Arc"];

/// Syntax visitor that converts literals to the number and string types of `type_`.
struct Literals<'a> {
    type_: &'a str,
    changes: &'a mut Vec<(Range<usize>, String)>,
}

impl Literals<'_> {
    /// Whether the type contains `name` as a whole word.
    fn mentions(&self, name: &str) -> bool {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        self.type_.split(|c| !is_part(c)).any(|word| word == name)
    }

    /// Writes other brackets in place of `vec![` and `]`.
    fn replace_brackets(&mut self, call: &syn::Macro, open: &str, close: &str) {
        let brackets = call.delimiter.span();
        let begin = call.path.span().byte_range().start - 1;
        let last = end(&brackets.close());
        self.changes.push((begin..end(&brackets.open()), open.to_owned()));
        self.changes.push((last - 1..last, close.to_owned()));
    }
}

impl Visit<'_> for Literals<'_> {
    fn visit_expr_lit(&mut self, literal: &ExprLit) {
        let end = end(literal);
        match &literal.lit {
            Lit::Int(_) if self.mentions("f64") || self.mentions("f32") => {
                self.changes.push((end..end, ".0".to_owned()));
            }
            Lit::Str(_) if self.mentions("String") => self.changes.push((end..end, ".to_owned()".to_owned())),
            Lit::Str(_) if OWNED_TEXTS.iter().any(|name| self.mentions(name)) => {
                self.changes.push((end..end, ".into()".to_owned()));
            }
            _ => {}
        }
    }

    /// Handles `vec!` and similar macros. A list for a tuple or an array becomes one.
    fn visit_macro(&mut self, call: &syn::Macro) {
        let items = call.parse_body_with(Punctuated::<Expr, syn::Token![,]>::parse_terminated);
        let items: Vec<Expr> = items.into_iter().flatten().collect();
        let type_ = syn::parse_str::<Type>(self.type_).ok().filter(|_| call.path.is_ident("vec"));
        let whole = self.type_;
        let types: Vec<&str> = match &type_ {
            Some(Type::Tuple(tuple)) => tuple.elems.iter().map(|part| text_of(part, whole)).collect(),
            Some(Type::Array(array)) => vec![text_of(&array.elem, whole); items.len()],
            Some(list) => vec![argument_of(list).map_or(whole, |part| text_of(part, whole)); items.len()],
            None => vec![whole; items.len()],
        };
        match type_ {
            Some(Type::Tuple(_)) => self.replace_brackets(call, "(", ",)"),
            Some(Type::Array(_)) => self.replace_brackets(call, "[", "]"),
            _ => {}
        }
        for (item, type_) in items.iter().zip(types) {
            convert(type_, item, self.changes);
        }
    }

    /// Handles `f64::NAN` and the infinities, which papermill writes for every type.
    fn visit_expr_path(&mut self, value: &ExprPath) {
        let first = value.path.segments.first().filter(|first| first.ident == "f64");
        if let Some(first) = first.filter(|_| self.mentions("f32") && !self.mentions("f64")) {
            let end = end(&first.ident);
            self.changes.push((end - "f64".len()..end, "f32".to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::cell::parse;
    use crate::engine::edits::Edited;

    #[test]
    fn only_the_first_line_marks_an_injected_cell() {
        assert!(
            is_injected("// Injected parameters\nlet n = 1;") && is_injected("// Injected parameters \r\n")
        );
        for cell in
            ["// Parameters\nlet n = 1;", "// Injected parameters of f\n", "\n// Injected parameters", ""]
        {
            assert!(!is_injected(cell), "{cell:?}");
        }
    }

    #[test]
    fn a_value_gets_the_type_of_the_default() {
        let variables = [
            ("side", "(usize, f64)"),
            ("shape", "[usize; 2]"),
            ("n", "usize"),
            ("lr", "f64"),
            ("name", "String"),
            ("sizes", "Vec<f32>"),
            ("label", "&'static str"),
            ("pairs", "std::vec::Vec<(usize, f64)>"),
            ("limits", "Vec<Option<f32>>"),
            ("rows", "Vec<[f64; 2]>"),
            ("counts", "std::collections::HashMap<String, f64>"),
            ("limit", "Option<f64>"),
            ("title", "std::option::Option<String>"),
            ("folder", "std::path::PathBuf"),
        ];
        let variables = Variables::from(variables.map(|(name, type_)| (name.to_owned(), type_.to_owned())));
        let typed = |cell: &str| {
            let block = parse(cell).unwrap();
            Edited::new(cell, typing(&block, &variables)).text
        };
        assert_eq!(typed("let n = 10;"), "let mut n: usize = 10;");
        assert_eq!(typed("let lr = -1;"), "let mut lr: f64 = -1.0;");
        assert_eq!(typed("let name = \"a\";"), "let mut name: String = \"a\".to_owned();");
        assert_eq!(typed("let label = \"a\";"), "let mut label: &'static str = \"a\";");
        assert_eq!(typed("let sizes = vec![1, 2.5];"), "let mut sizes: Vec<f32> = vec![1.0, 2.5];");
        assert_eq!(typed("let shape = vec![64, 32];"), "let mut shape: [usize; 2] = [64, 32];");
        assert_eq!(typed("let side = vec![64, 0.5];"), "let mut side: (usize, f64) = (64, 0.5,);");
        assert_eq!(typed("let mut n = 10;"), "let mut n: usize = 10;");
        assert_eq!(
            typed("let pairs = vec![vec![1, 2], vec![3, 4.5]];"),
            "let mut pairs: std::vec::Vec<(usize, f64)> = vec![(1, 2.0,), (3, 4.5,)];"
        );
        assert_eq!(
            typed("let limits = vec![1, None, f64::NAN];"),
            "let mut limits: Vec<Option<f32>> = vec![Some(1.0), None, Some(f32::NAN)];"
        );
        assert_eq!(
            typed("let rows = vec![vec![1, f64::INFINITY]];"),
            "let mut rows: Vec<[f64; 2]> = vec![[1.0, f64::INFINITY]];"
        );
        assert_eq!(
            typed("let counts = std::collections::HashMap::from([(\"a\", 1)]);"),
            "let mut counts: std::collections::HashMap<String, f64> = \
             std::collections::HashMap::from([(\"a\".to_owned(), 1.0)]);"
        );
        assert_eq!(typed("let other = 1;"), "let other = 1;");
        assert_eq!(typed("let limit = -5;"), "let mut limit: Option<f64> = Some(-5.0);");
        assert_eq!(typed("let limit = None;"), "let mut limit: Option<f64> = None;");
        assert_eq!(
            typed("let title = \"é\";"),
            "let mut title: std::option::Option<String> = Some(\"é\".to_owned());"
        );
        assert_eq!(typed("let folder = \"/x\";"), "let mut folder: std::path::PathBuf = \"/x\".into();");
    }
}
