//! Reading and writing of notebook files.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Maximum number of links that lead to a file, as in Linux.
const MAX_LINKS: usize = 40;

/// Reads a notebook file.
pub fn read_notebook(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let notebook: Value = serde_json::from_str(&text)
        .map_err(|error| format!("{} is not a notebook: {error}", path.display()))?;
    match notebook["nbformat"].as_u64() {
        Some(4) => match other_language(&notebook) {
            None => Ok(notebook),
            Some(language) => {
                Err(format!("{}: expected a notebook in Rust, found one in {language}", path.display()))
            }
        },
        _ => {
            let found = &notebook["nbformat"];
            Err(format!("{}: expected a notebook of format 4, found {found}", path.display()))
        }
    }
}

/// The language of a notebook, if it is not Rust. A notebook without a kernel has none.
fn other_language(notebook: &Value) -> Option<&str> {
    let metadata = &notebook["metadata"];
    let named = [&metadata["kernelspec"]["language"], &metadata["language_info"]["name"]];
    let language = named.into_iter().find_map(Value::as_str)?;
    (!language.is_empty() && !language.eq_ignore_ascii_case("rust")).then_some(language)
}

/// Whether the cell has the tag `skip-execution`: nbclient does not run it either, and its outputs stay.
pub fn is_skipped(cell: &Value) -> bool {
    has_tag(cell, "skip-execution")
}

/// Whether the cell has the tag for an expected error, `raises-exception`, which nbclient also uses.
pub fn is_meant_to_fail(cell: &Value) -> bool {
    has_tag(cell, "raises-exception")
}

/// Whether a cell's metadata has the tag.
pub fn has_tag(cell: &Value, tag: &str) -> bool {
    cell["metadata"]["tags"].as_array().is_some_and(|tags| tags.iter().any(|found| found == tag))
}

/// The source of a cell, which may be one string or a list of lines.
pub fn joined(source: &Value) -> String {
    match source {
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

/// Formats a notebook as Jupyter does: indented by one space.
pub fn to_text(notebook: &Value) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde::Serialize::serialize(notebook, &mut serializer).expect("a JSON value is written");
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// Error if a file cannot be written, before hours of work for it.
pub fn check_writable(path: &Path) -> Result<(), String> {
    let complain = |error: io::Error| format!("{} cannot be written: {error}", path.display());
    let target = target(path);
    match target.metadata() {
        Ok(known) if known.is_dir() => Err(format!("{}: expected a file, found a folder", path.display())),
        // A device or a pipe.
        Ok(known) if !known.is_file() => Ok(()),
        Ok(_) => OpenOptions::new().write(true).open(&target).map(drop).map_err(complain),
        Err(_) => Ok(()),
    }?;
    if is_replaced(&target) {
        tempfile::tempfile_in(folder_of(&target)).map(drop).map_err(complain)
    } else {
        Ok(())
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The file to which links lead.
fn target(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(link) = target.read_link() else { break };
        target = folder_of(&target).join(link);
    }
    target
}

/// Whether a file is replaced by another: not a device, a pipe, or a file with several names.
fn is_replaced(target: &Path) -> bool {
    target.metadata().is_ok_and(|known| known.is_file() && known.nlink() == 1) || !target.exists()
}

/// Writes a file under a temporary name and renames it when it is complete. The file keeps its permissions, and a link
/// leads to it as before. Devices, pipes and files with several names are written directly.
pub fn write_whole(path: &Path, text: impl AsRef<[u8]>) -> Result<(), String> {
    let target = target(path);
    let written = match is_replaced(&target) {
        true => replace(&target, text.as_ref()),
        false => std::fs::write(&target, text),
    };
    written.map_err(|error| format!("{}: {error}", path.display()))
}

fn replace(target: &Path, text: &[u8]) -> io::Result<()> {
    let known = target.metadata().ok();
    let mut part = tempfile::Builder::new();
    // The user's umask applies to a new file.
    part.permissions(Permissions::from_mode(0o666));
    let mut part = part.tempfile_in(folder_of(target))?;
    part.write_all(text)?;
    if let Some(known) = known {
        // Only a member of the group may set it.
        let _ = chown(part.path(), None, Some(known.gid()));
        part.as_file().set_permissions(known.permissions())?;
    }
    part.persist(target).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_permissions_and_links() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link, other, new] = ["file", "link", "other", "new"].map(|name| folder.path().join(name));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        check_writable(&link).unwrap();
        write_whole(&link, "new").unwrap();
        assert_eq!(link.read_link().unwrap(), Path::new("file"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        std::fs::hard_link(&file, &other).unwrap();
        write_whole(&file, "both").unwrap();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "both");
        // A link to a file that does not exist yet.
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("new", &link).unwrap();
        write_whole(&link, "made").unwrap();
        assert_eq!(std::fs::read_to_string(&new).unwrap(), "made");
    }

    #[test]
    fn only_a_notebook_in_another_language_is_refused() {
        let found =
            |metadata: Value| other_language(&serde_json::json!({"metadata": metadata})).map(str::to_owned);
        assert_eq!(found(serde_json::json!({"kernelspec": {"language": "python"}})), Some("python".into()));
        assert_eq!(found(serde_json::json!({"language_info": {"name": "julia"}})), Some("julia".into()));
        for rust in [
            serde_json::json!({}),
            serde_json::json!({"kernelspec": {"name": "headstart"}, "language_info": {"name": "Rust"}}),
            serde_json::json!({"kernelspec": {"language": "rust"}}),
        ] {
            assert_eq!(found(rust), None);
        }
    }

    #[test]
    fn a_device_is_written_and_not_replaced() {
        check_writable(Path::new("/dev/null")).unwrap();
        write_whole(Path::new("/dev/null"), "text").unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
        assert!(!is_replaced(Path::new("/dev/null")));
    }
}
