//! The files that weights come in, told apart by their content.
//!
//! Of PyTorch's files only the tensors are read; no code in them is run. There are two kinds: a ZIP
//! archive since PyTorch 1.6, and before it pickles one after the other
//! (`torch/serialization.py`, `_legacy_save`).

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use candle_core::pickle::{Object, Stack, TensorInfo};
use candle_core::{Device, Tensor, bail};

use super::state_dict::StateDict;
use super::zip::Archive;
use super::{keras, keras_names, state_dict};
use crate::models::Preprocessing;
use crate::nn::Model;
use crate::{Error, Result};

/// What a reader finds: tensors, or, of a file that is no damaged one, what else it is.
type Tensors = candle_core::Result<Result<Found, String>>;

/// The tensors in a file.
pub(super) struct Found {
    pub(super) tensors: HashMap<String, Tensor>,
    /// The keys of a checkpoint under which they were.
    keys: Vec<&'static str>,
}

impl From<HashMap<String, Tensor>> for Found {
    fn from(tensors: HashMap<String, Tensor>) -> Found {
        Found { tensors, keys: Vec::new() }
    }
}

const ZIP: &[u8] = b"PK\x03\x04";
/// PyTorch's magic number, itself a pickle.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// The tensors in a file that is meant for a model, in the model's own names and layout if they are
/// Keras's.
pub(super) fn read_for(path: &Path, model: &Model) -> Result<HashMap<String, Tensor>> {
    let Found { tensors, keys } = found(path, model.name())?;
    if is_keras(path)? {
        let (tensors, done) = keras_names::fitted(tensors, model);
        if let Some(done) = done {
            println!("{}: {done}", path.display());
        }
        return keras::arrange(tensors, model, path);
    }
    // A network that `Model::save` wrote within a larger model.
    let within = format!("{}/", model.name());
    if tensors.keys().any(|name| name.starts_with(&within)) {
        let own = |(name, tensor): (String, Tensor)| Some((name.strip_prefix(&within)?.to_owned(), tensor));
        println!("{}: took the layers of `{}`", path.display(), model.name());
        return Ok(tensors.into_iter().filter_map(own).collect());
    }
    let (tensors, prefixes) = state_dict::strip_prefixes(tensors);
    if !keys.is_empty() || !prefixes.is_empty() {
        let taken = keys.iter().map(|key| format!("took the tensors of `{key}`"));
        let stripped = prefixes.iter().map(|prefix| format!("removed the prefix `{prefix}` from the names"));
        let done: Vec<String> = taken.chain(stripped).collect();
        println!("{}: {}", path.display(), done.join(", "));
    }
    Ok(tensors)
}

/// Whether a file is one of Keras's: HDF5, or a `.keras` archive.
pub(super) fn is_keras(path: &Path) -> Result<bool> {
    let (first, _) = begins(path)?;
    Ok(first.starts_with(keras::SIGNATURE) || first.starts_with(ZIP) && keras::is_archive(path))
}

/// How a file says that its weights want their pictures.
pub(super) fn preprocessing(path: &Path, network: &str) -> Result<Option<Preprocessing>> {
    match is_keras(path)? {
        true => keras::preprocessing(path).map_err(|error| {
            Error::weights(path, network, vec![format!("the .h5 file is damaged: {error}")])
        }),
        false => Ok(None),
    }
}

/// A file's first bytes, and how many there are.
fn begins(path: &Path) -> Result<([u8; 15], usize)> {
    let mut first = [0; 15];
    let length = File::open(path).and_then(|mut file| file.read(&mut first)).map_err(Error::io(path))?;
    Ok((first, length))
}

/// The tensors in a file: `.safetensors`, PyTorch's `.pth`, Keras's `.h5` or `.keras`.
pub(super) fn read(path: &Path, network: &str) -> Result<HashMap<String, Tensor>> {
    found(path, network).map(|found| found.tensors)
}

fn found(path: &Path, network: &str) -> Result<Found> {
    let (first, length) = begins(path)?;
    let refuse = |problem: String| Error::weights(path, network, vec![problem]);
    let (form, reader): (&str, fn(&Path) -> Tensors) = match first {
        _ if first.starts_with(ZIP) && keras::is_archive(path) => (".keras", keras_datasets),
        _ if first.starts_with(ZIP) => (".pth", zipped),
        _ if first == LEGACY => (".pth", legacy),
        _ if first.starts_with(keras::SIGNATURE) => (".h5", keras_datasets),
        [_, _, _, _, _, _, _, _, b'{', ..] => (".safetensors", safetensors),
        _ => {
            let found = String::from_utf8_lossy(&first[..length]).into_owned();
            return Err(refuse(format!(
                "expected a .safetensors, .pth, .h5 or .keras file, found one that begins with {found:?}"
            )));
        }
    };
    // A reader that panics at a damaged file is not to show a learner its own lines.
    match catch_unwind(AssertUnwindSafe(|| reader(path))) {
        Ok(Ok(Ok(found))) if found.tensors.is_empty() => {
            Err(refuse(format!("the {form} file holds no tensor")))
        }
        Ok(Ok(Ok(found))) => Ok(found),
        Ok(Ok(Err(other))) => Err(refuse(other.replace("FILE", &path.to_string_lossy()))),
        Ok(Err(error)) => {
            let error = error.to_string();
            let first = error.lines().next().unwrap_or_default();
            Err(refuse(format!("the {form} file is damaged or of an unknown kind: {first}")))
        }
        Err(_) => Err(refuse(format!("the {form} file is damaged"))),
    }
}

