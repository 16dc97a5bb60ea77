//! Tests of the layering: a folder uses only folders below it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The folders, from top to bottom.
const LAYERS: [&str; 6] = ["cli", "jupyter", "engine", "compile", "prelude", "platform"];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match path.is_dir() {
            true => files(&path, found),
            false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            false => {}
        }
    }
}

/// Folders that a source names after `crate::`, also in `use crate::{a, b};`.
fn used(source: &str) -> BTreeSet<&str> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut found = BTreeSet::new();
    for rest in code.flat_map(|line| line.split("crate::").skip(1)) {
        let names = rest.strip_prefix('{').map_or(rest, |group| group.split('}').next().unwrap_or_default());
        let names: Vec<&str> =
            if names.len() < rest.len() { names.split(',').collect() } else { vec![names] };
        found.extend(names.into_iter().filter_map(|name| {
            let name = name.trim();
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            LAYERS.contains(&&name[..end]).then_some(&name[..end])
        }));
    }
    found
}

#[test]
fn no_folder_uses_one_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut upward = Vec::new();
    for (at, layer) in LAYERS.iter().enumerate() {
        let mut found = Vec::new();
        files(&root.join(layer), &mut found);
        assert!(found.len() > 4, "{layer}");
        for file in found {
            let source = fs::read_to_string(&file).unwrap();
            for name in used(&source).into_iter().filter(|name| LAYERS[..at].contains(name)) {
                upward.push(format!("{} uses {name}", file.strip_prefix(&root).unwrap().display()));
            }
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn every_source_is_in_a_documented_folder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let names = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: BTreeSet<String> = names.collect();
    let expected = LAYERS.iter().map(|layer| layer.to_string()).chain(["layers.rs".into(), "main.rs".into()]);
    assert_eq!(names, expected.collect());
    for layer in LAYERS {
        let text = fs::read_to_string(root.join(layer).join("mod.rs")).unwrap();
        let doc: String = text.lines().filter_map(|line| line.strip_prefix("//!")).collect();
        assert!(doc.matches(['.', ';']).count() >= 3, "{layer}: what it owns, in three sentences");
    }
}

#[test]
fn names_after_crate_are_found() {
    let source = "use crate::cli::run;\nuse crate::{engine, prelude::x};\nlet a = crate::compile::b(); // crate::jupyter\n";
    assert_eq!(
        used(source).into_iter().collect::<Vec<_>>(),
        ["cli", "compile", "engine", "jupyter", "prelude"]
    );
    assert!(used("//! [`crate::cli`]\nuse evcxr::crate_name;").is_empty());
}
