//! evcxr's commands: lines of a cell that begin with a colon.

/// Ends the kernel. evcxr would end the process immediately, without a reply for the cell.
pub const QUIT: &str = ":quit";
/// Deletes every variable, item and dependency.
pub const CLEAR: &str = ":clear";
/// Restarts the cells' process.
pub const RESTART: &str = ":restart";
/// Switches the report of a cell's phase times on or off.
pub const TIMING: &str = ":timing";
/// Sets the format of values without their own display.
pub const FORMAT: &str = ":fmt";
/// Adds a dependency.
pub const DEPENDENCY: &str = ":dep ";
/// tokio's feature that selects almost all others, as TOML writes a string.
pub const TOKIO_FULL: [&str; 2] = ["\"full\"", "'full'"];
/// The features of [`TOKIO_FULL`] without `parking_lot`. Each cell contains a copy of tokio, and threads that
/// wait in one copy of `parking_lot` are never woken by another.
pub const TOKIO_FEATURES: &str = "\"fs\", \"io-util\", \"io-std\", \"macros\", \"net\", \"process\", \"rt\", \
     \"rt-multi-thread\", \"signal\", \"sync\", \"time\"";
/// Sets an environment variable for cargo, `NAME=value`.
pub const BUILD_VARIABLE: &str = ":build_env ";
/// Loads the crates and the code of the user's evcxr configuration.
pub const LOAD_CONFIG: &str = ":load_config --quiet";
/// Compiles cells with sccache, in place of the program that the kernel sets as `RUSTC_WRAPPER`.
pub const SCCACHE: &str = ":sccache";
/// Keeps libraries of dependencies in evcxr's own cache, which has another `RUSTC_WRAPPER`.
pub const CACHE: &str = ":cache";
/// With `0`, compiles all dependencies as dynamic libraries, with another `RUSTC_WRAPPER`.
pub const ALLOW_STATIC_LINKING: &str = ":allow_static_linking";
/// Selects a toolchain of rustup.
pub const TOOLCHAIN: &str = ":toolchain";

/// evcxr's name for the last phase of a cell. The phases before it are attempts to compile.
pub const EXECUTION_PHASE: &str = "Execution";

/// Whether a line of a cell is a command, such as `:vars`.
pub fn is_command(line: &str) -> bool {
    line.strip_prefix(':').is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
}