fn safetensors(path: &Path) -> Tensors {
    Ok(Ok(candle_core::safetensors::load(path, &Device::Cpu)?.into()))
}

fn keras_datasets(path: &Path) -> Tensors {
    Ok(Ok(keras::datasets(path)?.into()))
}

fn zipped(path: &Path) -> Tensors {
    let archive = Archive::open(path)?;
    let within = |name: &str| name.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let Some(pickle) = archive.names().find(|name| name.rsplit('/').next() == Some("data.pkl")) else {
        bail!("it has no data.pkl")
    };
    let folder = within(pickle);
    if archive.names().any(|name| name == format!("{folder}constants.pkl")) {
        return Ok(Err(state_dict::SCRIPT_REMEDY.into()));
    }
    let state = unpickle(&mut archive.read(pickle)?.as_slice())?;
    let StateDict { entries, keys } = match state_dict::find(state) {
        Ok(found) => found,
        Err(other) => return Ok(Err(other)),
    };
    let infos = tensor_infos(entries)?;
    let mut storages = HashMap::new();
    for info in &infos {
        if !storages.contains_key(&info.path) {
            storages.insert(info.path.clone(), archive.read(&format!("{folder}data{}", info.path))?);
        }
    }
    let storages = storages.iter().map(|(path, bytes)| (path.clone(), bytes.as_slice())).collect();
    let tensor = |info: &TensorInfo| Ok((info.name.clone(), in_storage(info, &storages)?));
    let tensors = infos.iter().map(tensor).collect::<candle_core::Result<_>>()?;
    Ok(Ok(Found { tensors, keys }))
}

fn tensor_infos(entries: Vec<(Object, Object)>) -> candle_core::Result<Vec<TensorInfo>> {
    let mut infos = Vec::new();
    for (name, value) in entries {
        infos.extend(value.into_tensor_info(name, Path::new(""))?);
    }
    Ok(infos)
}

fn legacy(path: &Path) -> Tensors {
    let content = std::fs::read(path)?;
    let mut rest = &content[LEGACY.len()..];
    // The version of the format, and what the machine was like.
    unpickle(&mut rest)?;
    unpickle(&mut rest)?;
    let StateDict { entries, keys } = match state_dict::find(unpickle(&mut rest)?) {
        Ok(found) => found,
        Err(other) => return Ok(Err(other)),
    };
    let tensors = tensor_infos(entries)?;
    let Object::List(names) = unpickle(&mut rest)? else { bail!("expected a list of storages") };
    let mut storages = HashMap::new();
    for key in names {
        let Object::Unicode(key) = key else { bail!("expected the name of a storage") };
        let path = format!("/{key}");
        let count = u64::from_le_bytes(take(&mut rest, 8)?.try_into().expect("eight bytes")) as usize;
        // Storages of what else a checkpoint holds, such as an optimizer, are not told in bytes.
        let Some(info) = tensors.iter().find(|info| info.path == path) else {
            match keys.is_empty() {
                true => bail!("the storage {key} belongs to no tensor"),
                false => bail!("a checkpoint of before PyTorch 1.6; save its `{}` alone", keys.join(".")),
            }
        };
        let Some(bytes) = count.checked_mul(info.dtype.size_in_bytes()) else {
            bail!("a storage of {count} numbers")
        };
        storages.insert(path, take(&mut rest, bytes)?);
    }
    let tensor = |info: &TensorInfo| Ok((info.name.clone(), in_storage(info, &storages)?));
    let tensors = tensors.iter().map(tensor).collect::<candle_core::Result<_>>()?;
    Ok(Ok(Found { tensors, keys }))
}

fn unpickle(rest: &mut &[u8]) -> candle_core::Result<Object> {
    let mut stack = Stack::empty();
    stack.read_loop(rest)?;
    stack.finalize()
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> candle_core::Result<&'a [u8]> {
    match rest.split_at_checked(count) {
        Some((taken, left)) => {
            *rest = left;
            Ok(taken)
        }
        None => bail!("expected {count} more bytes, found {}", rest.len()),
    }
}

/// The numbers of a tensor, in order, wherever in its storage they lie.
fn in_storage(info: &TensorInfo, storages: &HashMap<String, &[u8]>) -> candle_core::Result<Tensor> {
    let TensorInfo { name, dtype, layout, path, .. } = info;
    let (dims, strides, size) = (layout.dims(), layout.stride(), dtype.size_in_bytes());
    let storage = storages.get(path).copied().unwrap_or_default();
    let last = dims
        .iter()
        .zip(strides)
        .try_fold(0usize, |last, (dim, stride)| last.checked_add(dim.checked_sub(1)?.checked_mul(*stride)?));
    let end =
        last.and_then(|last| last.checked_add(1)?.checked_mul(size)?.checked_add(layout.start_offset()));
    let Some(storage) = end.and_then(|end| storage.get(layout.start_offset()..end)) else {
        bail!("`{name}` reaches beyond its storage");
    };
    if layout.is_contiguous() {
        return Tensor::from_raw_buffer(storage, *dtype, dims, &Device::Cpu);
    }
    let mut bytes = Vec::with_capacity(layout.shape().elem_count() * size);
    let mut index = vec![0; dims.len()];
    for _ in 0..layout.shape().elem_count() {
        let at: usize = index.iter().zip(strides).map(|(index, stride)| index * stride).sum();
        bytes.extend_from_slice(&storage[at * size..][..size]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            if index[axis] < dims[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Tensor::from_raw_buffer(&bytes, *dtype, dims, &Device::Cpu)
}
