//! Location of Headstart's cache folder.

use std::path::PathBuf;

/// Headstart's folder in the user's cache.
///
/// # Errors
/// If there is no cache folder, or its path contains a space.
pub fn cache_folder() -> Result<PathBuf, String> {
    let cache =
        dirs::cache_dir().ok_or("there is no cache folder: set HOME or XDG_CACHE_HOME")?.join("headstart");
    match cache.to_string_lossy().contains(' ') {
        true => Err(format!(
            "{}: evcxr cannot work in a folder with a space; set XDG_CACHE_HOME",
            cache.display()
        )),
        false => Ok(cache),
    }
}
