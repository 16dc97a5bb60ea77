//! The Rust toolchain that compiles cells, and the standard library's sources.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::prelude::sources;

/// Environment variable with the folder of the standard library's sources, for rust-analyzer.
pub const SOURCES_VARIABLE: &str = "RUST_SRC_PATH";
/// Whether rustc comes with its own lld.
pub const HAS_LINKER: bool = cfg!(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"));

/// Version and folders of the compiler.
struct Compiler {
    version: Result<String, String>,
    /// The compiler's folder, and the folder of its libraries.
    folders: Option<(PathBuf, PathBuf)>,
}

/// The compiler, after it has been queried.
static COMPILER: Mutex<Option<&Compiler>> = Mutex::new(None);

impl Compiler {
    fn get() -> &'static Compiler {
        let mut known = COMPILER.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert_with(|| Box::leak(Box::new(Compiler::ask())))
    }

    fn ask() -> Compiler {
        let ask = |arguments: &[&str]| start(Command::new("rustc").args(arguments));
        // Both commands run in parallel.
        let [version, folders] = [ask(&["-vV"]), ask(&["--print", "sysroot", "--print", "target-libdir"])];
        let folders = folders.and_then(RunningCommand::output).ok().and_then(|text| {
            let (sysroot, libraries) = text.trim().split_once('\n')?;
            Some((sysroot.into(), libraries.into()))
        });
        Compiler { version: version.and_then(RunningCommand::output), folders }
    }
}

/// The compiler's full version, `rustc -vV`. The error message says how to install Rust.
///
/// # Errors
/// If there is no compiler, or it is too old for the prelude.
pub fn rustc_version() -> Result<String, String> {
    let version = Compiler::get().version.clone();
    version.and_then(new_enough).map_err(|problem| {
        format!("Rust cannot be used: {problem}\nhint: {}; then restart the kernel", install_command())
    })
}

/// Checks the compiler's version, `rustc -vV`, against the oldest one that compiles the prelude.
fn new_enough(version: String) -> Result<String, String> {
    let number = |text: &str| {
        let mut parts = text.split(['.', '-']).map(|part| part.parse::<u32>().ok());
        Some((parts.next()??, parts.next()??))
    };
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    let release = version.lines().find_map(|line| line.strip_prefix("release: ")).unwrap_or_default();
    match (number(release), number(oldest)) {
        (Some(found), Some(expected)) if found < expected => {
            Err(format!("expected Rust {oldest} or newer, found Rust {release}"))
        }
        _ => Ok(version),
    }
}

/// Command that installs the version of Rust that this program was built for.
pub fn install_command() -> String {
    let version = sources::pinned_rust();
    match on_path("rustup") {
        Some(_) => format!("rustup toolchain install {version} --profile minimal"),
        None => format!(
            "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | \
             sh -s -- --profile minimal --default-toolchain {version}"
        ),
    }
}

/// Whether Rust is missing and [`install`] can install it.
pub fn is_installable() -> bool {
    Compiler::get().version.is_err() && on_path("rustup").is_some()
}

/// Installs the version of Rust that this program was built for. `report` receives each line of rustup's
/// progress.
///
/// # Errors
/// If rustup fails. The error contains its last lines.
pub fn install(report: &mut dyn FnMut(&str)) -> Result<(), String> {
    let mut rustup = Command::new("rustup");
    rustup.args(["toolchain", "install", sources::pinned_rust(), "--profile", "minimal"]);
    rustup.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = rustup.spawn().map_err(|error| format!("rustup cannot be started: {error}"))?;
    let mut lines = Vec::new();
    for line in child.stderr.take().into_iter().flat_map(|stderr| BufReader::new(stderr).lines()) {
        let line = line.map_err(|error| format!("rustup: {error}"))?;
        report(line.trim_start_matches("info: "));
        lines.push(line);
    }
    let status = child.wait().map_err(|error| format!("rustup: {error}"))?;
    *COMPILER.lock().unwrap_or_else(PoisonError::into_inner) = None;
    match status.success() {
        true => Ok(()),
        false => Err(format!(
            "rustup could not install Rust {} ({status}): {}\nhint: {}; then restart the kernel",
            sources::pinned_rust(),
            lines[lines.len().saturating_sub(5)..].join("\n"),
            install_command()
        )),
    }
}

/// Version number of the compiler, for `kernel_info_reply`.
pub fn release() -> String {
    let version = rustc_version().unwrap_or_default();
    let release = version.lines().find_map(|line| line.strip_prefix("release: "));
    release.unwrap_or("unknown").to_owned()
}

/// Pins this process and its children to one toolchain, independent of a notebook's folder, and lets them
/// find its programs without a call of rustup. Uses `RUSTUP_TOOLCHAIN`, the version that this program was
/// built for if it is installed, or the user's default. If there is none, [`install`] will install it.
///
/// Must be called before any thread is started.
pub fn pin() {
    set_sources();
    let is_set = std::env::var_os("RUSTUP_TOOLCHAIN").is_some();
    let Choice { rustc, name } = choose(|| Command::new("rustup"), is_set);
    // SAFETY: no other thread runs yet.
    unsafe {
        if let (Some(name), false) = (name, is_set) {
            std::env::set_var("RUSTUP_TOOLCHAIN", name);
        }
        if let Some(programs) = rustc.as_deref().and_then(Path::parent) {
            // rust-analyzer looks there first.
            std::env::set_var("CARGO", programs.join("cargo"));
            if let Some(path) = prepend_path(programs.to_owned(), std::env::var_os("PATH")) {
                std::env::set_var("PATH", path);
            }
        }
    }
}

