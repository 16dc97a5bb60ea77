//! The `headstart export` command: converts a notebook to a cargo project.
//!
//! The cells become the body of one function, in order, so that later cells can use the definitions of
//! earlier ones. The value of a cell's last expression is printed. If a cell redefines a name, which
//! notebooks allow, a new block starts there and contains all the following cells.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use syn::spanned::Spanned;
use syn::{Expr, Item, Stmt, UseTree};

use crate::cli::notebook::{is_meant_to_fail, joined, read_notebook};
use crate::compile::cell::{self, item_name};
use crate::compile::command_lines::commands;
use crate::compile::evcxr_text::commands::DEPENDENCY;
use crate::prelude::facade::toml_string;
use crate::prelude::sources;

/// Maximum width of a line of prose, in characters.
const COMMENT: usize = 96;

/// The exported program: its dependencies beyond the prelude, as in `:dep` lines, and the body of its
/// function.
#[derive(Debug, Default, PartialEq)]
struct Program {
    dependencies: Vec<String>,
    body: String,
    /// Number of open blocks.
    depth: usize,
    /// Names that the innermost open block defines.
    defined: BTreeSet<String>,
}

/// Writes a cargo project with the code of a notebook into a new folder.
pub fn export(notebook: &Path, folder: &Path) -> Result<(), String> {
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(format!("expected a new or an empty folder, found {} with files", folder.display()));
    }
    let content = read_notebook(notebook)?;
    let mut program =
        Program::of(&content).map_err(|problem| format!("{}: {problem}", notebook.display()))?;
    let absolute =
        std::path::absolute(notebook).map_err(|error| format!("{}: {error}", notebook.display()))?;
    let beside = absolute.parent().unwrap_or(Path::new("/"));
    program.dependencies.iter_mut().for_each(|line| *line = with_absolute_path(line, beside));
    let name = package_name(notebook);
    let source = sources::unpacked()?.folder;
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = (|| {
        std::fs::create_dir_all(above)?;
        // The folder is the user's, so the umask applies.
        let made = tempfile::Builder::new().permissions(Permissions::from_mode(0o777)).tempdir_in(above)?;
        let part = made.path();
        std::fs::create_dir_all(part.join("src"))?;
        std::fs::write(part.join("Cargo.toml"), manifest(&name, &source, &program.dependencies))?;
        // Pins the dependency versions that the prelude was tested with.
        std::fs::copy(source.join("Cargo.lock"), part.join("Cargo.lock"))?;
        let main = part.join("src/main.rs");
        std::fs::write(&main, program.text(notebook))?;
        // The project also compiles if formatting fails.
        let _ = Command::new("rustfmt").args(["--edition", "2024"]).arg(&main).output();
        if folder.is_dir() {
            std::fs::remove_dir(folder)?;
        }
        std::fs::rename(part, folder)?;
        // The folder was renamed, so the temporary folder must not be removed.
        let _ = made.keep();
        Ok(())
    })();
    written.map_err(|error: std::io::Error| format!("{}: {error}", folder.display()))
}

impl Program {
    fn of(notebook: &Value) -> Result<Program, String> {
        let mut program = Program::default();
        let mut count = 0;
        for cell in notebook["cells"].as_array().into_iter().flatten() {
            let source = joined(&cell["source"]);
            match cell["cell_type"].as_str() {
                Some("markdown") => program.comment(&source),
                Some("code") if is_meant_to_fail(cell) => {
                    program.comment(&format!("Omitted, because the cell is meant to fail:\n{source}"))
                }
                Some("code") => {
                    count += 1;
                    program.cell(&source).map_err(|problem| format!("cell {count}: {problem}"))?;
                }
                _ => {}
            }
        }
        Ok(program)
    }

    fn comment(&mut self, text: &str) {
        self.body.push('\n');
        for line in text.lines() {
            let mut written = String::from("//");
            for word in line.split_inclusive(' ') {
                if written.trim_end().len() + word.trim_end().len() > COMMENT {
                    let _ = writeln!(self.body, "{}", written.trim_end());
                    written = String::from("//");
                }
                if written.len() == 2 {
                    written.push(' ');
                }
                written.push_str(word);
            }
            let _ = writeln!(self.body, "{}", written.trim_end());
        }
    }

