//! The parsers read what the real evcxr has written.

use super::messages::{BORROWS, CLOSURE, UNKNOWN_TYPE, UNNAMED_TYPE, unstorable_variable};
use super::source::{
    Compiled, WithStore, analysis, compiled, is_analysis, is_whole, number, taken_variables,
};

const COMPILED: [(&str, &str); 5] = [
    ("variable", include_str!("golden/variable.compiled.txt")),
    ("question", include_str!("golden/question.compiled.txt")),
    ("retyped", include_str!("golden/retyped.compiled.txt")),
    ("item", include_str!("golden/item.compiled.txt")),
    ("value", include_str!("golden/value.compiled.txt")),
];

fn with_store<'a>(name: &str, source: &'a str) -> WithStore<'a> {
    match compiled(source) {
        Ok(Compiled::WithStore(parts)) => parts,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn the_source_for_rustc_is_read() {
    let mut numbers = Vec::new();
    for (name, source) in COMPILED {
        numbers.extend(number(source));
        assert!(!is_analysis(source));
        if name == "item" {
            assert_eq!(compiled(source), Ok(Compiled::WithoutStore), "{name}");
            continue;
        }
        assert!(is_whole(source) && !is_whole(&source[..source.len() - 2]), "{name}");
        let parts = with_store(name, source);
        assert_eq!(parts.error_type.is_empty(), name == "variable", "{name}: before the first `?`");
        let WithStore { items, error_type, runtime, function, store, body } = parts;
        assert_eq!([items, error_type, runtime, function, store, body].concat(), source, "{name}");
    }
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    let taken = COMPILED.map(|(_, source)| taken_variables(source));
    let [text, length] = [("text", "String"), ("text", "usize")].map(|variable| vec![variable]);
    assert_eq!(taken, [vec![], text.clone(), text, vec![], length]);
}

#[test]
fn the_source_for_rust_analyzer_is_read() {
    let question = include_str!("golden/question.analysis.txt");
    assert!(is_analysis(question) && is_whole(question) && !is_whole(&question[..question.len() - 2]));
    let parts = analysis(question).unwrap();
    assert_eq!(parts.variables, [("mut text", "String")]);
    assert_eq!((parts.code, parts.stored), ("text.push('b');\nstd::env::current_dir()?;\n", vec!["text"]));
    assert_eq!(parts.items, with_store("question", COMPILED[1].1).items);
    let first = analysis(include_str!("golden/variable.analysis.txt")).unwrap();
    assert!(first.variables.is_empty() && first.stored == ["text"]);
}

#[test]
fn errors_about_variables_are_understood() {
    for (text, name, words) in [
        (include_str!("golden/closure.error.txt"), "closure", CLOSURE),
        (include_str!("golden/unknown.error.txt"), "unknown", UNKNOWN_TYPE),
        (include_str!("golden/unnamed.error.txt"), "unnamed", UNNAMED_TYPE),
        (include_str!("golden/borrows.error.txt"), "borrows", BORROWS),
    ] {
        assert_eq!(unstorable_variable(text), Some(name), "{text}");
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(unstorable_variable("error: linking with `cc` failed"), None);
}