/// The compiler that [`pin`] would choose with the environment of `rustup`, or the one on the `PATH`.
pub fn which_rustc(rustup: impl Fn() -> Command) -> Option<PathBuf> {
    let is_set = rustup().get_envs().any(|(name, _)| name == "RUSTUP_TOOLCHAIN");
    choose(rustup, is_set).rustc.or_else(|| on_path("rustc"))
}

/// A compiler of rustup, and the name of its toolchain.
struct Choice {
    rustc: Option<PathBuf>,
    name: Option<String>,
}

/// Chooses the toolchain. `is_set`: whether `RUSTUP_TOOLCHAIN` names one.
fn choose(rustup: impl Fn() -> Command, is_set: bool) -> Choice {
    let wanted = sources::pinned_rust();
    // The commands run in parallel.
    let [pinned, default, active] =
        [&["which", "rustc", "--toolchain", wanted][..], &["which", "rustc"], &["show", "active-toolchain"]]
            .map(|arguments| start(rustup().args(arguments)));
    let has_rustup = active.is_ok();
    let path =
        |command: Result<RunningCommand, String>| Some(PathBuf::from(command.ok()?.output().ok()?.trim()));
    if let Some(rustc) = path(pinned).filter(|_| !is_set) {
        return Choice { rustc: Some(rustc), name: Some(wanted.to_owned()) };
    }
    let rustc = path(default);
    let active = active.and_then(RunningCommand::output).unwrap_or_default();
    let name = match (&rustc, has_rustup) {
        (None, true) => Some(wanted),
        _ => active.split_whitespace().next(),
    };
    let name = name.map(str::to_owned);
    Choice { rustc, name }
}

/// Folder of the standard library's sources, which rust-analyzer needs to infer types.
pub fn library_sources() -> Option<PathBuf> {
    let set = set_sources().map(PathBuf::from);
    let component =
        Compiler::get().folders.as_ref().map(|(sysroot, _)| sysroot.join("lib/rustlib/src/rust/library"));
    // Folder of Debian's packages rust-src and rust-web-src.
    let system = PathBuf::from("/usr/lib/rustlib/src/rust/library");
    [set, component, Some(system)].into_iter().flatten().find(|path| path.join("core").is_dir())
}

/// The user's value, which is recorded before the engine sets the variable for rust-analyzer.
fn set_sources() -> Option<OsString> {
    static SET: OnceLock<Option<OsString>> = OnceLock::new();
    SET.get_or_init(|| std::env::var_os(SOURCES_VARIABLE)).clone()
}

/// Installs the sources with rustup if they are missing.
pub fn ensure_library_sources() -> Result<(), String> {
    if library_sources().is_some() {
        return Ok(());
    }
    let fetched = output(Command::new("rustup").args(["component", "add", "rust-src"]));
    fetched.map(drop).map_err(|problem| {
        format!(
            "the standard library's sources, from which rust-analyzer infers types, are missing: {problem}\n\
             hint: rustup component add rust-src; on Debian without a network for rustup, apt install rust-src"
        )
    })
}

/// Adds the folder of the standard library's dylib to the front of a library search path.
///
/// rustc stores a relative path to the standard library in a cell. evcxr loads the cell from the parent of
/// the folder in which rustc linked it, where that path may be wrong.
pub fn with_standard_library(path: Option<OsString>) -> Option<OsString> {
    prepend_path(Compiler::get().folders.as_ref()?.1.clone(), path)
}

/// Adds a folder to the front of a search path.
pub fn prepend_path(folder: PathBuf, path: Option<OsString>) -> Option<OsString> {
    let rest: Vec<PathBuf> = path.iter().flat_map(std::env::split_paths).collect();
    std::env::join_paths(std::iter::once(folder).chain(rest)).ok()
}

/// Finds an executable program in the folders of `PATH`.
pub fn on_path(program: &str) -> Option<PathBuf> {
    which::which(program).ok()
}

/// Runs a command and returns its standard output. The error contains its standard error.
pub fn output(command: &mut Command) -> Result<String, String> {
    start(command)?.output()
}

/// A running command.
struct RunningCommand {
    program: String,
    child: Child,
}

fn start(command: &mut Command) -> Result<RunningCommand, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match command.spawn() {
        Ok(child) => Ok(RunningCommand { program, child }),
        Err(error) => Err(format!("{program} cannot be started: {error}")),
    }
}

impl RunningCommand {
    /// Waits for the command to end.
    fn output(self) -> Result<String, String> {
        let RunningCommand { program, child } = self;
        let output = child.wait_with_output().map_err(|error| format!("{program}: {error}"))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_compiler_is_refused() {
        let version =
            |release: &str| new_enough(format!("rustc {release}\nbinary: rustc\nrelease: {release}\n"));
        for release in [env!("CARGO_PKG_RUST_VERSION"), "1.200.0-nightly", "2.0.1"] {
            assert!(version(release).is_ok(), "{release}");
        }
        assert!(version("1.75.0").unwrap_err().contains("found Rust 1.75.0"));
        assert!(new_enough("unknown".into()).is_ok());
    }
}
