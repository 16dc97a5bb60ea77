//! Location of Headstart's cache folder.

use std::path::PathBuf;

/// Headstart's folder in the user's cache.
///
/// # Errors
/// If there is no cache folder, or its path contains a character that evcxr or cargo cannot take.
pub fn cache_folder() -> Result<PathBuf, String> {
    let cache =
        dirs::cache_dir().ok_or("there is no cache folder: set HOME or XDG_CACHE_HOME")?.join("headstart");
    usable(cache)
}

fn usable(cache: PathBuf) -> Result<PathBuf, String> {
    let cannot = |character: &char| character.is_whitespace() || "\"\\:%".contains(*character);
    let problem = match cache.to_str() {
        None => "expected a path in UTF-8".to_owned(),
        Some(path) => match path.chars().find(cannot) {
            None => return Ok(cache),
            Some(' ') => "evcxr cannot work in a folder with a space".to_owned(),
            Some(character) => {
                format!("cells cannot be compiled in a folder with the character {character:?}")
            }
        },
    };
    Err(format!("{}: {problem}; set XDG_CACHE_HOME to another folder", cache.display()))
}

#[cfg(test)]
mod tests {
    use super::usable;

    #[test]
    fn paths_in_which_cells_cannot_be_compiled_are_refused() {
        for path in ["/a,b/é'$x", "/plain"] {
            assert_eq!(usable(path.into()), Ok(path.into()));
        }
        for (path, expected) in [
            ("/a b", "a space"),
            ("/a\"b", "character '\"'"),
            ("/a:b", "':'"),
            ("/a%20b", "'%'"),
            ("/a\tb", "XDG_CACHE_HOME"),
        ] {
            assert!(usable(path.into()).unwrap_err().contains(expected), "{path}");
        }
    }
}
