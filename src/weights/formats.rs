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

use super::keras;
use crate::models::Preprocessing;
use crate::nn::Model;
use crate::{Error, Result};

type Tensors = candle_core::Result<HashMap<String, Tensor>>;

const ZIP: &[u8] = b"PK\x03\x04";
/// PyTorch's magic number, itself a pickle.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// The tensors in a file that is meant for a model, in the model's own names and layout if they are
/// Keras's.
pub(super) fn read_for(path: &Path, model: &Model) -> Result<HashMap<String, Tensor>> {
    let tensors = read(path, model.name())?;
    if is_keras(path)? { keras::arrange(tensors, model, path) } else { Ok(tensors) }
}

/// Whether a file is one of Keras's.
pub(super) fn is_keras(path: &Path) -> Result<bool> {
    Ok(begins(path)?.0.starts_with(keras::SIGNATURE))
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

/// The tensors in a file: `.safetensors`, PyTorch's `.pth` or Keras's `.h5`.
pub(super) fn read(path: &Path, network: &str) -> Result<HashMap<String, Tensor>> {
    let (first, length) = begins(path)?;
    let refuse = |problem: String| Error::weights(path, network, vec![problem]);
    let (form, reader): (&str, fn(&Path) -> Tensors) = match first {
        _ if first.starts_with(ZIP) => (".pth", zipped),
        _ if first == LEGACY => (".pth", legacy),
        _ if first.starts_with(keras::SIGNATURE) => (".h5", keras::datasets),
        [_, _, _, _, _, _, _, _, b'{', ..] => (".safetensors", safetensors),
        _ => {
            let found = String::from_utf8_lossy(&first[..length]).into_owned();
            return Err(refuse(format!(
                "expected a .safetensors, .pth or .h5 file, found one that begins with {found:?}"
            )));
        }
    };
    // A reader that panics at a damaged file is not to show a learner its own lines.
    match catch_unwind(AssertUnwindSafe(|| reader(path))) {
        Ok(Ok(tensors)) if tensors.is_empty() => Err(refuse(format!("the {form} file holds no tensor"))),
        Ok(Ok(tensors)) => Ok(tensors),
        Ok(Err(error)) => {
            let error = error.to_string();
            let first = error.lines().next().unwrap_or_default();
            Err(refuse(format!("the {form} file is damaged or of an unknown kind: {first}")))
        }
        Err(_) => Err(refuse(format!("the {form} file is damaged"))),
    }
}

fn safetensors(path: &Path) -> Tensors {
    candle_core::safetensors::load(path, &Device::Cpu)
}

fn zipped(path: &Path) -> Tensors {
    Ok(candle_core::pickle::read_all(path)?.into_iter().collect())
}

fn legacy(path: &Path) -> Tensors {
    let content = std::fs::read(path)?;
    let mut rest = &content[LEGACY.len()..];
    // The version of the format, and what the machine was like.
    unpickle(&mut rest)?;
    unpickle(&mut rest)?;
    let mut state = unpickle(&mut rest)?;
    if let Object::Build { callable, .. } = state {
        state = *callable;
    }
    let Object::Dict(state) = state else { bail!("expected a dictionary of tensors") };
    let mut tensors = Vec::new();
    for (name, value) in state {
        tensors.extend(value.into_tensor_info(name, Path::new(""))?);
    }
    let Object::List(keys) = unpickle(&mut rest)? else { bail!("expected a list of storages") };
    let mut storages = HashMap::new();
    for key in keys {
        let Object::Unicode(key) = key else { bail!("expected the name of a storage") };
        let path = format!("/{key}");
        let Some(info) = tensors.iter().find(|info| info.path == path) else {
            bail!("the storage {key} belongs to no tensor");
        };
        let count = u64::from_le_bytes(take(&mut rest, 8)?.try_into().expect("eight bytes")) as usize;
        let Some(bytes) = count.checked_mul(info.dtype.size_in_bytes()) else {
            bail!("a storage of {count} numbers")
        };
        storages.insert(path, take(&mut rest, bytes)?);
    }
    tensors.iter().map(|info| Ok((info.name.clone(), in_storage(info, &storages)?))).collect()
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
