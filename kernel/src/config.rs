//! evcxr's own configuration: `evcxr.toml` beside the notebook or in the user's folder, `init.evcxr` and `prelude.rs`
//! there.
//!
//! evcxr reads the settings when it starts; the crates and the code are loaded with the first cell.

use std::fs;
use std::path::PathBuf;

/// The command of evcxr that loads the crates and the code.
pub const COMMAND: &str = ":load_config --quiet";

/// The files that evcxr finds.
pub fn files() -> Vec<PathBuf> {
    let here = std::env::current_dir().ok().map(|folder| folder.join("evcxr.toml"));
    let users = evcxr::config_dir()
        .into_iter()
        .flat_map(|folder| ["evcxr.toml", "init.evcxr", "prelude.rs"].map(|name| folder.join(name)));
    here.into_iter().chain(users).filter(|file| file.is_file()).collect()
}

/// Refuses the setting that this kernel cannot honour.
pub fn check(files: &[PathBuf]) -> Result<(), String> {
    // evcxr reads the first alone.
    let Some(settings) = files.iter().find(|file| file.ends_with("evcxr.toml")) else { return Ok(()) };
    let text = fs::read_to_string(settings).map_err(|error| format!("{}: {error}", settings.display()))?;
    let is_tmpdir = |line: &str| line.split_once('=').is_some_and(|(name, _)| name.trim() == "tmpdir");
    match text.lines().any(is_tmpdir) {
        true => Err(format!(
            "{}: expected no `tmpdir`, found one: each Headstart kernel compiles in a folder of its own\n\
             hint: remove the line, and restart the kernel",
            settings.display()
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_for_all_kernels_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("evcxr.toml");
        fs::write(&file, "[evcxr]\n# tmpdir is not set\nopt_level = \"1\"\n").unwrap();
        assert_eq!(check(std::slice::from_ref(&file)), Ok(()));
        fs::write(&file, "[evcxr]\ntmpdir = \"/tmp/a\"\n").unwrap();
        assert!(check(&[file]).unwrap_err().contains("hint: remove the line"));
        assert_eq!(check(&[]), Ok(()));
    }
}
