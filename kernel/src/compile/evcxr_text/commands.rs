//! evcxr's commands, in lines of a cell that begin with a colon.

/// Ends the kernel. evcxr would end the process at once, without an answer to the cell.
pub const QUIT: &str = ":quit";
/// Forgets every variable, item and dependency.
pub const CLEAR: &str = ":clear";
/// Starts the cells' process again.
pub const RESTART: &str = ":restart";
/// Switches the times of a cell's phases on or off.
pub const TIMING: &str = ":timing";
/// Sets the format of values without a display of their own.
pub const FORMAT: &str = ":fmt ";
/// Adds a dependency.
pub const DEPENDENCY: &str = ":dep ";
/// Sets a variable for cargo, `NAME=value`.
pub const BUILD_VARIABLE: &str = ":build_env ";
/// Loads the crates and the code of the user's configuration of evcxr.
pub const LOAD_CONFIG: &str = ":load_config --quiet";
/// Lets sccache compile cells, in place of the program that the kernel sets as `RUSTC_WRAPPER`.
pub const SCCACHE: &str = ":sccache";

/// What evcxr calls the last phase of a cell; the phases before it are tries to compile.
pub const EXECUTION_PHASE: &str = "Execution";

/// Whether a line of a cell is a command, such as `:vars`.
pub fn is_command(line: &str) -> bool {
    line.strip_prefix(':').is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
}

/// Whether a cell has a line that is this command alone.
pub fn has(cell: &str, command: &str) -> bool {
    cell.lines().any(|line| line.trim() == command)
}
