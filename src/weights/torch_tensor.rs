//! Tensors in PyTorch's files: where their values are, and the values from a storage with any strides.
//!
//! `torch/_utils.py` names the functions that rebuild tensors, with their arguments.

use std::collections::HashMap;

use candle_core::pickle::Object;
use candle_core::{DType, Device, Result, Tensor, bail};

/// A tensor whose values are in a storage of the file.
pub(super) struct TorchTensor {
    pub(super) name: String,
    /// The name of the storage.
    pub(super) storage: String,
    pub(super) element: Element,
    shape: Vec<usize>,
    /// The distance of neighbours in each dimension, in elements.
    strides: Vec<usize>,
    /// The first element in the storage.
    offset: usize,
}

/// The type of a storage's elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Element {
    Candle(DType),
    I8,
    /// A type whose values are not read, such as complex numbers. It has the size of an element in bytes.
    Unread(usize),
}

impl Element {
    /// The type by the name of a storage's class, such as `FloatStorage`, or of a dtype, such as `float32`.
    fn named(name: &str) -> Option<Element> {
        Some(match name {
            "FloatStorage" | "float32" => Element::Candle(DType::F32),
            "DoubleStorage" | "float64" => Element::Candle(DType::F64),
            "HalfStorage" | "float16" => Element::Candle(DType::F16),
            "BFloat16Storage" | "bfloat16" => Element::Candle(DType::BF16),
            // A bool takes one byte.
            "BoolStorage" | "bool" | "ByteStorage" | "uint8" => Element::Candle(DType::U8),
            "CharStorage" | "int8" => Element::I8,
            "ShortStorage" | "int16" => Element::Candle(DType::I16),
            "IntStorage" | "int32" => Element::Candle(DType::I32),
            "LongStorage" | "int64" => Element::Candle(DType::I64),
            "uint32" => Element::Candle(DType::U32),
            "QInt8Storage" | "QUInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage" => Element::Unread(1),
            "uint16" | "UntypedStorage" => Element::Unread(if name == "uint16" { 2 } else { 1 }),
            "QInt32Storage" => Element::Unread(4),
            "ComplexFloatStorage" | "complex64" | "uint64" => Element::Unread(8),
            "ComplexDoubleStorage" | "complex128" => Element::Unread(16),
            name if name.starts_with("float8") => Element::Unread(1),
            "complex32" => Element::Unread(4),
            _ => return None,
        })
    }

    pub(super) fn size_in_bytes(self) -> usize {
        match self {
            Element::Candle(dtype) => dtype.size_in_bytes(),
            Element::I8 => 1,
            Element::Unread(size) => size,
        }
    }
}

impl TorchTensor {
    /// Reads the description of a tensor from an entry of a state dict. `None` if the value is no tensor with strides.
    pub(super) fn from_entry(name: Object, value: Object) -> Result<Option<TorchTensor>> {
        let (Object::Unicode(name), Object::Reduce { mut callable, mut args }) = (name, value) else {
            return Ok(None);
        };
        // A parameter, or an instance of a class derived from a tensor, has the tensor among its arguments.
        loop {
            let inside = match function(&callable) {
                "_rebuild_parameter" | "_rebuild_parameter_with_state" => taken(&mut args, 0)?,
                "_rebuild_from_type_v2" => {
                    let (inside, callable) = (taken(&mut args, 2)?, taken(&mut args, 0)?);
                    Object::Reduce { callable: Box::new(callable), args: Box::new(inside) }
                }
                _ => break,
            };
            let Object::Reduce { callable: next, args: arguments } = inside else { return Ok(None) };
            (callable, args) = (next, arguments);
        }
        let has_dtype = match function(&callable) {
            "_rebuild_tensor" | "_rebuild_tensor_v2" => false,
            "_rebuild_tensor_v3" => true,
            _ => return Ok(None),
        };
        TorchTensor::rebuilt(name, *args, has_dtype).map(Some)
    }

    /// Reads the arguments of `_rebuild_tensor_v2`: storage, offset, size, strides and others. Those of version 3 have
    /// the dtype in position 6.
    fn rebuilt(name: String, args: Object, has_dtype: bool) -> Result<TorchTensor> {
        let mut args = args.tuple()?;
        if args.len() < if has_dtype { 7 } else { 4 } {
            bail!("`{name}` is rebuilt from {} arguments", args.len());
        }
        let dtype = if has_dtype { Some(args.remove(6)) } else { None };
        let (strides, shape) = (sizes(args.remove(3))?, sizes(args.remove(2))?);
        let offset = size(args.remove(1))?;
        // The kind, the class, the storage's name, the device and the number of elements.
        let mut storage = args.remove(0).persistent_load()?.tuple()?;
        if storage.len() < 3 || strides.len() != shape.len() {
            bail!("`{name}` has no storage");
        }
        let key = storage.remove(2).unicode()?;
        let (_, class) = dtype.unwrap_or(storage.remove(1)).class()?;
        let Some(element) = Element::named(&class) else { bail!("`{name}` has elements of type {class}") };
        Ok(TorchTensor { name, storage: key, element, shape, strides, offset })
    }

