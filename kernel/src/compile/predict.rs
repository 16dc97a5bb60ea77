//! Prediction of the source that evcxr will compile for a cell, from the source that it analyses.
//!
//! Both contain the same items and statements. The analysis finds the types of the variables that a cell's
//! `let`s define. Here, a call, a method or a macro is assumed to return the type that the same form of
//! expression had before.

use std::collections::HashMap;

use syn::spanned::Spanned;
use syn::{Expr, Pat, Stmt};

use crate::compile::cell;
use crate::compile::evcxr_text::source::{
    ASYNC_CATCH, Analysis, CATCH, CHECKED, CHECKS, COMPILED_ENDS, Compiled, RUNTIME, STORE, analysis,
    check_line, compiled, function, put_line, take_line,
};

/// Last known type of each form of expression.
pub type Forms = HashMap<String, String>;

/// Predicts the source for rustc from an analysed one and any source that was compiled before. `None` if a
/// type is unknown or either source is of an unexpected kind.
pub fn source(analysed: &str, before: &str, number: usize, forms: &Forms) -> Option<String> {
    let Analysis { items, variables, code, stored } = analysis(analysed)?;
    let Ok(Compiled::WithStore(before)) = compiled(before) else { return None };
    if before.error_type.is_empty() {
        return None;
    }
    // For each variable: its binding (with `mut` if it is mutable), name and type.
    let variables: Vec<(&str, &str, &str)> = variables
        .into_iter()
        .map(|(bound, type_)| (bound, bound.strip_prefix("mut ").unwrap_or(bound), type_))
        .collect();
    let each = |line: &dyn Fn(&str, &str, &str) -> String| {
        variables.iter().map(|(bound, name, type_)| line(bound, name, type_)).collect::<String>()
    };
    let old: HashMap<&str, &str> = variables.iter().map(|(_, name, type_)| (*name, *type_)).collect();
    // Each name is stored once, with its last type.
    let mut new = HashMap::new();
    for (name, source_of_type) in definitions(code)? {
        let type_ = match source_of_type {
            TypeSource::Explicit(type_) => type_,
            TypeSource::Form(form) => forms.get(&form)?.clone(),
        };
        new.insert(name, type_);
    }
    // Keeps evcxr's order, because evcxr uses it to find the variable that an error is about.
    let put = |type_of: &dyn Fn(&str) -> Option<String>| {
        stored.iter().filter_map(|name| Some(put_line(name, &type_of(name)?))).collect::<String>()
    };
    // After a cell that awaits, evcxr runs all cells in tokio's runtime.
    let catch = if before.body.contains(ASYNC_CATCH[0]) { ASYNC_CATCH } else { CATCH };
    let [catch, caught] = catch.map(|text| text.trim_start_matches('\n'));
    let parts = [
        items,
        before.error_type,
        RUNTIME,
        &function(number),
        STORE,
        CHECKS,
        &each(&|_, name, type_| check_line(name, type_)),
        CHECKED,
        &each(&take_line),
        catch,
        "\n",
        code,
        &put(&|name| new.get(name).cloned()),
        caught,
        "\n",
        &put(&|name| old.get(name).filter(|_| !new.contains_key(name)).map(|type_| type_.to_string())),
        COMPILED_ENDS.trim_start(),
    ];
    Some(parts.concat())
}

/// Source of a variable's type.
#[derive(Debug, PartialEq)]
enum TypeSource {
    /// An explicit type.
    Explicit(String),
    /// The type of a form of expression.
    Form(String),
}

/// Variables that a cell's `let`s define; `None` if the type of one cannot be determined.
fn definitions(code: &str) -> Option<Vec<(String, TypeSource)>> {
    let mut found = Vec::new();
    for statement in cell::parse(code).ok()?.stmts {
        let Stmt::Local(local) = statement else { continue };
        let (pattern, type_) = match &local.pat {
            Pat::Type(typed) => (&*typed.pat, Some(text(code, &typed.ty)?)),
            pattern => (pattern, None),
        };
        let form = || form(code, &local.init.as_ref()?.expr);
        match (pattern, type_) {
            (Pat::Ident(_), Some(type_)) if type_.contains('\n') || has_blank(type_) => return None,
            (Pat::Ident(name), Some(type_)) => {
                found.push((name.ident.to_string(), TypeSource::Explicit(type_.to_owned())));
            }
            (Pat::Ident(name), None) => found.push((name.ident.to_string(), TypeSource::Form(form()?))),
            (Pat::Tuple(tuple), None) => {
                let form = form()?;
                for (at, part) in tuple.elems.iter().enumerate() {
                    match part {
                        Pat::Ident(name) => {
                            found.push((name.ident.to_string(), TypeSource::Form(format!("{form}.{at}"))));
                        }
                        Pat::Wild(_) => {}
                        _ => return None,
                    }
                }
            }
            (Pat::Wild(_), _) => {}
            _ => return None,
        }
    }
    Some(found)
}

/// Whether part of a type is inferred: `Vec<_>`.
fn has_blank(type_: &str) -> bool {
    type_.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "_")
}

/// Records the types of a cell's variables. Returns whether any of them was new or changed.
pub fn record_types(forms: &mut Forms, code: &str, types: &HashMap<&str, &str>) -> bool {
    let mut has_changed = false;
    for (name, source_of_type) in definitions(&cell::code(code)).unwrap_or_default() {
        if let (TypeSource::Form(form), Some(type_)) = (source_of_type, types.get(name.as_str())) {
            has_changed |= forms.insert(form, type_.to_string()).as_deref() != Some(type_);
        }
    }
    has_changed
}

