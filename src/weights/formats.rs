//! Formats of weight files, recognised by their content.
//!
//! From PyTorch's files only tensors are read; their code is never run. There are two kinds: ZIP archives since
//! PyTorch 1.6, and before that a sequence of pickles (`torch/serialization.py`, `_legacy_save`).

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use candle_core::pickle::Object;
use candle_core::{Device, Tensor, bail};

use super::keras::KerasFile;
use super::origin::origin_in;
use super::pickle::take;
use super::state_dict::StateDict;
use super::torch_tensor::TorchTensor;
use super::zip::Archive;
use super::{keras, keras_names, pickle, state_dict};
use crate::nn::{Model, Preprocessing};
use crate::{Error, Result};

/// Result of a reader. Outer error: the file is damaged. Inner error: it is intact but holds no state dict.
type Tensors = candle_core::Result<Result<Found, String>>;

/// Tensors read from a file.
pub(super) struct Found {
    pub(super) tensors: HashMap<String, Tensor>,
    /// The keys that led to the tensors in a checkpoint.
    keys: Vec<&'static str>,
    /// The names of tensors that are left out, because their elements are of a type that is not read.
    unread: Vec<String>,
}

impl Found {
    fn of_torch(
        all: &[TorchTensor],
        storages: &HashMap<String, &[u8]>,
        keys: Vec<&'static str>,
    ) -> candle_core::Result<Found> {
        let mut found = Found { tensors: HashMap::new(), keys, unread: Vec::new() };
        for tensor in all {
            match tensor.values(storages)? {
                Some(values) => _ = found.tensors.insert(tensor.name.clone(), values),
                None => found.unread.push(tensor.name.clone()),
            }
        }
        Ok(found)
    }
}

impl From<HashMap<String, Tensor>> for Found {
    fn from(tensors: HashMap<String, Tensor>) -> Found {
        Found { tensors, keys: Vec::new(), unread: Vec::new() }
    }
}

const ZIP: &[u8] = b"PK\x03\x04";
/// PyTorch's magic number, pickled.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// An open weight file.
pub(super) struct WeightFile {
    path: PathBuf,
    /// Name of the network for errors.
    network: String,
    form: Form,
}

enum Form {
    Safetensors,
    /// ZIP archive of PyTorch.
    Zipped(Archive),
    /// Pickles of PyTorch before version 1.6.
    Legacy,
    Keras(Box<KerasFile>),
    /// `.keras` archive.
    KerasArchive(Box<KerasFile>),
}

impl Form {
    fn name(&self) -> &'static str {
        match self {
            Form::Safetensors => ".safetensors",
            Form::Zipped(_) | Form::Legacy => ".pth",
            Form::Keras(_) => ".h5",
            Form::KerasArchive(_) => ".keras",
        }
    }
}