    /// The values in row-major order. Integers of less than eight bytes become `i64`, apart from `u8`. `None` for
    /// elements that are not read.
    pub(super) fn values(&self, storages: &HashMap<String, &[u8]>) -> Result<Option<Tensor>> {
        let dtype = match self.element {
            Element::Candle(dtype) => Some(dtype),
            Element::I8 => None,
            Element::Unread(_) => return Ok(None),
        };
        let bytes = self.bytes(storages.get(&self.storage).copied().unwrap_or_default())?;
        let integers = |numbers: Vec<i64>| Tensor::from_vec(numbers, self.shape.as_slice(), &Device::Cpu);
        Ok(Some(match dtype {
            None => integers(bytes.iter().map(|byte| i64::from(*byte as i8)).collect())?,
            Some(DType::I16) => integers(
                bytes.as_chunks::<2>().0.iter().map(|two| i64::from(i16::from_le_bytes(*two))).collect(),
            )?,
            Some(DType::I32) => integers(
                bytes.as_chunks::<4>().0.iter().map(|four| i64::from(i32::from_le_bytes(*four))).collect(),
            )?,
            Some(DType::U32) => integers(
                bytes.as_chunks::<4>().0.iter().map(|four| i64::from(u32::from_le_bytes(*four))).collect(),
            )?,
            Some(dtype) => Tensor::from_raw_buffer(&bytes, dtype, &self.shape, &Device::Cpu)?,
        }))
    }

    /// The bytes of the elements in row-major order.
    fn bytes(&self, storage: &[u8]) -> Result<Vec<u8>> {
        let size = self.element.size_in_bytes();
        let count = self.shape.iter().try_fold(1usize, |count, dim| count.checked_mul(*dim));
        if count == Some(0) {
            return Ok(Vec::new());
        }
        let last = self.shape.iter().zip(&self.strides).try_fold(self.offset, |last, (dim, stride)| {
            last.checked_add(dim.checked_sub(1)?.checked_mul(*stride)?)
        });
        let end = last.and_then(|last| last.checked_add(1)?.checked_mul(size));
        let (Some(count), Some(_)) = (count, end.filter(|end| *end <= storage.len())) else {
            bail!("`{}` reaches beyond its storage", self.name);
        };
        if self.is_contiguous() {
            return Ok(storage[self.offset * size..(self.offset + count) * size].to_vec());
        }
        // Strides of zero repeat elements, so the count is no length of the file.
        let mut bytes = Vec::new();
        let Some(length) = count.checked_mul(size) else { bail!("`{}` has {count} elements", self.name) };
        if bytes.try_reserve_exact(length).is_err() {
            bail!("`{}` has {count} elements", self.name);
        }
        let mut index = vec![0; self.shape.len()];
        for _ in 0..count {
            let at: usize = index.iter().zip(&self.strides).map(|(index, stride)| index * stride).sum();
            bytes.extend_from_slice(&storage[(self.offset + at) * size..][..size]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Ok(bytes)
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(dim, stride)| {
            let fits = *dim == 1 || *stride == expected;
            expected *= dim;
            fits
        })
    }
}

/// The name of a function of `torch._utils` or `torch._tensor`, or an empty text.
fn function(callable: &Object) -> &str {
    match callable {
        Object::Class { module_name, class_name }
            if module_name == "torch._utils" || module_name == "torch._tensor" =>
        {
            class_name
        }
        _ => "",
    }
}

/// Takes an argument.
fn taken(args: &mut Object, at: usize) -> Result<Object> {
    match args {
        Object::Tuple(args) if at < args.len() => Ok(args.swap_remove(at)),
        _ => bail!("argument {at} is missing"),
    }
}

fn sizes(tuple: Object) -> Result<Vec<usize>> {
    tuple.tuple()?.into_iter().map(size).collect()
}

fn size(number: Object) -> Result<usize> {
    match number {
        Object::Int(number) if number >= 0 => Ok(number as usize),
        Object::Long(number) if number >= 0 => Ok(number as usize),
        other => bail!("expected a size, found {other:?}"),
    }
}
