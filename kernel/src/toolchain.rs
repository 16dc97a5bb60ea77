//! The compiler that cells are compiled with, and its library's sources.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

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

/// The compiler's full version, `rustc -vV`, or what went wrong.
pub fn rustc_version() -> Result<String, String> {
    Compiler::get().version.clone()
}

/// The compiler's version number, for a client that asks.
pub fn release() -> String {
    let version = rustc_version().unwrap_or_default();
    let release = version.lines().find_map(|line| line.strip_prefix("release: "));
    release.unwrap_or("unknown").to_owned()
}

/// Holds this process and its children to one toolchain, whatever folder a notebook lies in, and
/// lets them find its programs without asking rustup each time.
///
/// Call it before any thread is started.
pub fn pin() {
    set_sources();
    // At the same time.
    let [rustc, toolchain] = [&["which", "rustc"], &["show", "active-toolchain"]]
        .map(|asked| ask_rustup(Command::new("rustup"), asked));
    let programs =
        rustc.and_then(Begun::output).ok().and_then(|path| Some(Path::new(path.trim()).parent()?.to_owned()));
    let toolchain = toolchain.and_then(Begun::output).ok();
    let name = toolchain.as_deref().and_then(|text| text.split_whitespace().next());
    // SAFETY: no other thread runs yet.
    unsafe {
        if let (Some(name), None) = (name, std::env::var_os("RUSTUP_TOOLCHAIN")) {
            std::env::set_var("RUSTUP_TOOLCHAIN", name);
        }
        if let Some(programs) = programs {
            // Where rust-analyzer looks first.
            std::env::set_var("CARGO", programs.join("cargo"));
            if let Some(path) = before(programs, std::env::var_os("PATH")) {
                std::env::set_var("PATH", path);
            }
        }
    }
}

fn ask_rustup(mut rustup: Command, asked: &[&str]) -> Result<Begun, String> {
    rustup.args(asked);
    if let Some(source) = crate::template::source() {
        rustup.current_dir(source);
    }
    begin(&mut rustup)
}

/// The compiler that rustup would choose, or that is on the `PATH`.
pub fn which_rustc(rustup: Command) -> Option<PathBuf> {
    let said = ask_rustup(rustup, &["which", "rustc"]).and_then(Begun::output);
    said.map(|path| path.trim().into()).ok().or_else(|| on_path("rustc"))
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
