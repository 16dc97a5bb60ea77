//! The prelude, compiled once, in the form in which every session's cells link to it.
//!
//! A template is a folder in the user's cache, named by what it was made from. It holds the
//! prelude as a dylib with the libraries that rustc must see beside it (`deps`), the facade that
//! cells depend on (`facade`, see [`crate::skeleton`]), the standard library's sources in the same
//! short form (`library`), a session folder in which one cell has already been compiled
//! (`session`), and the cells that any session has compiled (`cells`, see [`kept`]).

use std::collections::BTreeSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::backend::Backend;
use crate::skeleton::{copy_crate, copy_library};
use crate::toolchain::{library_sources, output, rustc_version};
use crate::{kept, session};

/// A crate whose signatures rust-analyzer is to know: name, edition, and which of the others it
/// uses, under which name.
type FacadeCrate = (&'static str, &'static str, &'static [(&'static str, &'static str)]);
const FACADE: [FacadeCrate; 4] = [
    ("candle-core", "2021", &[]),
    ("candle-nn", "2021", &[("candle", "candle-core")]),
    ("headstart-frame", "2024", &[]),
    (
        PRELUDE,
        "2024",
        &[
            ("candle-core", "candle-core"),
            ("candle-nn", "candle-nn"),
            ("headstart-frame", "headstart-frame"),
            (ERRORS, ERRORS),
        ],
    ),
];
/// The library of which facade/errors.rs is the source.
pub const ERRORS: &str = "headstart_errors";
/// The facade's name.
pub const PRELUDE: &str = "headstart";
/// What the facade calls the compiled prelude.
pub const REAL: &str = "headstart_core";
/// Lists where the libraries of other languages are that the prelude is linked with, such as CUDA's.
const LINKS: &str = "links";
/// Written last: a template without it is no template.
const WHOLE: &str = "whole";

/// A template that no kernel began with for so long is one of a version that is gone.
const UNUSED: Duration = Duration::from_hours(30 * 24);

/// A prelude ready to be linked to.
#[derive(Clone, Debug)]
pub struct Template {
    path: PathBuf,
    backend: Backend,
}

/// The folder with the prelude's sources: `HEADSTART_SOURCE`, or where this program was built.
pub fn source() -> Option<PathBuf> {
    let set = std::env::var_os("HEADSTART_SOURCE").map(PathBuf::from);
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned);
    [set, built_from].into_iter().flatten().find(|path| path.join("src/prelude.rs").is_file())
}

fn known_source() -> Result<PathBuf, String> {
    source().ok_or_else(|| {
        "the prelude's sources are not where this program was built\n\
         hint: set HEADSTART_SOURCE to a checkout of headstart"
            .to_owned()
    })
}

/// Headstart's folder in the user's cache.
pub fn cache() -> Result<PathBuf, String> {
    let cache =
        dirs::cache_dir().ok_or("there is no cache folder: set HOME or XDG_CACHE_HOME")?.join("headstart");
    match cache.to_string_lossy().contains(' ') {
        true => Err(format!(
            "{}: evcxr cannot work in a folder with a space; set XDG_CACHE_HOME",
            cache.display()
        )),
        false => Ok(cache),
    }
}

impl Template {
    /// The template for the sources and the compiler as they are now, which may not be there yet.
    pub fn expected(backend: Backend) -> Result<Template, String> {
        let key = key(&known_source()?, &rustc_version()?)?;
        let name = backend.feature().map_or(key.clone(), |feature| format!("{key}-{feature}"));
        Ok(Template { path: cache()?.join("templates").join(name), backend })
    }

    /// Builds it if it is not there.
    pub fn ready(self, say: &dyn Fn(&str)) -> Result<Template, String> {
        if !self.is_whole() {
            say(match self.backend.feature() {
                None => "compiling the prelude: once for each version, some minutes",
                Some(_) => "compiling the prelude for the GPU: once for each version, a quarter of an hour",
            });
            self.build(&known_source()?)?;
            remove_unused(&cache()?.join("templates"));
        }
        self.note_use();
        Ok(self)
    }