/// A call without its arguments; `None` for an expression whose form does not determine its type, such as a
/// sum.
fn form(code: &str, expression: &Expr) -> Option<String> {
    let inner = |expression| form(code, expression);
    Some(match expression {
        Expr::Path(path) => text(code, path)?.to_owned(),
        Expr::Macro(call) => format!("{}!", text(code, &call.mac.path)?),
        Expr::Call(call) => format!("{}()", inner(&call.func)?),
        Expr::MethodCall(call) => {
            let types = call.turbofish.as_ref().map_or(Some(""), |types| text(code, types))?;
            format!("{}.{}{types}()", inner(&call.receiver)?, call.method)
        }
        Expr::Field(field) => format!("{}.{}", inner(&field.base)?, text(code, &field.member)?),
        Expr::Try(tried) => format!("{}?", inner(&tried.expr)?),
        Expr::Reference(reference) => format!("&{}", inner(&reference.expr)?),
        _ => return None,
    })
}

fn text<'a>(code: &'a str, part: &impl Spanned) -> Option<&'a str> {
    let range = part.span().byte_range();
    code.get(range.start.checked_sub(1)?..range.end.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A golden file written by evcxr.
    macro_rules! golden {
        ($name:literal) => {
            include_str!(concat!("evcxr_text/golden/", $name, ".txt"))
        };
    }

    #[test]
    fn the_source_for_rustc_is_predicted_from_the_analysed_one() {
        let question = golden!("question.compiled");
        assert_eq!(
            source(golden!("question.analysis"), question, 2, &Forms::new()).as_deref(),
            Some(question)
        );
        let retyped = source(golden!("retyped.analysis"), question, 3, &Forms::new());
        assert_eq!(retyped.as_deref(), Some(golden!("retyped.compiled")), "a written type");
        let analysed = golden!("retyped.analysis").replace("let text: usize", "let text");
        assert_eq!(source(&analysed, question, 3, &Forms::new()), None, "a form that is not known");
        let forms = Forms::from([("text.len()".to_owned(), "usize".to_owned())]);
        let expected = golden!("retyped.compiled").replace("let text: usize", "let text");
        assert_eq!(source(&analysed, question, 3, &forms), Some(expected), "a known form");
        assert_eq!(source(&analysed, golden!("variable.compiled"), 3, &forms), None, "before the first `?`");
        assert_eq!(source(question, question, 3, &forms), None, "not an analysis");
    }

    #[test]
    fn variables_are_put_in_evcxrs_order() {
        let analysed = golden!("question.analysis")
            .replace("mut text: String,\n", "mut text: String,\nb: i32,\n")
            .replace(
                "evcxr_variable_store(text);\n",
                "evcxr_variable_store(b);\nevcxr_variable_store(c);\nevcxr_variable_store(text);\n",
            )
            .replace("text.push('b');\n", "let b: u8 = 2;\nlet c = f(\"é\")?;\n");
        let forms = Forms::from([("f()?".to_owned(), "C".to_owned())]);
        let predicted = source(&analysed, golden!("question.compiled"), 2, &forms).unwrap();
        let lines = [
            check_line("text", "String"),
            check_line("b", "i32"),
            CHECKED.into(),
            take_line("mut text", "text", "String"),
        ];
        assert!(predicted.contains(&lines.concat()), "{predicted}");
        let new = [put_line("b", "u8"), put_line("c", "C"), CATCH[1].trim_start().into()].concat();
        assert!(
            predicted.contains(&new)
                && predicted.ends_with(&(put_line("text", "String") + COMPILED_ENDS.trim_start()))
        );
    }

    #[test]
    fn a_form_is_a_call_without_its_arguments() {
        let form_of = |code: &str| match definitions(code)?.pop()?.1 {
            TypeSource::Form(form) => Some(form),
            TypeSource::Explicit(_) => None,
        };
        for (code, form) in [
            ("let mut m = sequential![Input::new(4), Flatten]?;", "sequential!?"),
            (
                "let x = Vgg16::new(Weights::Demo).include_top(false).build()?;",
                "Vgg16::new().include_top().build()?",
            ),
            ("let é = s.trim().parse::<f32>()?; // 1", "s.trim().parse::<f32>()?"),
            ("let r = &history.loss;", "&history.loss"),
            ("let (_, b) = split(0.2)?;", "split()?.1"),
        ] {
            assert_eq!(form_of(code).as_deref(), Some(form));
        }
        for code in ["let n = 1;", "let n = a() + 1;", "let [a] = f();", "let v: Vec<_> = f();", "let"] {
            assert_eq!(form_of(code), None, "{code}");
        }
        assert_eq!(definitions("f(); let _ = 1;").unwrap(), []);
        let typed = definitions("let a: My_Type = f();").unwrap();
        assert_eq!(typed, [("a".to_owned(), TypeSource::Explicit("My_Type".to_owned()))]);
    }

    #[test]
    fn a_type_is_recorded_once() {
        let mut forms = Forms::new();
        let types = HashMap::from([("a", "A"), ("b", "B")]);
        let code = ":timing\nlet (a, b) = f(1);\nlet c = 1 + f(2)";
        assert!(!record_types(&mut forms, code, &types), "{code} is not all known");
        let code = ":timing\nlet (a, b) = f(1);";
        assert!(record_types(&mut forms, code, &types) && !record_types(&mut forms, code, &types));
        assert_eq!(forms["f().1"], "B");
    }
}