    fn cell(&mut self, source: &str) -> Result<(), String> {
        for dependency in commands(source).filter_map(|line| line.strip_prefix(DEPENDENCY)) {
            // evcxr, too, replaces an earlier line for the same crate.
            self.dependencies.retain(|known| crate_name(known) != crate_name(dependency));
            self.dependencies.push(dependency.to_owned());
        }
        for command in commands(source).filter(|line| line.starts_with('!')) {
            self.comment(&format!("The notebook runs a command here: {command}"));
        }
        if cell::awaits(source) {
            return Err("expected code for a function that is not async, found `.await`\n\
                 hint: use `tokio::runtime::Runtime::new()?.block_on(…)`"
                .into());
        }
        let code = cell::code(source);
        let parsed = cell::parse(&code).map_err(|error| {
            format!("line {}: {error}; a program needs complete cells", error.span().start().line)
        })?;
        let defined: BTreeSet<String> = parsed.stmts.iter().flat_map(names).collect();
        if defined.intersection(&self.defined).next().is_some() {
            self.body.push_str("{\n");
            self.depth += 1;
            self.defined.clear();
        }
        self.defined.extend(defined);
        match parsed.stmts.last() {
            Some(Stmt::Expr(last, None)) => {
                // The span is offset by the brace of the block that wraps the code.
                let range = last.span().byte_range();
                let (before, last_code, after) = (
                    code[..range.start - 1].trim_start(),
                    &code[range.start - 1..range.end - 1],
                    &code[range.end - 1..],
                );
                let _ = match prints(last) {
                    true => writeln!(self.body, "{before}{last_code};{after}"),
                    false => writeln!(self.body, "{before}show!({last_code});{after}"),
                };
            }
            _ => {
                let _ = writeln!(self.body, "{}", code.trim_start());
            }
        }
        Ok(())
    }

    fn text(&self, notebook: &Path) -> String {
        let name = notebook.file_name().unwrap_or_default().to_string_lossy();
        format!(
            "//! Generated from the notebook {name} by `headstart export`.\n\
             // Not every definition of a cell is used.\n\
             #![allow(unused)]\n\n\
             use headstart::prelude::*;\n\n\
             fn main() {{\n\
                 if let Err(error) = run() {{\n\
                     eprintln!(\"error: {{error}}\");\n\
                     std::process::exit(1);\n\
                 }}\n\
             }}\n\n\
             fn run() -> std::result::Result<(), Box<dyn std::error::Error>> {{\n{}{}Ok(())\n}}\n",
            self.body,
            "}\n".repeat(self.depth)
        )
    }
}

/// Name of the crate in the text of a dependency.
fn crate_name(dependency: &str) -> &str {
    dependency.split('=').next().unwrap_or_default().trim()
}

/// A dependency whose path, which is relative to the notebook's folder, is absolute. evcxr also takes a path without the
/// crate's name.
fn with_absolute_path(line: &str, folder: &Path) -> String {
    // A string of JSON is one of TOML, too.
    let absolute = |path: &str| Value::from(folder.join(path).display().to_string()).to_string();
    let read = |text: &str| toml::from_str::<BTreeMap<String, toml::Value>>(text).ok();
    if !line.contains('=') {
        let manifest = std::fs::read_to_string(folder.join(line.trim()).join("Cargo.toml")).ok();
        let package = manifest.and_then(|text| read(&text)?.remove("package"));
        let name = package.as_ref().and_then(|package| package.get("name")?.as_str());
        return name
            .map_or(line.to_owned(), |name| format!("{name} = {{ path = {} }}", absolute(line.trim())));
    }
    let dependency = read(line).and_then(|table| table.into_values().next());
    let Some(path) = dependency.as_ref().and_then(|dependency| dependency.get("path")?.as_str()) else {
        return line.to_owned();
    };
    let written = [format!("\"{path}\""), format!("'{path}'")].into_iter().find(|text| line.contains(text));
    let (before, after) = line.split_at(line.find("path").unwrap_or_default());
    written.map_or(line.to_owned(), |text| before.to_owned() + &after.replacen(&text, &absolute(path), 1))
}

/// Whether an expression is a macro without a value to show, such as `println!`.
fn prints(expression: &Expr) -> bool {
    let Expr::Macro(called) = expression else { return false };
    let name = called.mac.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
    ["print", "eprint", "assert"].iter().any(|known| name.starts_with(known))
}

/// Names that a statement defines and that cannot be defined twice in one block.
fn names(statement: &Stmt) -> Vec<String> {
    let Stmt::Item(item) = statement else { return Vec::new() };
    match item {
        Item::Use(item) => imported(&item.tree),
        _ => item_name(item).map(ToString::to_string).into_iter().collect(),
    }
}

fn imported(tree: &UseTree) -> Vec<String> {
    match tree {
        UseTree::Path(path) => imported(&path.tree),
        UseTree::Name(name) => vec![name.ident.to_string()],
        UseTree::Rename(rename) if rename.rename != "_" => vec![rename.rename.to_string()],
        UseTree::Rename(_) | UseTree::Glob(_) => Vec::new(),
        UseTree::Group(group) => group.items.iter().flat_map(imported).collect(),
    }
}

