//! Compiles the prelude, the dynamic library that cells link to, and collects the metadata of its
//! dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::platform::cache_folder::cache_folder;
use crate::platform::rustc_wrapper;
use crate::prelude::backend::Backend;
use crate::prelude::packages::Packages;
use crate::prelude::sources::{Sources, own_target};
use crate::prelude::toolchain::rustc_version;

/// Environment variables that make cargo print its progress bar even without a terminal.
const PROGRESS: [(&str, &str); 2] =
    [("CARGO_TERM_PROGRESS_WHEN", "always"), ("CARGO_TERM_PROGRESS_WIDTH", "80")];

/// Environment variable with the target for which cargo compiles.
const TARGET_VARIABLE: &str = "CARGO_BUILD_TARGET";

/// Package of the prelude.
const PACKAGE: &str = "headstart-prelude";

/// Package whose build compiles the prelude: see kernel/cell.
const PROGRAM: &str = "headstart-cell";

/// File that lists the folders of non-Rust libraries that the prelude links to, such as CUDA's.
pub const LINKS: &str = "links";

/// Progress of a build: finished and total units (libraries and build scripts).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    pub done: usize,
    pub all: usize,
}

/// File name of the prelude's library.
pub fn library_file() -> String {
    format!("{}headstart_prelude{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

/// Compiles the prelude and copies it to `deps`, with the libraries that rustc needs beside it.
pub fn compile(
    sources: &Sources,
    packages: &Packages,
    backend: Backend,
    deps: &Path,
    report: &mut dyn FnMut(Progress),
) -> Result<(), String> {
    let mut cargo = Command::new("cargo");
    rustc_wrapper::remove_from(&mut cargo);
    cargo.current_dir(&sources.folder);
    cargo.args(["build", "--release", "--locked", "-p", PROGRAM, "--bin", PROGRAM]);
    cargo.args(["--message-format", "json-render-diagnostics"]).envs(PROGRESS);
    backend.add_feature(&mut cargo)?;
    let mut target = match (std::env::var_os("CARGO_TARGET_DIR"), own_target()) {
        (Some(target), _) => sources.folder.join(target),
        (None, Some(target)) => target,
        (None, None) => cache_folder()?.join("target"),
    };
    match backend.feature() {
        // Separate folders, because libraries of the same name would overwrite each other.
        Some(feature) => target = target.join(feature),
        // Dependencies then have the same features as in this program's build, and are compiled only once.
        None if sources.is_checkout => {
            cargo.args(["-p", "headstart-kernel"]);
        }
        None => {}
    }
    cargo.env("CARGO_TARGET_DIR", &target);
    if has_target(&sources.folder) {
        // The user compiles for another machine; the prelude runs on this one.
        let version = rustc_version()?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        cargo.env(TARGET_VARIABLE, host);
        target = target.join(host);
    }
    let library = target.join("release/deps").join(library_file());
    let mut messages = run(&mut cargo, report)?;
    if !shares_standard_library(&library) {
        // `cargo build -p headstart-prelude` creates another library with this name, which cargo then takes
        // for this one.
        let _ = std::fs::remove_file(&library);
        messages = run(&mut cargo, report)?;
    }
    collect(&messages, &packages.below(PACKAGE)?, deps)
}

/// Whether the user's configuration of cargo names a target for which it compiles.
fn has_target(folder: &Path) -> bool {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(dirs::home_dir()?.join(".cargo")));
    let folders = folder.ancestors().map(|folder| folder.join(".cargo")).chain(home);
    let mut files = folders.flat_map(|folder| ["config.toml", "config"].map(|name| folder.join(name)));
    std::env::var_os(TARGET_VARIABLE).is_some()
        || files.any(|file| std::fs::read_to_string(file).is_ok_and(|text| names_target(&text)))
}

fn names_target(config: &str) -> bool {
    toml::from_str::<BTreeMap<String, toml::Value>>(config)
        .is_ok_and(|config| config.get("build").is_some_and(|build| build.get("target").is_some()))
}

/// Whether a library is linked to the standard library dynamically.
fn shares_standard_library(library: &Path) -> bool {
    std::fs::read(library).is_ok_and(|bytes| memchr::memmem::find(&bytes, b"libstd-").is_some())
}

/// Runs cargo and returns its messages.
fn run(cargo: &mut Command, report: &mut dyn FnMut(Progress)) -> Result<String, String> {
    cargo.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = cargo.spawn().map_err(|error| format!("cargo cannot be started: {error}"))?;
    let (Some(mut stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("cargo has no output".into());
    };
    let reader = std::thread::spawn(move || {
        let mut messages = String::new();
        stdout.read_to_string(&mut messages).map(|_| messages)
    });
    let mut errors = String::new();
    // A progress line ends with a carriage return.
    for part in BufReader::new(stderr).split(b'\r').map_while(Result::ok) {
        let part = String::from_utf8_lossy(&part);
        for line in part.lines() {
            match progress(line) {
                Some(progress) => report(progress),
                None => errors = errors + line + "\n",
            }
        }
    }
    let status = child.wait().map_err(|error| format!("cargo: {error}"))?;
    let messages = reader.join().map_err(|_| "cargo's output could not be read")?;
    match status.success() {
        true => messages.map_err(|error| format!("cargo: {error}")),
        false => Err(format!("cargo could not compile the prelude ({status}):\n{}", errors.trim())),
    }
}

/// Parses `Building [=====>    ] 143/227: …`.
fn progress(line: &str) -> Option<Progress> {
    let (_, rest) = line.split_once("] ").filter(|(bar, _)| bar.contains('['))?;
    let (done, all) = rest.split(':').next()?.trim().split_once('/')?;
    Some(Progress { done: done.parse().ok()?, all: all.parse().ok()? })
}

/// Progress text for the user: `compiling the prelude: 143 of 227, about 3 min left`.
pub struct Estimate {
    begin: Instant,
    last: Option<Progress>,
}

impl Estimate {
    pub fn new() -> Estimate {
        Estimate { begin: Instant::now(), last: None }
    }

    /// Returns a new text, if the progress has changed.
    pub fn line(&mut self, progress: Progress) -> Option<String> {
        if self.last.replace(progress) == Some(progress) {
            return None;
        }
        let Progress { done, all } = progress;
        let seconds = self.begin.elapsed().as_secs_f64();
        // The estimate starts late, because the large crates come last.
        let left = seconds / done.max(1) as f64 * all.saturating_sub(done) as f64;
        let left = match done * 10 > all {
            true => format!(", about {} min left", (left / 60.0).ceil().max(1.0)),
            false => String::new(),
        };
        Some(format!("compiling the prelude: {done} of {all}{left}"))
    }
}

/// Copies the libraries of some packages, compiled now or earlier, to a folder.
fn collect(messages: &str, packages: &BTreeSet<&str>, deps: &Path) -> Result<(), String> {
    std::fs::create_dir_all(deps).map_err(|error| format!("{}: {error}", deps.display()))?;
    let artifacts = artifacts(messages, packages);
    // Metadata is enough for rustc; the code is in the prelude.
    let has_metadata = |file: &PathBuf| {
        file.extension().is_some_and(|e| e == "rlib") && artifacts.contains(&file.with_extension("rmeta"))
    };
    for file in artifacts.iter().filter(|file| !has_metadata(file)) {
        let name = file.file_name().unwrap_or_default();
        let target = deps.join(name);
        // The prelude itself is copied, because the next build overwrites it. The other files never change.
        let own = name.to_string_lossy() == library_file();
        let linked = !own && std::fs::hard_link(file, &target).is_ok();
        if !linked {
            std::fs::copy(file, &target)
                .map_err(|error| format!("{} to {}: {error}", file.display(), target.display()))?;
        }
    }
    let links = deps.join(LINKS);
    std::fs::write(&links, linked_paths(messages).into_iter().collect::<Vec<_>>().join("\n"))
        .map_err(|error| format!("{}: {error}", links.display()))?;
    match deps.join(library_file()).is_file() {
        true => Ok(()),
        false => Err(format!("cargo did not build {}", library_file())),
    }
}

/// Libraries of some packages in cargo's messages, compiled now or earlier.
fn artifacts(messages: &str, packages: &BTreeSet<&str>) -> BTreeSet<PathBuf> {
    let is_library = |path: &PathBuf| {
        path.extension().is_some_and(|e| ["rlib", "rmeta", "so", "dylib"].iter().any(|known| e == *known))
    };
    let of_packages = with_reason(messages, "compiler-artifact")
        .filter(|message| message["package_id"].as_str().is_some_and(|id| packages.contains(id)));
    of_packages
        .flat_map(|message| texts(&message["filenames"]))
        .map(PathBuf::from)
        .filter(is_library)
        .collect()
}

/// Library folders that build scripts report, each with its kind: `native=/usr/local/cuda/lib64`.
fn linked_paths(messages: &str) -> BTreeSet<String> {
    with_reason(messages, "build-script-executed")
        .flat_map(|message| texts(&message["linked_paths"]))
        .collect()
}

fn with_reason(messages: &str, reason: &str) -> impl Iterator<Item = Value> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages.filter(move |message| message["reason"] == reason)
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_parsed_from_cargos_bar() {
        let line = "    Building [=======>                 ] 143/227: candle-core, image";
        assert_eq!(progress(line), Some(Progress { done: 143, all: 227 }));
        assert_eq!(progress("   Compiling headstart v0.1.0 (/a/[b] 1/2)"), None);
        assert_eq!(progress("warning: [x] unused"), None);
        let mut estimate = Estimate::new();
        let line = estimate.line(Progress { done: 143, all: 227 }).unwrap();
        assert_eq!(line, "compiling the prelude: 143 of 227, about 1 min left");
        assert_eq!(estimate.line(Progress { done: 143, all: 227 }), None);
    }

    /// Cargo's progress bar is not a stable interface, so this test must detect a change.
    #[test]
    fn this_cargo_prints_a_progress_bar() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("src")).unwrap();
        std::fs::write(folder.path().join("src/lib.rs"), "").unwrap();
        let manifest = "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";
        std::fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
        let mut cargo = Command::new("cargo");
        cargo.current_dir(folder.path()).args(["build", "--message-format", "json-render-diagnostics"]);
        cargo.envs(PROGRESS).env("CARGO_TARGET_DIR", folder.path().join("target"));
        let mut seen = Vec::new();
        let messages = run(&mut cargo, &mut |progress| seen.push(progress)).unwrap();
        assert!(messages.contains("compiler-artifact"), "{messages}");
        assert_eq!(seen.first(), Some(&Progress { done: 0, all: 1 }));
    }

    #[test]
    fn a_target_of_the_user_is_found_in_cargos_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        std::fs::create_dir_all(folder.path().join(".cargo")).unwrap();
        for (config, is_found) in [
            ("[build]\ntarget = \"x86_64-unknown-linux-musl\"\n", true),
            ("build.target = [\"wasm32-unknown-unknown\"]", true),
            ("[build]\njobs = 2\n[target.wasm32-unknown-unknown]\nrunner = \"a\"\n", false),
            ("no TOML", false),
        ] {
            assert_eq!(names_target(config), is_found, "{config}");
            std::fs::write(folder.path().join(".cargo/config.toml"), config).unwrap();
            assert!(has_target(&inner) || !is_found, "{config}");
        }
    }

    #[test]
    fn a_failed_build_quotes_cargos_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut cargo = Command::new("cargo");
        cargo.current_dir(folder.path()).arg("build").envs(PROGRESS);
        let problem = run(&mut cargo, &mut |_| {}).unwrap_err();
        assert!(problem.contains("could not find `Cargo.toml`"), "{problem}");
    }
}
