//! Makes Jupyter know the kernel: `headstart install`.

use std::path::{Path, PathBuf};

use jupyter_zmq_client::dirs::{data_dirs, user_data_dir};
use serde_json::json;

use crate::backend::Backend;

const SPECIFICATION: &str = "kernel.json";
const LOGO: &str = include_str!("logo.svg");

/// Writes the kernel's specification for this program and returns where.
///
/// Without a prefix, the folder is the user's, and any Jupyter finds it; with one, only a Jupyter
/// in that environment.
pub fn install(prefix: Option<&Path>, backend: Backend) -> Result<PathBuf, String> {
    let data = match prefix {
        Some(prefix) => prefix.join("share/jupyter"),
        None => user_data()?,
    };
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
        "metadata": {"debugger": false},
    });
    let folder = data.join("kernels").join(backend.kernel_name());
    let text = serde_json::to_string_pretty(&specification).map_err(|error| error.to_string())? + "\n";
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(folder.join(SPECIFICATION), text))
        .and_then(|()| std::fs::write(folder.join("logo-svg.svg"), LOGO))
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// Where Jupyter finds the kernel, and the program that it would start.
pub fn installed(backend: Backend) -> Option<(PathBuf, PathBuf)> {
    let data = user_data().into_iter().chain(data_dirs());
    data.map(|data| data.join("kernels").join(backend.kernel_name())).find_map(|folder| {
        let text = std::fs::read_to_string(folder.join(SPECIFICATION)).ok()?;
        let specification: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some((folder, specification["argv"][0].as_str()?.into()))
    })
}

/// The user's folder of Jupyter, or the one that the environment names in its place.
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
    fn kernels_of_two_backends_stand_side_by_side() {
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
    }
}
