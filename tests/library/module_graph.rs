//! The modules of a crate, and the modules that each of them uses, read from its sources.
//!
//! The tests of the library and of the kernel share this file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The path of a module in its crate, such as `["data", "augment"]`.
pub type ModulePath = Vec<String>;

/// The modules of a crate with the modules that they use outside tests.
pub struct ModuleGraph {
    pub uses: BTreeMap<ModulePath, BTreeSet<ModulePath>>,
}

impl ModuleGraph {
    /// Reads all sources in a folder.
    pub fn read(root: &Path) -> ModuleGraph {
        let mut files = Vec::new();
        collect(root, &mut files);
        let sources = files.iter().map(|file| {
            let is_folder = ["mod", "lib", "main"].iter().any(|name| file.file_stem().unwrap() == *name);
            let code = without_comments_and_tests(&fs::read_to_string(file).unwrap());
            (module_path(root, file), Source { code, is_folder })
        });
        ModuleGraph::of(&sources.collect())
    }

    /// A use of a re-exported name counts as a use of the module that defines it.
    fn of(sources: &BTreeMap<ModulePath, Source>) -> ModuleGraph {
        let imports =
            sources.iter().map(|(module, source)| (module.clone(), source.imports(module, sources)));
        let imports: BTreeMap<ModulePath, Imports> = imports.collect();
        let uses = imports.iter().map(|(module, found)| {
            let resolved = found.used.iter().filter_map(|path| resolve(path, &imports, 0));
            (module.clone(), resolved.filter(|used| used != module && !used.is_empty()).collect())
        });
        ModuleGraph { uses: uses.collect() }
    }

    /// The circles: modules that use each other, directly or indirectly.
    pub fn circles(&self) -> Vec<String> {
        let reachable: BTreeMap<&ModulePath, BTreeSet<&ModulePath>> =
            self.uses.keys().map(|start| (start, self.reachable(start))).collect();
        let is_mutual = |a: &ModulePath, b: &ModulePath| reachable[a].contains(b) && reachable[b].contains(a);
        let mut circles: BTreeSet<String> = BTreeSet::new();
        for start in self.uses.keys().filter(|start| reachable[start].contains(start)) {
            let members = self.uses.iter().filter(|(module, _)| is_mutual(start, module));
            let lines = members.map(|(module, used)| {
                let used = used.iter().filter(|used| is_mutual(start, used)).map(|used| used.join("::"));
                format!("  {} uses {}", module.join("::"), used.collect::<Vec<_>>().join(", "))
            });
            circles.insert(lines.collect::<Vec<_>>().join("\n"));
        }
        circles.into_iter().collect()
    }

    fn reachable<'a>(&'a self, start: &'a ModulePath) -> BTreeSet<&'a ModulePath> {
        let (mut found, mut next) = (BTreeSet::new(), vec![start]);
        while let Some(module) = next.pop() {
            next.extend(self.uses.get(module).into_iter().flatten().filter(|used| found.insert(*used)));
        }
        found
    }
}

/// The text of a source file, without comments and tests.
struct Source {
    code: String,
    /// Whether the file can have child modules: `mod.rs`, `lib.rs` or `main.rs`.
    is_folder: bool,
}

/// What a module names: paths from the crate's root.
#[derive(Default)]
struct Imports {
    used: Vec<ModulePath>,
    /// The re-exported names with their paths.
    exported: BTreeMap<String, ModulePath>,
}

impl Source {
    fn imports(&self, module: &ModulePath, sources: &BTreeMap<ModulePath, Source>) -> Imports {
        let code = &self.code;
        let mut imports = Imports::default();
        let exports = if self.is_folder { re_exports(code) } else { Vec::new() };
        for (start, _) in &exports {
            for path in paths_at(code, start + "use ".len()) {
                if let (Some(path), Some(name)) = (from_root(&path, module, sources), path.last()) {
                    imports.exported.insert(name.clone(), path);
                }
            }
        }
        let is_export = |index: usize| exports.iter().any(|(start, end)| (*start..*end).contains(&index));
        let is_start =
            |index: usize| !code[..index].ends_with(|c: char| c.is_alphanumeric() || "_$:".contains(c));
        // Children are named without a prefix.
        let children =
            sources.keys().filter(|other| other.len() == module.len() + 1 && other.starts_with(module));
        let children = children.map(|child| child[module.len()].as_str()).filter(|_| self.is_folder);
        for prefix in ["crate", "self", "super"].into_iter().chain(children) {
            let prefix = format!("{prefix}::");
            for (index, _) in
                code.match_indices(&*prefix).filter(|(index, _)| is_start(*index) && !is_export(*index))
            {
                let paths = paths_at(code, index);
                imports.used.extend(paths.iter().filter_map(|path| from_root(path, module, sources)));
            }
        }
        imports
    }
}