/// The notebook's name as a valid cargo package name.
fn package_name(notebook: &Path) -> String {
    let stem = notebook.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    match name.chars().next() {
        Some(first) if first.is_ascii_alphabetic() => name,
        _ => format!("notebook-{name}"),
    }
}

/// The manifest. It depends on the sources of this program's prelude, so that the results match the
/// notebook's.
fn manifest(name: &str, source: &Path, dependencies: &[String]) -> String {
    let headstart = format!("{{ path = {} }}", toml_string(source));
    let others: String = dependencies
        .iter()
        .map(|line| match line.contains('=') {
            true => format!("{line}\n"),
            false => format!("{} = \"*\"\n", line.trim()),
        })
        .collect();
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         [dependencies]\nheadstart = {headstart}\n{others}\n\
         # The computation is in the dependencies, so they are optimised in debug builds, too.\n\
         [profile.dev.package.\"*\"]\nopt-level = 3\n\n[workspace]\n"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn program(cells: &[&str]) -> Result<Program, String> {
        let cells: Vec<Value> = cells
            .iter()
            .map(|source| json!({"cell_type": "code", "source": source, "metadata": {}}))
            .collect();
        Program::of(&json!({ "cells": cells }))
    }

    #[test]
    fn the_last_value_is_shown_and_other_code_is_unchanged() {
        let body =
            program(&["let n = 6; // six", "n * 7 // the answer", "println!(\"{n}\")", "n;"]).unwrap().body;
        assert_eq!(body, "let n = 6; // six\nshow!(n * 7); // the answer\nprintln!(\"{n}\");\nn;\n");
        assert_eq!(
            program(&["if true { 1 } else { 2 }"]).unwrap().body,
            "show!(if true { 1 } else { 2 });\n"
        );
    }

    #[test]
    fn a_redefinition_opens_a_block() {
        let found =
            program(&["fn f() -> i32 { 1 }", "use std::fmt::{self, Debug};", "fn f() -> i32 { 2 }", "f()"]);
        let found = found.unwrap();
        assert_eq!(found.depth, 1);
        assert!(found.body.ends_with("{\nfn f() -> i32 { 2 }\nshow!(f());\n"), "{}", found.body);
        assert!(found.text(Path::new("a.ipynb")).contains("show!(f());\n}\nOk(())\n}\n"));
    }

    #[test]
    fn dependencies_go_into_the_manifest_and_other_commands_are_dropped() {
        let found = program(&[":dep rand = \"0.9\"\n:dep itertools\n:timing\nlet a = 1;"]).unwrap();
        assert_eq!(found.body, "let a = 1;\n");
        let manifest = manifest("a", Path::new("b"), &found.dependencies);
        assert!(manifest.contains("\nrand = \"0.9\"\nitertools = \"*\"\n"), "{manifest}");
        let cells = [":dep a = \"1\"\n:dep b", ":dep a=\"2\"", "let s = \"\n:dep c\n\";"];
        assert_eq!(program(&cells).unwrap().dependencies, ["b", "a=\"2\""]);
        assert!(program(&["f().await"]).unwrap_err().contains("`.await`"));
    }

    #[test]
    fn a_path_of_a_dependency_is_that_of_the_notebook() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("mine")).unwrap();
        std::fs::write(folder.path().join("mine/Cargo.toml"), "[package]\nname = \"my-crate\"\n").unwrap();
        let line = |line: &str| with_absolute_path(line, folder.path());
        let path = folder.path().join("mine").display().to_string();
        let dependency = |path: &str| format!("a = {{ features = [\"mine\"], path = {path} }}");
        assert_eq!(line(&dependency("\"mine\"")), dependency(&format!("{path:?}")));
        assert_eq!(line("a = { path = 'mine' }"), format!("a = {{ path = {path:?} }}"));
        assert_eq!(line("mine"), format!("my-crate = {{ path = {path:?} }}"));
        for other in ["a = \"1\"", "itertools", "a = { path = \"/mine\" }", "a = { version = \"1\" }"] {
            assert_eq!(line(other), other);
        }
    }

    #[test]
    fn a_shell_command_becomes_a_comment() {
        let body = program(&["!ls -l\nlet a = 1;"]).unwrap().body;
        assert_eq!(body, "\n// The notebook runs a command here: !ls -l\nlet a = 1;\n");
    }

    #[test]
    fn a_syntax_error_is_reported_with_its_cell_and_line() {
        let problem = program(&["let a = 1;", "let b = 2;\nlet c = ;"]).unwrap_err();
        assert!(problem.starts_with("cell 2: line 2: "), "{problem}");
        assert_eq!(package_name(Path::new("x/1 Was ist das?.ipynb")), "notebook-1-was-ist-das-");
    }
}
