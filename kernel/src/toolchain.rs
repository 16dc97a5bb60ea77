//! The compiler that cells are compiled with, and its library's sources.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The compiler's full version, `rustc -vV`, or what went wrong.
pub fn rustc_version() -> Result<String, String> {
    static VERSION: OnceLock<Result<String, String>> = OnceLock::new();
    VERSION.get_or_init(|| output(Command::new("rustc").arg("-vV"))).clone()
}

/// The compiler's version number, for a client that asks.
pub fn release() -> String {
    let version = rustc_version().unwrap_or_default();
    let release = version.lines().find_map(|line| line.strip_prefix("release: "));
    release.unwrap_or("unknown").to_owned()
}

/// Holds this process and its children to one toolchain, whatever folder a notebook lies in.
///
/// Call it before any thread is started.
pub fn pin() {
    if std::env::var_os("RUSTUP_TOOLCHAIN").is_some() {
        return;
    }
    let mut command = Command::new("rustup");
    command.args(["show", "active-toolchain"]);
    if let Some(source) = crate::template::source() {
        command.current_dir(source);
    }
    if let Ok(text) = output(&mut command)
        && let Some(name) = text.split_whitespace().next()
    {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("RUSTUP_TOOLCHAIN", name) };
    }
}

/// The standard library's sources, which rust-analyzer reads to know the types of variables.
pub fn library_sources() -> Option<PathBuf> {
    let set = std::env::var_os("RUST_SRC_PATH").map(PathBuf::from);
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"])).ok();
    let component = sysroot.map(|root| PathBuf::from(root.trim()).join("lib/rustlib/src/rust/library"));
    // Where Debian's packages rust-src and rust-web-src put them.
    let system = PathBuf::from("/usr/lib/rustlib/src/rust/library");
    [set, component, Some(system)].into_iter().flatten().find(|path| path.join("core").is_dir())
}

/// Fetches the sources if they are missing.
pub fn ensure_library_sources() -> Result<(), String> {
    if library_sources().is_some() {
        return Ok(());
    }
    let fetched = output(Command::new("rustup").args(["component", "add", "rust-src"]));
    fetched.map(drop).map_err(|problem| {
        format!(
            "the standard library's sources, by which the types of variables are known, are missing: {problem}\n\
             hint: rustup component add rust-src; on Debian without a network for rustup, apt install rust-src"
        )
    })
}

/// A search path for libraries with the folder of the standard library's dylib before the rest.
///
/// evcxr loads a cell from the folder above the one in which rustc linked it, so that the relative
/// path by which rustc let it find the standard library can lead elsewhere.
pub fn with_standard_library(path: Option<OsString>) -> Option<OsString> {
    let folder = output(Command::new("rustc").args(["--print", "target-libdir"])).ok()?;
    let rest = path.iter().flat_map(std::env::split_paths).collect::<Vec<_>>();
    std::env::join_paths(std::iter::once(PathBuf::from(folder.trim())).chain(rest)).ok()
}

/// Standard output of a command that succeeded, or what it said.
pub fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program} cannot be started: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}
