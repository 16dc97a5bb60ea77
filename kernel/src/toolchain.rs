//! The compiler that cells are compiled with, and its library's sources.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::sources;

/// By which rust-analyzer is told where the standard library's sources are.
pub const SOURCES_VARIABLE: &str = "RUST_SRC_PATH";
/// Whether rustc links by an lld that it brings.
pub const HAS_LINKER: bool = cfg!(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"));

/// What the compiler says of itself.
struct Compiler {
    version: Result<String, String>,
    /// Its own folder, and that of its libraries.
    folders: Option<(PathBuf, PathBuf)>,
}

impl Compiler {
    fn get() -> &'static Compiler {
        static COMPILER: OnceLock<Compiler> = OnceLock::new();
        COMPILER.get_or_init(|| {
            let ask = |arguments: &[&str]| begin(Command::new("rustc").args(arguments));
            // At the same time.
            let [version, folders] =
                [ask(&["-vV"]), ask(&["--print", "sysroot", "--print", "target-libdir"])];
            let folders = folders.and_then(Begun::output).ok().and_then(|text| {
                let (sysroot, libraries) = text.trim().split_once('\n')?;
                Some((sysroot.into(), libraries.into()))
            });
            Compiler { version: version.and_then(Begun::output), folders }
        })
    }
}

/// The compiler's full version, `rustc -vV`; an error says how to install it.
pub fn rustc_version() -> Result<String, String> {
    let version = Compiler::get().version.clone();
    version.map_err(|problem| {
        format!("Rust cannot be used: {problem}\nhint: {}; then restart the kernel", install_command())
    })
}

/// The command that installs the version of Rust that this program was made for.
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

/// Installs that version by rustup where there is rustup but no Rust. Its progress is shown.
pub fn ensure_installed() {
    let has_rustc = output(Command::new("rustc").arg("--version")).is_ok();
    if !has_rustc && on_path("rustup").is_some() {
        // What goes wrong is said, and again where Rust is used.
        let _ = Command::new("rustup")
            .args(["toolchain", "install", sources::pinned_rust(), "--profile", "minimal"])
            .status();
    }
}

/// The compiler's version number, for a client that asks.
pub fn release() -> String {
    let version = rustc_version().unwrap_or_default();
    let release = version.lines().find_map(|line| line.strip_prefix("release: "));
    release.unwrap_or("unknown").to_owned()
}

/// Holds this process and its children to one toolchain, whatever folder a notebook lies in, and
/// lets them find its programs without asking rustup each time: `RUSTUP_TOOLCHAIN`, the version that this
/// program was made for if it is installed, or the user's default.
///
/// Call it before any thread is started.
pub fn pin() {
    set_sources();
    // At the same time.
    let [pinned, default, active] = [
        &["which", "rustc", "--toolchain", sources::pinned_rust()][..],
        &["which", "rustc"],
        &["show", "active-toolchain"],
    ]
    .map(|asked| ask_rustup(Command::new("rustup"), asked));
    let path = |begun: Result<Begun, String>| Some(PathBuf::from(begun.ok()?.output().ok()?.trim()));
    let is_set = std::env::var_os("RUSTUP_TOOLCHAIN").is_some();
    let active = active.and_then(Begun::output).unwrap_or_default();
    let (rustc, name) = match path(pinned).filter(|_| !is_set) {
        Some(rustc) => (Some(rustc), Some(sources::pinned_rust())),
        None => (path(default), active.split_whitespace().next()),
    };
    // SAFETY: no other thread runs yet.
    unsafe {
        if let (Some(name), false) = (name, is_set) {
            std::env::set_var("RUSTUP_TOOLCHAIN", name);
        }
        if let Some(programs) = rustc.as_deref().and_then(Path::parent) {
            // Where rust-analyzer looks first.
            std::env::set_var("CARGO", programs.join("cargo"));
            if let Some(path) = before(programs.to_owned(), std::env::var_os("PATH")) {
                std::env::set_var("PATH", path);
            }
        }
    }
}

fn ask_rustup(mut rustup: Command, asked: &[&str]) -> Result<Begun, String> {
    begin(rustup.args(asked))
}

/// The compiler that [`pin`] would choose with the environment of `rustup`, or that is on the `PATH`.
pub fn which_rustc(rustup: impl Fn() -> Command) -> Option<PathBuf> {
    let ask = |asked: &[&str]| ask_rustup(rustup(), asked).and_then(Begun::output);
    let is_set = rustup().get_envs().any(|(name, _)| name == "RUSTUP_TOOLCHAIN");
    let pinned = ["which", "rustc", "--toolchain", sources::pinned_rust()];
    let found = match is_set {
        true => ask(&["which", "rustc"]),
        false => ask(&pinned).or_else(|_| ask(&["which", "rustc"])),
    };
    found.map(|path| path.trim().into()).ok().or_else(|| on_path("rustc"))
}

/// The standard library's sources, which rust-analyzer reads to know the types of variables.
pub fn library_sources() -> Option<PathBuf> {
    let set = set_sources().map(PathBuf::from);
    let component =
        Compiler::get().folders.as_ref().map(|(sysroot, _)| sysroot.join("lib/rustlib/src/rust/library"));
    // Where Debian's packages rust-src and rust-web-src put them.
    let system = PathBuf::from("/usr/lib/rustlib/src/rust/library");
    [set, component, Some(system)].into_iter().flatten().find(|path| path.join("core").is_dir())
}

/// What the user set, whatever the engine sets for rust-analyzer later.
fn set_sources() -> Option<OsString> {
    static SET: OnceLock<Option<OsString>> = OnceLock::new();
    SET.get_or_init(|| std::env::var_os(SOURCES_VARIABLE)).clone()
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
    before(Compiler::get().folders.as_ref()?.1.clone(), path)
}

/// A search path with one folder more, before the others.
pub fn before(folder: PathBuf, path: Option<OsString>) -> Option<OsString> {
    let rest: Vec<PathBuf> = path.iter().flat_map(std::env::split_paths).collect();
    std::env::join_paths(std::iter::once(folder).chain(rest)).ok()
}

/// A program in a folder of `PATH`.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Standard output of a command that succeeded, or what it said.
pub fn output(command: &mut Command) -> Result<String, String> {
    begin(command)?.output()
}

/// A command that runs.
struct Begun {
    program: String,
    child: Child,
}

fn begin(command: &mut Command) -> Result<Begun, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match command.spawn() {
        Ok(child) => Ok(Begun { program, child }),
        Err(error) => Err(format!("{program} cannot be started: {error}")),
    }
}

impl Begun {
    /// Waits for its end.
    fn output(self) -> Result<String, String> {
        let Begun { program, child } = self;
        let output = child.wait_with_output().map_err(|error| format!("{program}: {error}"))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim())),
        }
    }
}
