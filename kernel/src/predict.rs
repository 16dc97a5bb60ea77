//! The source that evcxr will have compiled for a cell, told from the one that it has analysed.
//!
//! Both hold the same items and statements. What a cell's `let`s make is all that the analysis is for; of
//! a call, a method or a macro it is most often what the same form made before.

use std::collections::HashMap;

use syn::spanned::Spanned;
use syn::{Expr, Pat, Stmt};

use crate::cell;
use crate::variables::{CATCH, CHECKED, CHECKS};

/// The types that forms of expressions had last.
pub type Forms = HashMap<String, String>;

/// How what evcxr makes of errors begins; before it are the items.
const ERROR: &str = "\n            struct EvcxrUserCodeError {}\n";
/// Between these two stand the variables that there are.
const VARIABLES: &str = "\nasync fn evcxr_analysis_wrapper(\n";
const STATEMENTS: &str = ") -> Result<(), EvcxrUserCodeError> {\n";
const END: &str = "Ok(())\n}\n";
const COMPILED_END: &str = "\nevcxr_variable_store\n}\n";
/// Before a cell's number.
const FUNCTION: &str = "\npub extern \"C\" fn run_user_code_";

/// Whether a source is for analysis.
pub fn is_analysis(source: &str) -> bool {
    source.contains(VARIABLES)
}

/// Whether evcxr has written all of a source.
pub fn is_whole(source: &str) -> bool {
    source.ends_with(if is_analysis(source) { END } else { COMPILED_END })
}

/// The number of the cell for which a source is compiled.
pub fn number(source: &str) -> Option<usize> {
    let (_, rest) = source.split_once(FUNCTION)?;
    rest.split_once('(')?.0.parse().ok()
}

/// What follows an analysis, given any source that was compiled before; `None` if a type is not known, or
/// either is of another kind.
pub fn source(analysis: &str, compiled: &str, number: usize, forms: &Forms) -> Option<String> {
    let items = &analysis[..analysis.find(ERROR)?];
    let (_, rest) = analysis.split_once(VARIABLES)?;
    let (variables, rest) = rest.split_once(STATEMENTS)?;
    let (code, names) = without_checks(rest.strip_suffix(END)?);
    // How each is bound, with `mut` where it is mutable; its name; its type.
    let variables: Vec<(&str, &str, &str)> = variables
        .lines()
        .map(|line| {
            let (bound, type_) = line.strip_suffix(',')?.split_once(": ")?;
            Some((bound, bound.strip_prefix("mut ").unwrap_or(bound), type_))
        })
        .collect::<Option<_>>()?;
    let each = |line: &dyn Fn(&str, &str, &str) -> String| {
        variables.iter().map(|(bound, name, type_)| line(bound, name, type_)).collect::<String>()
    };
    let old: HashMap<&str, &str> = variables.iter().map(|(_, name, type_)| (*name, *type_)).collect();
    // A name is stored once, as what it was last.
    let mut new = HashMap::new();
    for (name, defined) in definitions(code)? {
        let type_ = match defined {
            Defined::As(type_) => type_,
            Defined::By(form) => forms.get(&form)?.clone(),
        };
        new.insert(name, type_);
    }
    // In evcxr's order, by which it knows of which variable an error speaks.
    let put = |type_of: &dyn Fn(&str) -> Option<String>| {
        let types = names.iter().filter_map(|name| Some((name, type_of(name)?)));
        types
            .map(|(name, type_)| {
                format!("evcxr_variable_store.put_variable::<{type_}>(stringify!({name}), {name});\n")
            })
            .collect::<String>()
    };
    let (frame, rest) = compiled[compiled.find(ERROR)?..].split_once(FUNCTION)?;
    let (arguments, _) = rest.split_once('(')?.1.split_once(CHECKS)?;
    let [catch, caught] = CATCH.map(|text| text.trim_start_matches('\n'));
    let parts = [
        items,
        frame,
        FUNCTION,
        &format!("{number}("),
        arguments,
        CHECKS,
        &each(&|_, name, type_| {
            format!("vars_ok &= evcxr_variable_store.check_variable::<{type_}>(stringify!({name}));\n")
        }),
        CHECKED,
        &each(&|bound, name, type_| {
            format!("let {bound} = evcxr_variable_store.take_variable::<{type_}>(stringify!({name}));\n")
        }),
        catch,
        "\n",
        code,
        &put(&|name| new.get(name).cloned()),
        caught,
        "\n",
        &put(&|name| old.get(name).filter(|_| !new.contains_key(name)).map(|type_| type_.to_string())),
        COMPILED_END.trim_start(),
    ];
    Some(parts.concat())
}

/// Without the lines by which the analysis sees whether each variable can be kept, and their names.
fn without_checks(mut code: &str) -> (&str, Vec<&str>) {
    let mut names = Vec::new();
    while let Some(line) = code.strip_suffix(");\n") {
        let begin = line.rfind('\n').map_or(0, |at| at + 1);
        match line[begin..].strip_prefix("evcxr_variable_store(") {
            Some(name) if !name.contains('(') => names.push(name),
            _ => break,
        }
        code = &code[..begin];
    }
    names.reverse();
    (code, names)
}

