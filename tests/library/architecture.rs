//! The layers of `src`: a module may use only its own layer and lower ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first, with their modules.
const LAYERS: [(&str, &[&str]); 12] = [
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
    ("data", &["data"]),
    ("weights", &["weights"]),
    ("models", &["models"]),
    ("train", &["train"]),
    ("explain", &["explain"]),
    ("prelude", &["prelude", "inspect"]),
];
/// Names that `lib.rs` re-exports, and their modules.
const EXPORTED: [(&str, &str); 12] = [
    ("Error", "error"),
    ("GpuPrecision", "accelerator"),
    ("Result", "error"),
    ("cells_run", "notebook"),
    ("check_interrupt", "interrupt"),
    ("gpu_precision", "accelerator"),
    ("random_uniform", "random"),
    ("sequential", "nn"),
    ("set_gpu_precision", "accelerator"),
    ("show", "display"),
    ("start", "notebook"),
    ("temporary_folder", "files"),
];
/// Layers whose types charts may name, although they are above the charts.
const DRAWN_BY_CHARTS: [&str; 3] = ["nn", "train", "explain"];

type Way = Vec<String>;

/// The modules in `src`, each with the paths that its code uses outside tests.
fn modules() -> BTreeMap<Way, Vec<Way>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let texts: BTreeMap<Way, String> = files.iter().map(|file| (way(&root, file), code(file))).collect();
    let paths = |module: &Way, text: &String| {
        let of_crate = text.match_indices("crate::").filter(|(at, _)| !text[..*at].ends_with('$'));
        let mut found: Vec<Way> = of_crate.flat_map(|(at, _)| paths_at(text, at + "crate::".len())).collect();
        for (at, _) in text.match_indices("super::").filter(|(at, _)| !text[..*at].ends_with("super::")) {
            let rest = &text[at..];
            let end = rest.find(|c: char| !"super:".contains(c)).unwrap_or(rest.len());
            let levels = rest[..end].matches("super::").count();
            let parent = &module[..module.len().saturating_sub(levels)];
            let below = paths_at(text, at + levels * "super::".len());
            found.extend(below.into_iter().map(|path| [parent, path.as_slice()].concat()));
        }
        found
    };
    texts.iter().map(|(module, text)| (module.clone(), paths(module, text))).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        match entry.unwrap().path() {
            path if path.is_dir() => collect(&path, files),
            path if path.extension().is_some_and(|extension| extension == "rs") => files.push(path),
            _ => {}
        }
    }
}

/// The module path of a file: `data/augment/mod.rs` is `data::augment`.
fn way(root: &Path, file: &Path) -> Way {
    let path = file.strip_prefix(root).unwrap().with_extension("");
    let mut steps: Way = path.iter().map(|step| step.to_string_lossy().into_owned()).collect();
    steps.pop_if(|last| ["lib", "mod"].contains(&&**last));
    steps
}

/// The code of a file without comments and tests.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The paths that begin at an offset: one, or those in braces.
fn paths_at(text: &str, at: usize) -> Vec<Way> {
    let mut found = Vec::new();
    path_at(text, at, &[], &mut found);
    found
}

/// Adds the paths that begin at an offset; returns the offset of their end.
fn path_at(text: &str, at: usize, before: &[String], found: &mut Vec<Way>) -> usize {
    let skip = |at: usize| at + text[at..].len() - text[at..].trim_start().len();
    let mut at = skip(at);
    if text[at..].starts_with('{') {
        at = skip(at + 1);
        while at < text.len() && !text[at..].starts_with('}') {
            at = path_at(text, at, before, found);
            at += text[at..].find([',', '}']).unwrap_or(text.len() - at);
            at = skip(at + usize::from(text[at..].starts_with(',')));
        }
        return (at + 1).min(text.len());
    }
    let length = text[at..].find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len() - at);
    let here = [before, &[text[at..at + length].to_owned()]].concat();
    at += length;
    if length > 0 && text[at..].starts_with("::") && !text[at..].starts_with("::<") {
        return path_at(text, at + 2, &here, found);
    }
    found.push(here);
    at
}

/// Rank of a module's layer; `None` if the name is not a module, such as another crate.
fn rank(name: &str) -> Option<usize> {
    let module = EXPORTED.iter().find(|(exported, _)| *exported == name).map_or(name, |(_, module)| module);
    LAYERS.iter().position(|(_, modules)| modules.contains(&module))
}

#[test]
fn modules_use_only_lower_layers() {
    let mut upward = Vec::new();
    let modules = modules();
    assert!(
        modules.len() > 100 && modules.values().map(Vec::len).sum::<usize>() > 500,
        "the parser finds nothing"
    );
    for (module, paths) in modules.iter().filter(|(module, _)| !module.is_empty()) {
        let own = rank(&module[0]).unwrap_or_else(|| panic!("`{}` is in no layer", module[0]));
        for path in paths {
            let used = path.first().and_then(|name| rank(name));
            let is_drawn = module[0] == "chart" && DRAWN_BY_CHARTS.contains(&&*path[0]);
            if used.is_some_and(|used| used > own) && !is_drawn {
                upward.push(format!("{} uses {}", module.join("::"), path.join("::")));
            }
        }
    }
    assert!(upward.is_empty(), "imports from a layer above:\n{}", upward.join("\n"));
}

#[test]
fn modules_have_no_cyclic_dependencies() {
    let modules = modules();
    let folders = modules.keys().filter(|module| module.len() == 1);
    for folder in folders {
        let uses = uses_within(&modules, &folder[0]);
        for start in uses.keys() {
            // All direct and indirect dependencies.
            let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
            while let Some(module) = next.pop() {
                let used = uses.get(module).into_iter().flatten();
                next.extend(used.filter(|used| seen.insert((*used).clone())));
            }
            assert!(!seen.contains(start), "`{}::{start}` is in a circle with some of {seen:?}", folder[0]);
        }
    }
}

/// For each module of a folder, the modules of the folder that it uses.
fn uses_within(modules: &BTreeMap<Way, Vec<Way>>, folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let is_module = |name: &str| modules.contains_key(&vec![folder.to_owned(), name.to_owned()]);
    // The re-exports of `mod.rs` and their modules.
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder).join("mod.rs");
    let text = if file.is_file() { code(&file) } else { String::new() };
    let uses = text.match_indices("use ").flat_map(|(at, _)| paths_at(&text, at + "use ".len()));
    let exports: BTreeMap<String, String> = uses
        .filter(|path| path.len() >= 2 && is_module(&path[0]))
        .map(|path| (path[path.len() - 1].clone(), path[0].clone()))
        .collect();
    let mut within: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, paths) in modules.iter().filter(|(module, _)| module.len() >= 2 && module[0] == folder) {
        for path in paths.iter().filter(|path| path.len() >= 2 && path[0] == folder) {
            let used = if is_module(&path[1]) { Some(&path[1]) } else { exports.get(&path[1]) };
            if let Some(used) = used.filter(|used| **used != module[1]) {
                within.entry(module[1].clone()).or_default().insert(used.clone());
            }
        }
    }
    within
}