/// Makes a path relative to the crate's root. `None`: it belongs to another crate.
fn from_root(
    path: &[String],
    module: &ModulePath,
    sources: &BTreeMap<ModulePath, Source>,
) -> Option<ModulePath> {
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([module, &path[1..]].concat()),
        "super" => {
            let levels = path.iter().take_while(|step| *step == "super").count();
            Some([&module[..module.len().checked_sub(levels)?], &path[levels..]].concat())
        }
        child => {
            let path = [module.as_slice(), path].concat();
            sources.contains_key(&[module.as_slice(), &[child.to_owned()]].concat()).then_some(path)
        }
    }
}

/// The module that defines a path. Follows re-exports.
fn resolve(path: &[String], imports: &BTreeMap<ModulePath, Imports>, depth: usize) -> Option<ModulePath> {
    let length = (0..=path.len()).rev().find(|length| imports.contains_key(&path[..*length]))?;
    let (module, rest) = path.split_at(length);
    let exported = rest.first().and_then(|name| imports[module].exported.get(name));
    match exported {
        Some(target) if depth < 8 => resolve(target, imports, depth + 1),
        // A name that the root does not define is that of a macro or of another crate.
        _ => Some(module.to_vec()),
    }
}

/// Positions of the re-exports `pub use …;`, `pub(crate) use …;` and `pub(super) use …;`.
fn re_exports(code: &str) -> Vec<(usize, usize)> {
    let uses = code.match_indices("use ").filter(|(index, _)| {
        let line = code[..*index].rsplit('\n').next().unwrap_or_default();
        ["pub", "pub(crate)", "pub(super)"].contains(&line.trim())
    });
    uses.map(|(start, _)| (start, start + code[start..].find(';').unwrap_or(code.len() - start))).collect()
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
fn module_path(root: &Path, file: &Path) -> ModulePath {
    let path = file.strip_prefix(root).unwrap().with_extension("");
    let mut steps: ModulePath = path.iter().map(|step| step.to_string_lossy().into_owned()).collect();
    steps.pop_if(|last| ["lib", "main", "mod"].contains(&&**last));
    steps
}

fn without_comments_and_tests(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The paths that begin at an offset: one, or those in braces.
fn paths_at(text: &str, start: usize) -> Vec<ModulePath> {
    let mut found = Vec::new();
    path_at(text, start, &[], &mut found);
    found
}

/// Adds the paths that begin at an offset; returns the offset of their end.
fn path_at(text: &str, start: usize, before: &[String], found: &mut Vec<ModulePath>) -> usize {
    let skip = |index: usize| index + text[index..].len() - text[index..].trim_start().len();
    let mut index = skip(start);
    if text[index..].starts_with('{') {
        index = skip(index + 1);
        while index < text.len() && !text[index..].starts_with('}') {
            index = path_at(text, index, before, found);
            index += text[index..].find([',', '}']).unwrap_or(text.len() - index);
            index = skip(index + usize::from(text[index..].starts_with(',')));
        }
        return (index + 1).min(text.len());
    }
    let length = text[index..].find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len() - index);
    let here = match &text[index..index + length] {
        // `{self, …}` is the path before the braces.
        "self" if !before.is_empty() => before.to_vec(),
        step => [before, &[step.to_owned()]].concat(),
    };
    index += length;
    if length > 0 && text[index..].starts_with("::") && !text[index..].starts_with("::<") {
        return path_at(text, index + 2, &here, found);
    }
    found.push(here);
    index
}

/// Circles through a re-export, through a function's path, and of a folder with its own file.
#[test]
fn circles_are_found() {
    let circles = |sources: &[(&str, &str)]| {
        let sources = sources.iter().map(|(path, text)| {
            let steps: ModulePath =
                path.split("::").filter(|step| !step.is_empty()).map(str::to_owned).collect();
            let is_folder =
                sources.iter().any(|(other, _)| other.starts_with(&format!("{path}::"))) || path.is_empty();
            (steps, Source { code: without_comments_and_tests(text), is_folder })
        });
        ModuleGraph::of(&sources.collect()).circles()
    };
    let folder = ("a", "mod b;\nmod c;\npub use b::{B, Other};\npub(crate) use c::C;");
    let root = ("", "mod a;\npub use a::C;");
    let one = [root, folder, ("a::b", "use super::C;"), ("a::c", "fn f() {\n    crate::a::B::new()\n}")];
    assert_eq!(circles(&one), ["  a::b uses a::c\n  a::c uses a::b"]);
    let through_root =
        [root, folder, ("a::b", "use crate::{C, x};"), ("a::c", "use crate::a::{b::{self, D}};")];
    assert_eq!(circles(&through_root).len(), 1);
    let own_file = [root, ("a", "mod b;\nfn f() {\n    b::g()\n}"), ("a::b", "use super::f;")];
    assert_eq!(circles(&own_file), ["  a uses a::b\n  a::b uses a"]);
    let none = [
        root,
        folder,
        ("a::b", "use super::C;\n// crate::a::b\n#[cfg(test)]\nmod tests {}"),
        ("a::c", "use other::a::B;"),
    ];
    assert!(circles(&none).is_empty());
}
