//! The layers of `src`: a module may use only its own layer and lower ones, and no modules use each other in a circle.

use std::path::Path;

use super::module_graph::ModuleGraph;

/// The layers, lowest first, with their modules.
const LAYERS: [(&str, &[&str]); 13] = [
    (
        "base",
        &[
            "accelerator",
            "check",
            "device",
            "device_options",
            "error",
            "files",
            "interrupt",
            "notes",
            "opaque",
            "random",
            "variables",
        ],
    ),
    ("display", &["display", "notebook"]),
    ("demo images", &["drawn"]),
    ("chart", &["chart"]),
    ("ops", &["ops"]),
    ("nn", &["nn"]),
    ("diagram", &["diagram"]),
    ("data", &["data"]),
    ("weights", &["weights"]),
    ("models", &["models"]),
    ("train", &["train"]),
    ("explain", &["explain"]),
    ("prelude", &["prelude", "inspect"]),
];

fn modules() -> ModuleGraph {
    let graph = ModuleGraph::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let uses: usize = graph.uses.values().map(|used| used.len()).sum();
    assert!(graph.uses.len() > 200 && uses > 1000, "the parser finds {uses} uses");
    graph
}

/// Rank of a module's layer.
fn rank(module: &str) -> usize {
    let found = LAYERS.iter().position(|(_, modules)| modules.contains(&module));
    found.unwrap_or_else(|| panic!("`{module}` is in no layer"))
}

#[test]
fn modules_use_only_lower_layers() {
    let mut upward = Vec::new();
    for (module, uses) in modules().uses.iter().filter(|(module, _)| !module.is_empty()) {
        for used in uses.iter().filter(|used| rank(&used[0]) > rank(&module[0])) {
            upward.push(format!("{} uses {}", module.join("::"), used.join("::")));
        }
    }
    assert!(upward.is_empty(), "imports from a layer above:\n{}", upward.join("\n"));
}

#[test]
fn modules_have_no_cyclic_dependencies() {
    let circles = modules().circles();
    assert!(circles.is_empty(), "modules use each other in a circle:\n{}", circles.join("\n\n"));
}
