//! evcxr's own configuration: `evcxr.toml` beside the notebook or in the user's folder, and `init.evcxr`
//! and `prelude.rs` in the user's folder.
//!
//! evcxr reads the settings when it starts. The crates and the code are loaded with the first cell.

use std::fs;
use std::path::PathBuf;

/// Configuration files that evcxr finds.
pub fn files() -> Vec<PathBuf> {
    let here = std::env::current_dir().ok().map(|folder| folder.join("evcxr.toml"));
    let users = evcxr::config_dir()
        .into_iter()
        .flat_map(|folder| ["evcxr.toml", "init.evcxr", "prelude.rs"].map(|name| folder.join(name)));
    here.into_iter().chain(users).filter(|file| file.is_file()).collect()
}

/// Unsupported settings, each with the value that is allowed (empty if there is none) and the reason.
const REFUSED: [(&str, &str, &str); 4] = [
    ("tmpdir", "", "each Headstart kernel compiles in a folder of its own"),
    ("sccache", "", "Headstart compiles cells through a compile cache of its own"),
    ("allow_static_linking", "true", "Headstart compiles cells through a compile cache of its own"),
    ("preserve_vars_on_panic", "true", "in Headstart, a cell that panics keeps the variables of other cells"),
];

/// Returns an error if a setting is not supported.
pub fn check(files: &[PathBuf]) -> Result<(), String> {
    // evcxr reads only the first of these files.
    let Some(settings) = files.iter().find(|file| file.ends_with("evcxr.toml")) else { return Ok(()) };
    let text = fs::read_to_string(settings).map_err(|error| format!("{}: {error}", settings.display()))?;
    let has = |setting: &str, allowed: &str| {
        let mut values = text.lines().filter_map(|line| line.split_once('='));
        values.any(|(name, value)| {
            name.trim() == setting && value.split('#').next().is_some_and(|value| value.trim() != allowed)
        })
    };
    match REFUSED.iter().find(|(setting, allowed, _)| has(setting, allowed)) {
        Some((setting, _, reason)) => Err(format!(
            "{}: expected no `{setting}`, found one: {reason}\n\
             hint: remove the line, and restart the kernel",
            settings.display()
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_settings_are_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("evcxr.toml");
        fs::write(&file, "[evcxr]\n# tmpdir is not set\nopt_level = \"1\"\nallow_static_linking = true")
            .unwrap();
        assert_eq!(check(std::slice::from_ref(&file)), Ok(()));
        for setting in [
            "tmpdir = \"/tmp/a\"",
            "sccache = \"/usr/bin/sccache\"",
            "allow_static_linking = false",
            "preserve_vars_on_panic = false",
        ] {
            fs::write(&file, format!("[evcxr]\n{setting}\n")).unwrap();
            let problem = check(std::slice::from_ref(&file)).unwrap_err();
            assert!(problem.contains("hint: remove the line"), "{problem}");
        }
        assert_eq!(check(&[]), Ok(()));
    }
}
