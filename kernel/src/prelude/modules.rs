//! Joins a crate's modules into one file.
//!
//! rust-analyzer caches 128 parsed files. In a few large files, the standard library is parsed only once.

use std::path::{Path, PathBuf};

use syn::spanned::Spanned;

use crate::prelude::tokens::replace;

/// Inserts the files of all modules, also nested ones, into the crate's root file, and deletes them.
pub fn join(root: &Path) -> std::io::Result<()> {
    let mut joined = Vec::new();
    let text = with_modules(root, root.parent().unwrap_or(root), &mut joined)?;
    std::fs::write(root, text)?;
    joined.iter().try_for_each(std::fs::remove_file)
}

/// Text of a file with its modules inserted. `folder` contains the modules' files.
fn with_modules(file: &Path, folder: &Path, joined: &mut Vec<PathBuf>) -> std::io::Result<String> {
    let text = std::fs::read_to_string(file)?;
    // A file that cannot be parsed keeps its module files.
    let Ok(parsed) = syn::parse_file(&text) else { return Ok(text) };
    let mut found = Vec::new();
    find_modules(&parsed.items, folder, &mut found);
    let mut changes = Vec::new();
    for (place, folder) in found {
        let files = [folder.with_extension("rs"), folder.join("mod.rs")];
        if let Some(file) = files.into_iter().find(|file| file.is_file()) {
            let inner = with_modules(&file, &folder, joined)?;
            joined.push(file);
            changes.push((place, format!(" {{\n{inner}\n}}")));
        }
    }
    Ok(replace(&text, changes.into_iter()))
}

/// Modules in other files: the position of each one's semicolon, and the folder of its submodules.
fn find_modules(items: &[syn::Item], folder: &Path, found: &mut Vec<(std::ops::Range<usize>, PathBuf)>) {
    for item in items {
        let syn::Item::Mod(module) = item else { continue };
        let own = folder.join(module.ident.to_string());
        let has_path = module.attrs.iter().any(|attribute| attribute.path().is_ident("path"));
        match (&module.content, module.semi) {
            (Some((_, items)), _) => find_modules(items, &own, found),
            (None, Some(end)) if !has_path => found.push((end.span().byte_range(), own)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_and_submodules_are_joined_into_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("lib.rs", "//! É.\npub mod a;\nmod b { mod c; }\n#[path = \"x.rs\"] mod d;\nmod gone;\n");
        write("a/mod.rs", "#![allow(x)]\nmod e;");
        write("a/e.rs", "struct E;");
        write("b/c.rs", "struct C;");
        write("x.rs", "struct D;");
        join(&folder.path().join("lib.rs")).unwrap();
        let expected = "//! É.\npub mod a {\n#![allow(x)]\nmod e {\nstruct E;\n}\n}\n\
            mod b { mod c {\nstruct C;\n} }\n#[path = \"x.rs\"] mod d;\nmod gone;\n";
        assert_eq!(std::fs::read_to_string(folder.path().join("lib.rs")).unwrap(), expected);
        assert!(!folder.path().join("a/e.rs").exists() && folder.path().join("x.rs").exists());
    }
}