    /// Its last file's time says when it was last used; where that cannot be written, when it was made.
    fn note_use(&self) {
        let file = File::options().append(true).open(self.path.join(WHOLE));
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the last step of its making was reached.
    pub fn is_whole(&self) -> bool {
        self.path.join(WHOLE).is_file()
    }

    /// The session folder that new sessions are copied from, if it was warmed.
    pub fn session(&self) -> PathBuf {
        self.path.join("session")
    }

    /// The cells that were compiled before.
    pub fn kept_cells(&self) -> PathBuf {
        self.path.join("cells")
    }

    /// What rust-analyzer is to take for the standard library's sources.
    pub fn library_sources(&self) -> PathBuf {
        self.path.join("library")
    }

    /// The prelude itself.
    pub fn library(&self) -> PathBuf {
        self.path.join("deps").join(library_file())
    }

    /// Says what the prelude is linked with and the system does not find.
    pub fn missing_libraries(&self) -> Option<String> {
        self.backend.missing_libraries(&self.library())
    }

    /// The evcxr commands that make a cell see the prelude.
    pub fn load_commands(&self) -> String {
        let deps = self.path.join("deps");
        let mut flags = vec![
            "-Cprefer-dynamic".to_owned(),
            // There is no debug info for a program to strip.
            "-Cstrip=none".to_owned(),
            // Optimising a cell's parts across each other takes a quarter of the time of a small cell.
            "-Clto=off".to_owned(),
            "--extern".to_owned(),
            format!("{REAL}={}", self.library().display()),
            format!("-Ldependency={}", deps.display()),
            format!("-Clink-arg=-Wl,-rpath,{}", deps.display()),
        ];
        let links = std::fs::read_to_string(deps.join(LINKS)).unwrap_or_default();
        flags.extend(links.lines().map(|path| format!("-L{path}")));
        format!(
            ":build_env CARGO_INCREMENTAL=0\n:build_env CARGO_ENCODED_RUSTFLAGS={}\n:dep headstart = {{ path = \"{}\" }}\n",
            flags.join("\u{1f}"),
            self.path.join("facade/headstart").display()
        )
    }

    fn build(&self, source: &Path) -> Result<(), String> {
        let parts = cache()?.join("parts");
        // What a build that was killed left.
        session::sweep(&parts);
        let part = parts.join(format!("{}-template", std::process::id()));
        let made = (|| {
            let _ = std::fs::remove_dir_all(&part);
            build_library(source, self.backend, &part.join("deps"))?;
            write_facade(source, &part.join("facade"))?;
            let library = library_sources().ok_or("the standard library's sources are missing")?;
            copy_library(&library, &part.join("library"))?;
            write(&part.join(WHOLE), "")?;
            let _ = std::fs::remove_dir_all(&self.path);
            make_folder_above(&self.path)
                .and_then(|()| std::fs::rename(&part, &self.path))
                .map_err(|error| format!("{}: {error}", self.path.display()))
        })();
        let _ = std::fs::remove_dir_all(&part);
        // Another process may have been quicker: theirs is as good.
        made.or_else(|error| if self.is_whole() { Ok(()) } else { Err(error) })
    }
}

/// Removes the templates of other versions that nobody has used for long, each of up to a GB.
fn remove_unused(templates: &Path) {
    for folder in std::fs::read_dir(templates).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let used = std::fs::metadata(folder.join(WHOLE)).and_then(|whole| whole.modified());
        let is_old = used.is_ok_and(|used| used.elapsed().is_ok_and(|since| since > UNUSED));
        if is_old {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

fn library_file() -> String {
    format!("{}headstart{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

/// A name that changes with the version, the compiler and every source file of the prelude's.
fn key(source: &Path, compiler: &str) -> Result<String, String> {
    let mut hasher = DefaultHasher::new();
    // How the facade is made, too.
    let made = [
        include_str!("../facade/errors.rs"),
        include_str!("../facade/shared.rs"),
        include_str!("kept.rs"),
        include_str!("modules.rs"),
        include_str!("operators.rs"),
        include_str!("skeleton.rs"),
        include_str!("template.rs"),
        include_str!("tokens.rs"),
        include_str!("variables.rs"),
    ];
    (compiler, made).hash(&mut hasher);
    let mut files = vec![source.join("Cargo.toml"), source.join("Cargo.lock")];
    for folder in ["src", "kernel/frame/src", "kernel/hub/src", "weights"].map(|folder| source.join(folder)) {
        list_files(&folder, &mut files)?;
    }
    files.sort();
    for file in files {
        let content = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        (file.strip_prefix(source).unwrap_or(&file), content).hash(&mut hasher);
    }
    Ok(format!("{}-{:016x}", env!("CARGO_PKG_VERSION"), hasher.finish()))
}

fn list_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    for entry in std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let path = entry.map_err(|error| error.to_string())?.path();
        match path.is_dir() {
            true => list_files(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}

/// Compiles the prelude as a dylib and gathers it with all that it was made of.
fn build_library(source: &Path, backend: Backend, deps: &Path) -> Result<(), String> {
    let mut cargo = Command::new("cargo");
    kept::not_for(&mut cargo);
    cargo.current_dir(source).args([
        "rustc",
        "--release",
        "-p",
        "headstart",
        "--lib",
        "--crate-type",
        "dylib",
    ]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    // Without the feature `hub`: what stands below an HTTP client would be two thirds of all crates.
    cargo.args(["--no-default-features", "--features", "cells"]);
    backend.ask_for(&mut cargo)?;
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => source.join(target),
        None => cache()?.join("target"),
    };
    cargo.env("CARGO_TARGET_DIR", &target);
    let built = target.join("release/deps").join(library_file());
    let stamp = built.with_extension("stamp");
    // A program with the prelude in it that was built there has made a library of the same name but
    // with a standard library of its own, as has another backend; cargo would take that for ours.
    let state = |built: &Path| Some(format!("{} {}", backend.kernel_name(), state(built)?));
    if std::fs::read_to_string(&stamp).ok() != state(&built) {
        let _ = std::fs::remove_file(&built);
    }
    // The cells, the prelude and the standard library are to share one std.
    cargo.args(["--", "-Cprefer-dynamic", "-Crpath"]);
    let messages = output(&mut cargo)?;
    if let Some(state) = state(&built) {
        std::fs::write(&stamp, state).map_err(|error| format!("{}: {error}", stamp.display()))?;
    }
    std::fs::create_dir_all(deps).map_err(|error| format!("{}: {error}", deps.display()))?;
    let artifacts = artifacts(&messages);
    // What rustc needs to know of a library is in its metadata; its code is in the prelude's.
    let has_metadata = |file: &PathBuf| {
        file.extension().is_some_and(|e| e == "rlib") && artifacts.contains(&file.with_extension("rmeta"))
    };
    for file in artifacts.iter().filter(|file| !has_metadata(file)) {
        let name = file.file_name().unwrap_or_default();
        let target = deps.join(name);
        // The prelude itself is copied: the next build writes over it. The rest is never changed.
        let own = name.to_string_lossy() == library_file();
        let linked = !own && std::fs::hard_link(file, &target).is_ok();
        if !linked {
            std::fs::copy(file, &target)
                .map_err(|error| format!("{} to {}: {error}", file.display(), target.display()))?;
        }
    }
    write(&deps.join(LINKS), &linked_paths(&messages).into_iter().collect::<Vec<_>>().join("\n"))?;
    match deps.join(library_file()).is_file() {
        true => Ok(()),
        false => Err(format!("cargo made no {}", library_file())),
    }
}

/// Changes when a file is written anew.
pub fn state(file: &Path) -> Option<String> {
    let metadata = std::fs::metadata(file).ok()?;
    let time = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("{} {}", metadata.len(), time.as_nanos()))
}

/// The libraries that cargo says it made or found made.
fn artifacts(messages: &str) -> BTreeSet<PathBuf> {
    let of_interest = |path: &PathBuf| {
        path.extension().is_some_and(|e| ["rlib", "rmeta", "so", "dylib"].iter().any(|known| e == *known))
    };
    told(messages, "compiler-artifact", "filenames").map(PathBuf::from).filter(of_interest).collect()
}

/// Where build scripts say that libraries are, each with its kind: `native=/usr/local/cuda/lib64`.
fn linked_paths(messages: &str) -> BTreeSet<String> {
    told(messages, "build-script-executed", "linked_paths").collect()
}

/// What stands in a list of cargo's messages of one reason.
fn told(messages: &str, reason: &str, list: &str) -> impl Iterator<Item = String> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(move |message| message["reason"] == reason)
        .flat_map(move |message| message[list].as_array().cloned().unwrap_or_default())
        .filter_map(|text| text.as_str().map(str::to_owned))
}

/// Writes the crate that cells depend on, and what rust-analyzer needs to understand it.
fn write_facade(source: &Path, facade: &Path) -> Result<(), String> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(source).args(["metadata", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&output(&mut cargo)?).map_err(|error| error.to_string())?;
    for (name, edition, dependencies) in FACADE {
        let folder = facade.join(name);
        let above = match name {
            PRELUDE => format!(
                "extern crate self as {PRELUDE};\n#[cfg(not(rust_analyzer))]\npub use {REAL}::*;\n\
                 #[cfg(not(rust_analyzer))]\nextern crate {ERRORS} as _;\n\
                 #[cfg(not(rust_analyzer))]\n#[doc(hidden)]\npub mod shared {{\n{}\n}}\n",
                include_str!("../facade/shared.rs")
            ),
            _ => String::new(),
        };
        copy_crate(&sources_of(&metadata, name)?, &folder.join("src"), &above)?;
        write(&folder.join("Cargo.toml"), &manifest(name, edition, dependencies))?;
    }
    let errors = facade.join(ERRORS);
    write(&errors.join("Cargo.toml"), &manifest(ERRORS, "2024", &[]))?;
    write(&errors.join("src/lib.rs"), include_str!("../facade/errors.rs"))
}

fn manifest(name: &str, edition: &str, dependencies: &[(&str, &str)]) -> String {
    let mut manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"{}\"\nedition = \"{edition}\"\n\n\
         [lints.rust]\nunexpected_cfgs = \"allow\"\n\n[dependencies]\n",
        env!("CARGO_PKG_VERSION")
    );
    for (alias, package) in dependencies {
        manifest += &format!("{alias} = {{ path = \"../{package}\", package = \"{package}\" }}\n");
    }
    manifest
}

fn sources_of(metadata: &Value, name: &str) -> Result<PathBuf, String> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = packages.iter().find(|package| package["name"] == name);
    found
        .and_then(|package| package["manifest_path"].as_str())
        .map(|manifest| Path::new(manifest).with_file_name("src"))
        .ok_or_else(|| format!("cargo metadata does not know {name}"))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    make_folder_above(path)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn make_folder_above(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_compiler_or_another_source_has_another_template() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| write(&folder.path().join(name), text).unwrap();
        for folder in ["src", "kernel/frame/src", "kernel/hub/src", "weights"] {
            file(&format!("{folder}/a"), "");
        }
        file("Cargo.toml", "");
        file("Cargo.lock", "");
        let first = key(folder.path(), "rustc 1").unwrap();
        assert_eq!(first, key(folder.path(), "rustc 1").unwrap());
        assert_ne!(first, key(folder.path(), "rustc 2").unwrap());
        file("src/nn/new.rs", "");
        assert_ne!(first, key(folder.path(), "rustc 1").unwrap());
    }

    #[test]
    fn templates_that_nobody_uses_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let templates = ["old", "used", "unfinished"]
            .map(|name| Template { path: folder.path().join(name), backend: Backend::default() });
        for template in &templates[..2] {
            write(&template.path.join(WHOLE), "").unwrap();
            let file = File::options().append(true).open(template.path.join(WHOLE)).unwrap();
            file.set_modified(SystemTime::now() - 2 * UNUSED).unwrap();
        }
        write(&templates[2].path.join("links"), "").unwrap();
        templates[1].note_use();
        remove_unused(folder.path());
        assert_eq!(templates.map(|template| template.path.is_dir()), [false, true, true]);
    }
}