impl WeightFile {
    /// Opens a file and recognises its format by its content.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::Weights`] if its format is unknown or it is damaged.
    pub(super) fn open(path: &Path, network: &str) -> Result<WeightFile> {
        if path.is_dir() {
            let problem = "this is a folder: pass the path of a file".into();
            return Err(Error::weights(path, network, vec![problem]));
        }
        let (first, length) = begins(path)?;
        let form = match first {
            _ if first.starts_with(ZIP) => guarded(path, network, ".pth", || {
                let archive = Archive::open(path)?;
                let keras = KerasFile::in_archive(path, &archive)?;
                Ok(keras.map_or(Form::Zipped(archive), |keras| Form::KerasArchive(Box::new(keras))))
            })?,
            _ if first == LEGACY => Form::Legacy,
            _ if first.starts_with(keras::SIGNATURE) => {
                Form::Keras(Box::new(guarded(path, network, ".h5", || KerasFile::open(path))?))
            }
            [_, _, _, _, _, _, _, _, b'{', ..] => Form::Safetensors,
            _ if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")) => {
                let problem = "the file is an ONNX model: `Model::from_onnx(path)` reads it".into();
                return Err(Error::weights(path, network, vec![problem]));
            }
            _ => {
                let found = match String::from_utf8_lossy(&first[..length]).trim_start().to_lowercase() {
                    text if text.starts_with("version https") => {
                        "a Git LFS pointer; fetch the file with `git lfs pull`".to_owned()
                    }
                    text if text.starts_with("<!doctype") || text.starts_with("<html") => {
                        "a web page; download the weights themselves".to_owned()
                    }
                    _ => format!("a file that begins with {:?}", String::from_utf8_lossy(&first[..length])),
                };
                let problem = format!("expected a .safetensors, .pth, .h5 or .keras file, found {found}");
                return Err(Error::weights(path, network, vec![problem]));
            }
        };
        Ok(WeightFile { path: path.to_owned(), network: network.to_owned(), form })
    }

    /// The format: `.safetensors`, `.pth`, `.h5` or `.keras`.
    pub(super) fn format(&self) -> &'static str {
        self.form.name()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file was written by Keras.
    fn is_keras(&self) -> bool {
        matches!(self.form, Form::Keras(_) | Form::KerasArchive(_))
    }

    /// Preprocessing of images that the file defines, if any.
    pub(super) fn preprocessing(&self) -> Result<Option<Preprocessing>> {
        match &self.form {
            Form::Keras(file) | Form::KerasArchive(file) => {
                guarded(&self.path, &self.network, self.form.name(), || file.preprocessing())
            }
            Form::Safetensors => Ok(origin_in(&self.path, &self.network)?.map(|origin| origin.preprocessing)),
            Form::Zipped(_) | Form::Legacy => Ok(None),
        }
    }

    /// Whether the file says what network it is for: Keras wrote it, or this library.
    pub(super) fn has_description(&self) -> Result<bool> {
        Ok(self.is_keras() || self.preprocessing()?.is_some())
    }

    /// Whether the file's network has the form of Keras's: Keras wrote the file, or this library wrote it from such a
    /// network.
    pub(super) fn has_form_of_keras(&self) -> Result<bool> {
        match self.form {
            Form::Safetensors => {
                Ok(origin_in(&self.path, &self.network)?.is_some_and(|origin| origin.of_keras))
            }
            _ => Ok(self.is_keras()),
        }
    }

    /// The tensors by name, as in the file.
    pub(super) fn read(&self) -> Result<HashMap<String, Tensor>> {
        self.found().map(|found| found.tensors)
    }

    /// The tensors for a model. Those of Keras's files are converted to the model's names and layout.
    pub(super) fn read_for(&self, model: &Model) -> Result<HashMap<String, Tensor>> {
        let (Found { tensors, keys, unread }, path) = (self.found()?, &self.path);
        if !unread.is_empty() {
            let names: Vec<String> = unread.iter().map(|name| format!("`{name}`")).collect();
            println!(
                "{}: left out {}, whose type of numbers is not supported",
                path.display(),
                names.join(", ")
            );
        }
        if self.is_keras() {
            let (tensors, done) = keras_names::adapt_names(tensors, model);
            if let Some(done) = done {
                println!("{}: {done}", path.display());
            }
            return keras::arrange(tensors, model, path);
        }
        // A file of `Model::save` can hold a larger model, in which this network is nested. A model can also contain a
        // model of its own name, so the names that fit more parameters count.
        let within = format!("{}/", model.name());
        let params = model.named_params();
        let fitting = |folder: &str| {
            params.iter().filter(|(name, _)| tensors.contains_key(&format!("{folder}{name}"))).count()
        };
        if fitting(&within) > fitting("") {
            let own =
                |(name, tensor): (String, Tensor)| Some((name.strip_prefix(&within)?.to_owned(), tensor));
            println!("{}: took the layers of `{}`", path.display(), model.name());
            return Ok(tensors.into_iter().filter_map(own).collect());
        }
        let (tensors, prefixes) = state_dict::strip_prefixes(tensors);
        if !keys.is_empty() || !prefixes.is_empty() {
            let taken = keys.iter().map(|key| format!("took the tensors of `{key}`"));
            let stripped =
                prefixes.iter().map(|prefix| format!("removed the prefix `{prefix}` from the names"));
            let done: Vec<String> = taken.chain(stripped).collect();
            println!("{}: {}", path.display(), done.join(", "));
        }
        Ok(tensors)
    }

    fn found(&self) -> Result<Found> {
        let refuse = |problem: String| Error::weights(&self.path, &self.network, vec![problem]);
        let form = self.form.name();
        let found = guarded(&self.path, &self.network, form, || match &self.form {
            Form::Safetensors => safetensors(&self.path),
            Form::Zipped(archive) => zipped(archive),
            Form::Legacy => legacy(&self.path),
            Form::Keras(file) | Form::KerasArchive(file) => Ok(Ok(file.datasets()?.into())),
        })?;
        match found {
            Ok(found) if found.tensors.is_empty() => {
                Err(refuse(format!("the {form} file contains no tensor")))
            }
            Ok(found) => Ok(found),
            Err(other) => Err(refuse(other.replace("FILE", &self.path.to_string_lossy()))),
        }
    }
}

