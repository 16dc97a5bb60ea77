//! Tests of the layering: a folder uses only folders below it, and no modules use each other in a circle.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[path = "../../tests/library/module_graph.rs"]
mod module_graph;

use module_graph::ModuleGraph;

/// The folders, from top to bottom.
const LAYERS: [&str; 6] = ["cli", "jupyter", "engine", "compile", "prelude", "platform"];

fn modules() -> ModuleGraph {
    let graph = ModuleGraph::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let uses: usize = graph.uses.values().map(BTreeSet::len).sum();
    assert!(graph.uses.len() > 100 && uses > 300, "the parser finds {uses} uses");
    graph
}

#[test]
fn no_folder_uses_one_above_it() {
    let rank = |folder: &String| LAYERS.iter().position(|layer| layer == folder);
    let mut upward = Vec::new();
    for (module, uses) in modules().uses.iter().filter(|(module, _)| !module.is_empty()) {
        for used in uses.iter().filter(|used| rank(&used[0]) < rank(&module[0])) {
            upward.push(format!("{} uses {}", module.join("::"), used.join("::")));
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn modules_have_no_cyclic_dependencies() {
    let circles = modules().circles();
    assert!(circles.is_empty(), "modules use each other in a circle:\n{}", circles.join("\n\n"));
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
