//! Sources that are embedded in this program: the prelude's and the lessons.
//!
//! An installed kernel compiles the prelude from these files. It uses the checkout that it was built from
//! only while that contains identical files, because cargo's results there can be reused. So a moved
//! checkout or a `git pull` does not affect an installed kernel.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::platform::cache_folder::cache_folder;
use crate::platform::process_folder::ProcessFolder;

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

const LESSONS: &str = "notebooks/";
/// Other targets in the workspace's manifests, which are not part of the prelude; cargo requires that their
/// files exist.
const STUBS: [&str; 4] =
    ["kernel/src/main.rs", "tests/library/main.rs", "tests/library/repeat.rs", "tests/bench/ops.rs"];

/// A folder with the prelude's sources.
pub struct Sources {
    pub folder: PathBuf,
    /// Whether the folder is the checkout that this program was built from.
    pub is_checkout: bool,
}

/// The checkout that this program was built from, or a folder in the cache with the embedded files.
pub fn unpacked() -> Result<Sources, String> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().filter(|checkout| is_same(checkout));
    if let Some(checkout) = checkout {
        return Ok(Sources { folder: checkout.to_owned(), is_checkout: true });
    }
    let folder = cache_folder()?.join("sources").join(ID);
    if !is_same(&folder) {
        let complain = |error: io::Error| format!("{}: {error}", folder.display());
        let part = ProcessFolder::new(&cache_folder()?.join("parts"))?;
        unpack(part.path()).map_err(complain)?;
        // An existing folder is damaged, or another process has just created it.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.with_file_name("")).map_err(complain)?;
        let moved = fs::rename(part.path(), &folder);
        moved.or_else(|error| if is_same(&folder) { Ok(()) } else { Err(complain(error)) })?;
    }
    Ok(Sources { folder, is_checkout: false })
}

/// File names and contents of the lessons.
pub fn lessons() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    FILES.iter().filter_map(|(name, content)| Some((name.strip_prefix(LESSONS)?, *content)))
}

/// Manifest of the pretrained weights.
pub fn weights_manifest() -> &'static str {
    text("weights/manifest.toml")
}

/// Table of the networks that the library builds.
pub fn models_table() -> &'static str {
    text("weights/models.toml")
}

/// Content of a text file.
fn text(wanted: &str) -> &'static str {
    let file = FILES.iter().find(|(name, _)| *name == wanted);
    file.map_or("", |(_, content)| std::str::from_utf8(content).unwrap_or_default())
}

/// Version of Rust that the prelude's archive was compiled with, and that a checkout uses.
pub fn pinned_rust() -> &'static str {
    let channel = text("rust-toolchain.toml").lines().find_map(|line| line.strip_prefix("channel = "));
    channel.unwrap_or("stable").trim_matches('"')
}

fn is_same(folder: &Path) -> bool {
    let mut prelude = FILES.iter().filter(|(name, _)| !name.starts_with(LESSONS));
    prelude.all(|(name, content)| fs::read(folder.join(name)).is_ok_and(|found| found == *content))
}

fn unpack(folder: &Path) -> io::Result<()> {
    let stubs = STUBS.iter().map(|name| (*name, b"fn main() {}\n".as_slice()));
    for (name, content) in FILES.iter().copied().chain(stubs) {
        let path = folder.join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, content)?;
    }
    Ok(())
}

/// Cargo's target folder, if this program is in its `release` folder.
pub fn own_target() -> Option<PathBuf> {
    let release = std::env::current_exe().ok()?.parent()?.to_owned();
    (release.ends_with("release") && release.join(".fingerprint").is_dir())
        .then(|| release.parent().map(Path::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prelude_and_the_lessons_are_embedded() {
        for name in ["src/prelude.rs", "Cargo.lock", "kernel/prelude/Cargo.toml", "weights/manifest.toml"] {
            assert!(FILES.iter().any(|(known, _)| *known == name), "{name}");
        }
        assert!(lessons().any(|(name, _)| name == "4_the_program.ipynb"));
        assert!(pinned_rust().starts_with("1."), "{}", pinned_rust());
    }

    #[test]
    fn unpacked_sources_equal_the_checkouts_until_a_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        unpack(folder.path()).unwrap();
        assert!(is_same(folder.path()));
        fs::write(folder.path().join("src/.lib.rs.swp"), "an editor's").unwrap();
        assert!(is_same(folder.path()));
        fs::write(folder.path().join("src/lib.rs"), "").unwrap();
        assert!(!is_same(folder.path()));
    }
}