/// What says of which type a variable is.
#[derive(Debug, PartialEq)]
enum Defined {
    As(String),
    By(String),
}

/// The variables that a cell's `let`s define; `None` where nothing says the type of one.
fn definitions(code: &str) -> Option<Vec<(String, Defined)>> {
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
                found.push((name.ident.to_string(), Defined::As(type_.to_owned())));
            }
            (Pat::Ident(name), None) => found.push((name.ident.to_string(), Defined::By(form()?))),
            (Pat::Tuple(tuple), None) => {
                let form = form()?;
                for (at, part) in tuple.elems.iter().enumerate() {
                    match part {
                        Pat::Ident(name) => {
                            found.push((name.ident.to_string(), Defined::By(format!("{form}.{at}"))));
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

/// Whether a type is left to be found in part: `Vec<_>`.
fn has_blank(type_: &str) -> bool {
    type_.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "_")
}

/// Notes of which types the variables of a cell are now; whether that was not known.
pub fn learn(forms: &mut Forms, code: &str, types: &HashMap<&str, &str>) -> bool {
    let mut is_news = false;
    for (name, defined) in definitions(&cell::code(code)).unwrap_or_default() {
        if let (Defined::By(form), Some(type_)) = (defined, types.get(name.as_str())) {
            is_news |= forms.insert(form, type_.to_string()).as_deref() != Some(type_);
        }
    }
    is_news
}

/// A call without what is in its brackets; `None` for what says little of its type, such as a sum.
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
        Expr::Reference(lent) => format!("&{}", inner(&lent.expr)?),
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

    #[test]
    fn what_is_compiled_follows_from_what_is_analysed() {
        let analysis = |variables: &str, code: &str| {
            format!("#![a]\nstruct S;{ERROR}   // …{VARIABLES}{variables}{STATEMENTS}{code}{END}")
        };
        let compiled = |items: &str, number: usize, variables: &str, code: &str, stored: &str| {
            let [catch, caught] = CATCH.map(|text| text.trim_start_matches('\n'));
            format!(
                "#![a]\n{items}{ERROR}mod a {{}}{FUNCTION}{number}(x: u8) {{{CHECKS}{variables}{catch}\n\
                 {code}{caught}\n{stored}evcxr_variable_store\n}}\n"
            )
        };
        let put = |name: &str| {
            format!("evcxr_variable_store.put_variable::<{name}>(stringify!({name}), {name});\n")
        };
        let before = compiled("", 6, CHECKED, "f();\n", "");
        let code = "let A = f(\"é\")?;\nlet b: b = 2;\ng(A);\n";
        let analysed = analysis(
            "mut a: a,\nb: i32,\n",
            &format!(
                "{code}{}",
                ["b", "a", "A"].map(|name| format!("evcxr_variable_store({name});\n")).concat()
            ),
        );
        let forms = Forms::from([("f()?".to_owned(), "A".to_owned())]);
        let [checked, taken] = ["vars_ok &= evcxr_variable_store.check", "let $ = evcxr_variable_store.take"]
            .map(|line| {
                [("mut a", "a", "a"), ("b", "b", "i32")]
                    .map(|(pattern, name, type_)| {
                        line.replace('$', pattern) + &format!("_variable::<{type_}>(stringify!({name}));\n")
                    })
                    .concat()
            });
        let variables = checked + CHECKED + &taken;
        let stored = code.to_owned() + &put("b") + &put("A");
        let told = source(&analysed, &before, 7, &forms).unwrap();
        assert_eq!(told, compiled("struct S;", 7, &variables, &stored, &put("a")));
        assert_eq!(number(&told), Some(7));
        assert!(is_analysis(&analysed) && !is_analysis(&told));
        for text in [analysed.as_str(), &told] {
            assert!(is_whole(text) && !is_whole(&text[..text.len() - 2]));
        }
        assert_eq!(source(&analysed, &before, 7, &Forms::new()), None, "a form that is not known");
    }

    #[test]
    fn a_form_is_a_call_without_what_is_in_its_brackets() {
        let form_of = |code: &str| match definitions(code)?.pop()?.1 {
            Defined::By(form) => Some(form),
            Defined::As(_) => None,
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
        assert_eq!(typed, [("a".to_owned(), Defined::As("My_Type".to_owned()))]);
    }

    #[test]
    fn a_type_is_learnt_once() {
        let mut forms = Forms::new();
        let types = HashMap::from([("a", "A"), ("b", "B")]);
        let code = ":timing\nlet (a, b) = f(1);\nlet c = 1 + f(2)";
        assert!(!learn(&mut forms, code, &types), "{code} is not all known");
        let code = ":timing\nlet (a, b) = f(1);";
        assert!(learn(&mut forms, code, &types) && !learn(&mut forms, code, &types));
        assert_eq!(forms["f().1"], "B");
    }
}
