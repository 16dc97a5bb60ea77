//! The metadata in the header of a `.safetensors` file.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use crate::{Error, Result};

/// The part of a `.safetensors` header that is read here.
#[derive(serde::Deserialize)]
struct Header {
    #[serde(default, rename = "__metadata__")]
    metadata: HashMap<String, String>,
}

/// Reads the metadata of a `.safetensors` file. Empty if the file has none.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Weights`] if it has another format or is damaged.
pub(crate) fn read_metadata(path: &Path) -> Result<HashMap<String, String>> {
    let mut file = std::fs::File::open(path).map_err(Error::io(path))?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    let refuse = |problem: &str| Error::weights(path, "a saved model", vec![problem.to_owned()]);
    // The length of the header, then the header.
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| refuse("the file is no .safetensors file"))?;
    let length = u64::from_le_bytes(length);
    if length > size {
        return Err(refuse("the file is no .safetensors file, or damaged"));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(Error::io(path))?;
    let header: Header = serde_json::from_slice(&header).map_err(|error| refuse(&error.to_string()))?;
    Ok(header.metadata)
}