/// Runs a reader, and converts its errors and panics to an error about a damaged file.
fn guarded<T>(
    path: &Path,
    network: &str,
    form: &str,
    read: impl FnOnce() -> candle_core::Result<T>,
) -> Result<T> {
    let refuse = |problem: String| Error::weights(path, network, vec![problem]);
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => {
            let error = error.to_string();
            let first = error.lines().next().unwrap_or_default();
            Err(refuse(format!("the {form} file is damaged or of an unknown kind: {first}")))
        }
        Err(_) => Err(refuse(format!("the {form} file is damaged"))),
    }
}

/// The first bytes of a file, and their number.
fn begins(path: &Path) -> Result<([u8; 15], usize)> {
    let mut first = [0; 15];
    let length = File::open(path).and_then(|mut file| file.read(&mut first)).map_err(Error::io(path))?;
    Ok((first, length))
}

fn safetensors(path: &Path) -> Tensors {
    Ok(Ok(candle_core::safetensors::load(path, &Device::Cpu)?.into()))
}

fn zipped(archive: &Archive) -> Tensors {
    let within = |name: &str| name.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let Some(pickle) = archive.names().find(|name| name.rsplit('/').next() == Some("data.pkl")) else {
        bail!("it has no data.pkl")
    };
    let folder = within(pickle);
    if archive.names().any(|name| name == format!("{folder}constants.pkl")) {
        return Ok(Err(state_dict::SCRIPT_REMEDY.into()));
    }
    let state = pickle::read(&mut archive.read(pickle)?.as_slice())?;
    let StateDict { entries, keys } = match state_dict::find(state) {
        Ok(found) => found,
        Err(other) => return Ok(Err(other)),
    };
    let tensors = torch_tensors(entries)?;
    let mut storages = HashMap::new();
    for tensor in &tensors {
        if !storages.contains_key(&tensor.storage) {
            storages
                .insert(tensor.storage.clone(), archive.read(&format!("{folder}data/{}", tensor.storage))?);
        }
    }
    let storages = storages.iter().map(|(key, bytes)| (key.clone(), bytes.as_slice())).collect();
    Found::of_torch(&tensors, &storages, keys).map(Ok)
}

fn torch_tensors(entries: Vec<(Object, Object)>) -> candle_core::Result<Vec<TorchTensor>> {
    entries.into_iter().filter_map(|(name, value)| TorchTensor::from_entry(name, value).transpose()).collect()
}

fn legacy(path: &Path) -> Tensors {
    let content = std::fs::read(path)?;
    let mut rest = &content[LEGACY.len()..];
    // Skips the protocol version and the system information.
    pickle::read(&mut rest)?;
    pickle::read(&mut rest)?;
    let StateDict { entries, keys } = match state_dict::find(pickle::read(&mut rest)?) {
        Ok(found) => found,
        Err(other) => return Ok(Err(other)),
    };
    let tensors = torch_tensors(entries)?;
    let Object::List(names) = pickle::read(&mut rest)? else { bail!("expected a list of storages") };
    let mut storages = HashMap::new();
    for key in names {
        let Object::Unicode(key) = key else { bail!("expected the name of a storage") };
        let count = u64::from_le_bytes(take(&mut rest, 8)?.try_into().expect("eight bytes")) as usize;
        // The sizes of other storages, such as an optimizer's, are unknown: their types are not in `tensors`.
        let Some(tensor) = tensors.iter().find(|tensor| tensor.storage == key) else {
            match keys.is_empty() {
                true => bail!("the storage {key} belongs to no tensor"),
                false => bail!("a checkpoint from before PyTorch 1.6; save only its `{}`", keys.join(".")),
            }
        };
        let Some(bytes) = count.checked_mul(tensor.element.size_in_bytes()) else {
            bail!("a storage of {count} numbers")
        };
        storages.insert(key, take(&mut rest, bytes)?);
    }
    Found::of_torch(&tensors, &storages, keys).map(Ok)
}

#[cfg(test)]
mod tests {
    use super::super::zip::OPENED;
    use crate::prelude::*;

    #[test]
    fn networks_open_their_archive_once() -> crate::Result<()> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/keras_saved/transfer.keras");
        let network =
            |weights| Vgg16::new(weights).alpha(1.0 / 32.0).input_shape((3, 64, 64)).include_top(false);
        OPENED.set(0);
        network(Weights::file(&path)).build()?;
        assert_eq!(OPENED.get(), 1);
        network(Weights::Random(0)).build()?.load_weights_skip_mismatch(&path)?;
        assert_eq!(OPENED.get(), 2);
        Ok(())
    }
}
