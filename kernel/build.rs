//! Embeds the prelude's sources and the lessons into the program, so that an installed kernel needs no checkout.
//!
//! Writes `embedded.rs`: a table of the files, and an id that is a hash of everything that the template is
//! made of. In a package made by `cargo package`, the files are in `sources`. Manifests have another name
//! there, because cargo treats a folder with a `Cargo.toml` as another package.

use std::env;
use std::fmt::Write;
use std::fs;
use std::hash::Hash;
use std::io;
use std::path::{Path, PathBuf};

#[path = "src/platform/fingerprint.rs"]
mod fingerprint;

use fingerprint::Fingerprint;

/// Inputs of the prelude's build, relative to the checkout.
const PRELUDE: [&str; 15] = [
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    "src",
    "weights",
    "gpu/Cargo.toml",
    "gpu/src",
    "kernel/Cargo.toml",
    "kernel/frame",
    "kernel/cell",
    "kernel/fetch",
    "kernel/hub",
    "kernel/prelude",
    "kernel/xtask",
    "tests/bench/Cargo.toml",
];
/// Sources of the code that makes the template from the compiled prelude, relative to this package.
const TEMPLATE: [&str; 18] = [
    "facade/errors.rs",
    "facade/shared.rs",
    "src/compile/boundary.rs",
    "src/compile/cache.rs",
    "src/compile/compilation.rs",
    "src/compile/evcxr_text/source.rs",
    "src/compile/macros.rs",
    "src/compile/redefined.rs",
    "src/compile/variables.rs",
    "src/compile/wrapper.rs",
    "src/prelude/build.rs",
    "src/prelude/facade.rs",
    "src/prelude/generated_items.rs",
    "src/prelude/modules.rs",
    "src/prelude/operators.rs",
    "src/prelude/packages.rs",
    "src/prelude/skeleton.rs",
    "src/prelude/tokens.rs",
];
const LESSONS: &str = "notebooks";
/// Extensions of embedded files; others, such as an editor's swap files, are ignored.
const EXTENSIONS: [&str; 9] = ["cu", "ipynb", "lock", "md", "rs", "safetensors", "svg", "toml", "txt"];
/// File name of a manifest in a package made by `cargo package`.
const PACKAGED_MANIFEST: &str = "Cargo.toml.packaged";

fn main() -> io::Result<()> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let packaged = package.join("sources");
    let root = match packaged.is_dir() {
        true => packaged,
        false => package.parent().map(Path::to_owned).unwrap_or_default(),
    };
    let mut files = Vec::new();
    for name in PRELUDE {
        collect(&root, Path::new(name), &mut files)?;
    }
    let mut hasher = Fingerprint::default();
    for (name, path) in &files {
        (name, fs::read(path)?).hash(&mut hasher);
    }
    for name in TEMPLATE {
        println!("cargo::rerun-if-changed={name}");
        (name, fs::read(package.join(name))?).hash(&mut hasher);
    }
    collect(&root, Path::new(LESSONS), &mut files)?;
    let mut table = format!(
        "/// Changes with everything that the prelude's template is made of.\n\
         pub const ID: &str = \"{}\";\n\
         /// The embedded files: their paths in a checkout, and their contents.\n\
         pub const FILES: &[(&str, &[u8])] = &[\n",
        hasher.digits()
    );
    for (name, path) in &files {
        let _ = writeln!(table, "    ({name:?}, include_bytes!({:?})),", path.display().to_string());
    }
    table += "];\n";
    fs::write(PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("embedded.rs"), table)
}

/// Collects a file, or all files of a folder in order, with their paths in a checkout.
fn collect(root: &Path, name: &Path, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    let mut path = root.join(name);
    if name.ends_with("Cargo.toml") && !path.exists() {
        path = path.with_file_name(PACKAGED_MANIFEST);
    }
    println!("cargo::rerun-if-changed={}", path.display());
    if !path.is_dir() {
        files.push((name.to_string_lossy().replace('\\', "/"), path));
        return Ok(());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&path)? {
        let found = entry?.file_name().to_string_lossy().replace(PACKAGED_MANIFEST, "Cargo.toml");
        let is_hidden = found.starts_with('.');
        let is_source = Path::new(&found)
            .extension()
            .is_none_or(|extension| EXTENSIONS.contains(&&*extension.to_string_lossy()));
        if !is_hidden && is_source && found != "target" {
            names.push(name.join(found));
        }
    }
    names.sort();
    names.iter().try_for_each(|name| collect(root, name, files))
}
