//! The `headstart install` command: registers the kernel with Jupyter.

use std::path::{Path, PathBuf};

use jupyter_zmq_client::dirs::{data_dirs, user_data_dir};
use serde_json::json;

use crate::prelude::backend::Backend;
use crate::prelude::toolchain::on_path;

const SPECIFICATION: &str = "kernel.json";
const LOGO: &str = include_str!("logo.svg");

/// Writes the kernelspec of this program and returns its folder.
///
/// Without a prefix, the folder is the user's, where every Jupyter finds it. With a prefix, only the
/// Jupyter of that environment finds it.
pub fn install(prefix: Option<&Path>, backend: Backend) -> Result<PathBuf, String> {
    let data = data(prefix)?;
    let program =
        std::env::current_exe().map_err(|error| format!("this program's path is not known: {error}"))?;
    let program = program.to_string_lossy().into_owned();
    let mut command = vec![program, "kernel".into(), "-f".into(), "{connection_file}".into()];
    command.extend(backend.feature().map(|feature| format!("--{feature}")));
    let specification = json!({
        "argv": command,
        "display_name": backend.display_name(),
        "language": "rust",
        "interrupt_mode": "message",
        // For the variables pane.
        "metadata": {"debugger": true},
    });
    let folder = data.join("kernels").join(backend.kernel_name());
    let text = serde_json::to_string_pretty(&specification).map_err(|error| error.to_string())? + "\n";
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(folder.join(SPECIFICATION), text))
        .and_then(|()| std::fs::write(folder.join("logo-svg.svg"), LOGO))
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// The installed kernelspec's folder, and the program that it starts.
pub fn installed(backend: Backend) -> Option<(PathBuf, PathBuf)> {
    let data = user_data().into_iter().chain(data_dirs()).chain(own_data());
    data.map(|data| data.join("kernels").join(backend.kernel_name()))
        .find_map(|folder| Some((folder.clone(), program(&folder)?)))
}

/// The program that the kernelspec in a folder starts.
fn program(folder: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(folder.join(SPECIFICATION)).ok()?;
    let specification: serde_json::Value = serde_json::from_str(&text).ok()?;
    // A wheel's kernelspec gives the program relative to its own folder.
    let named = specification["argv"][0].as_str()?.replace("{resource_dir}", &folder.to_string_lossy());
    match named.contains('/') {
        true => Some(named.into()),
        false => Some(on_path(&named).unwrap_or_else(|| named.into())),
    }
}

/// Jupyter's data folder in the environment that this program is installed in, if it exists.
pub fn own_data() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    Some(program.parent()?.parent()?.join("share/jupyter")).filter(|data| data.is_dir())
}

/// Removes the kernelspecs from the user's folder or an environment's. Returns the folders that it removed.
pub fn uninstall(prefix: Option<&Path>) -> Result<Vec<PathBuf>, String> {
    let kernels = data(prefix)?.join("kernels");
    let mut removed = Vec::new();
    for backend in Backend::ALL {
        let folder = kernels.join(backend.kernel_name());
        if folder.join(SPECIFICATION).is_file() {
            std::fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            removed.push(folder);
        }
    }
    Ok(removed)
}

fn data(prefix: Option<&Path>) -> Result<PathBuf, String> {
    match prefix {
        Some(prefix) => Ok(prefix.join("share/jupyter")),
        None => user_data(),
    }
}

/// The user's Jupyter data folder, or the folder in `JUPYTER_DATA_DIR`.
pub fn user_data() -> Result<PathBuf, String> {
    match std::env::var_os("JUPYTER_DATA_DIR") {
        Some(folder) => Ok(folder.into()),
        None => user_data_dir().map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_of_two_backends_are_installed_together() {
        let prefix = tempfile::tempdir().unwrap();
        for (backend, name, shown) in [
            (Backend::default(), "headstart", "Headstart (Rust)"),
            (Backend::CUDA, "headstart-cuda", "Headstart (Rust, CUDA)"),
        ] {
            let folder = install(Some(prefix.path()), backend).unwrap();
            assert_eq!(folder.file_name().unwrap(), name);
            let text = std::fs::read_to_string(folder.join(SPECIFICATION)).unwrap();
            let specification: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(specification["display_name"], shown);
            assert_eq!(specification["argv"][4].as_str(), backend.feature().map(|_| "--cuda"));
        }
        assert_eq!(uninstall(Some(prefix.path())).unwrap().len(), 2);
        assert!(uninstall(Some(prefix.path())).unwrap().is_empty());
    }

    #[test]
    fn a_wheels_program_is_found_from_its_kernelspec() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"argv": ["{resource_dir}/../../../../bin/headstart", "kernel"]}"#;
        std::fs::write(folder.path().join(SPECIFICATION), text).unwrap();
        let expected = folder.path().join("../../../../bin/headstart");
        assert_eq!(program(folder.path()), Some(expected));
    }
}
