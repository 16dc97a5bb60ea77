//! List of a template's files, which is written last: a folder without it is not a template.
//!
//! Each start compares the sizes, which detects truncated and deleted files, and costs about two hundred
//! `stat` calls. Contents are compared when an archive is unpacked and by `headstart doctor`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// File name of the list.
pub const INVENTORY: &str = "inventory";
/// Size of one read, in bytes.
const CHUNK: usize = 1 << 20;

/// Lists every file of a folder, one per line: size, SHA-256 and path.
pub fn write(folder: &Path) -> io::Result<()> {
    let mut lines = Vec::new();
    list(folder, folder, &mut lines)?;
    lines.sort_unstable();
    fs::write(folder.join(INVENTORY), lines.concat())
}

fn list(root: &Path, folder: &Path, lines: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(root, &path, lines)?;
        } else {
            let name = path.strip_prefix(root).unwrap_or(&path).display();
            lines.push(format!("{} {} {name}\n", fs::metadata(&path)?.len(), hash(&path)?));
        }
    }
    Ok(())
}

fn hash(path: &Path) -> io::Result<String> {
    let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            length => hasher.update(&chunk[..length]),
        }
    }
}

/// Checks that a folder has all its files with the right sizes. The error names a missing or damaged file.
pub fn check_sizes(folder: &Path) -> Result<(), String> {
    check(folder, |path, size, _| fs::metadata(path).map(|file| file.len() == size))
}

/// Checks that a folder has all its files with the right contents. The error names a missing or damaged
/// file.
pub fn check_contents(folder: &Path) -> Result<(), String> {
    check(folder, |path, _, expected| hash(path).map(|found| found == expected))
}

fn check(folder: &Path, fits: impl Fn(&Path, u64, &str) -> io::Result<bool>) -> Result<(), String> {
    let inventory = folder.join(INVENTORY);
    let text = fs::read_to_string(&inventory).map_err(|error| format!("{}: {error}", inventory.display()))?;
    for line in text.lines() {
        let mut parts = line.splitn(3, ' ');
        let (Some(Ok(size)), Some(hash), Some(name)) =
            (parts.next().map(str::parse), parts.next(), parts.next())
        else {
            return Err(format!("{} is damaged: {line:?}", inventory.display()));
        };
        let path = folder.join(name);
        match fits(&path, size, hash) {
            Ok(true) => {}
            Ok(false) => return Err(format!("{} is damaged", path.display())),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
    match text.ends_with('\n') {
        true => Ok(()),
        false => Err(format!("{} is cut short", inventory.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_folders_are_detected() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deps")).unwrap();
        let file = folder.path().join("deps/a b.so");
        assert!(check_sizes(folder.path()).is_err(), "there is no inventory");
        fs::write(&file, "content").unwrap();
        write(folder.path()).unwrap();
        assert_eq!((check_sizes(folder.path()), check_contents(folder.path())), (Ok(()), Ok(())));
        fs::write(&file, "CONTENT").unwrap();
        assert_eq!(check_sizes(folder.path()), Ok(()));
        assert_eq!(check_contents(folder.path()), Err(format!("{} is damaged", file.display())));
        fs::write(&file, "cont").unwrap();
        assert!(check_sizes(folder.path()).is_err());
        fs::remove_file(&file).unwrap();
        assert!(check_sizes(folder.path()).is_err());
        fs::write(folder.path().join(INVENTORY), "").unwrap();
        assert!(check_sizes(folder.path()).is_err(), "half-written");
    }
}
