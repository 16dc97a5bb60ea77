//! Tensors of an ONNX file (`TensorProto`), in the file itself or in a second file in its folder.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use candle_core::{DType, Device, Tensor};

use crate::nn::protobuf_reader::{Fields, Wire};

/// A tensor as it is stored.
#[derive(Default)]
pub(super) struct StoredTensor<'a> {
    pub(super) name: &'a str,
    dims: Vec<i64>,
    /// `TensorProto.DataType`.
    kind: i64,
    raw: Option<&'a [u8]>,
    floats: Vec<f32>,
    ints: Vec<i64>,
    is_external: bool,
    external: External<'a>,
}

/// Where the bytes of an external tensor are.
#[derive(Default)]
struct External<'a> {
    location: &'a str,
    offset: u64,
    length: Option<u64>,
}

/// A decoded tensor. Numbers of all types are converted to `f32` or `i64`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constant {
    pub(super) dims: Vec<usize>,
    pub(super) values: Values,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    Floats(Vec<f32>),
    Ints(Vec<i64>),
}

/// Types that are decoded, by `TensorProto.DataType`.
mod data_type {
    pub(super) const FLOAT: i64 = 1;
    pub(super) const INT32: i64 = 6;
    pub(super) const INT64: i64 = 7;
    pub(super) const BOOL: i64 = 9;
    pub(super) const FLOAT16: i64 = 10;
    pub(super) const DOUBLE: i64 = 11;
    pub(super) const BFLOAT16: i64 = 16;
}

/// The type's name, and the bytes of a value if it is decoded.
fn describe(kind: i64) -> (&'static str, Option<usize>) {
    match kind {
        data_type::FLOAT => ("float32", Some(4)),
        2 => ("uint8", None),
        3 => ("int8", None),
        4 => ("uint16", None),
        5 => ("int16", None),
        data_type::INT32 => ("int32", Some(4)),
        data_type::INT64 => ("int64", Some(8)),
        8 => ("string", None),
        data_type::BOOL => ("bool", Some(1)),
        data_type::FLOAT16 => ("float16", Some(2)),
        data_type::DOUBLE => ("float64", Some(8)),
        data_type::BFLOAT16 => ("bfloat16", Some(2)),
        _ => ("another type", None),
    }
}

/// Whether a type is a floating-point type, as for images and features. Inputs of integer types are tokens.
pub(super) fn is_float(kind: i64) -> bool {
    matches!(kind, data_type::FLOAT | data_type::FLOAT16 | data_type::DOUBLE | data_type::BFLOAT16)
}

impl<'a> StoredTensor<'a> {
    pub(super) fn read(message: &'a [u8]) -> Result<StoredTensor<'a>, String> {
        let mut tensor = StoredTensor::default();
        for field in Fields::of(message) {
            match field? {
                (1, value) => value.numbers_into(&mut tensor.dims)?,
                (2, value) => tensor.kind = value.number()?,
                (4, value) => value.floats_into(&mut tensor.floats)?,
                (5 | 7, value) => value.numbers_into(&mut tensor.ints)?,
                (8, value) => tensor.name = value.text()?,
                (9, value) => tensor.raw = Some(value.bytes()?),
                (10, value) => value.doubles_into(&mut tensor.floats)?,
                (13, value) => tensor.external.read(value)?,
                (14, value) => tensor.is_external = value.number()? == 1,
                _ => {}
            }
        }
        Ok(tensor)
    }

    /// The sizes, if all of them are valid.
    pub(super) fn dims(&self) -> Result<Vec<usize>, String> {
        let sizes = self.dims.iter().map(|size| usize::try_from(*size)).collect::<Result<Vec<_>, _>>();
        sizes.map_err(|_| {
            format!("tensor `{}`: expected sizes of 0 or more, found {:?}", self.name, self.dims)
        })
    }

    /// Decodes the tensor. `folder` has the files of external tensors.
    pub(super) fn decode(&self, folder: &Path) -> Result<Constant, String> {
        self.decode_values(folder).map_err(|problem| format!("tensor `{}`: {problem}", self.name))
    }

    fn decode_values(&self, folder: &Path) -> Result<Constant, String> {
        let dims = self.dims()?;
        let count = dims.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
        let count = count.ok_or_else(|| format!("expected a smaller shape, found {dims:?}"))?;
        let (name, Some(width)) = describe(self.kind) else {
            let found = describe(self.kind).0;
            return Err(format!("expected float32, float64, float16, bfloat16 or integers, found {found}"));
        };
        let bytes = count.checked_mul(width).ok_or_else(|| format!("the shape {dims:?} is too large"))?;
        let length_error = |found: String| {
            format!("expected {count} values of {name} for the shape {dims:?}, found {found}")
        };
        let values = if self.is_external {
            decode(self.kind, &self.external.load(folder, bytes)?)?
        } else if let Some(raw) = self.raw {
            if raw.len() != bytes {
                return Err(length_error(format!("{} bytes", raw.len())));
            }
            decode(self.kind, raw)?
        } else {
            match self.kind {
                data_type::FLOAT | data_type::DOUBLE => Values::Floats(self.floats.clone()),
                // The bits of each value are stored as an integer.
                data_type::FLOAT16 | data_type::BFLOAT16 => {
                    let bits: Vec<u8> =
                        self.ints.iter().flat_map(|bits| (*bits as u16).to_le_bytes()).collect();
                    decode(self.kind, &bits)?
                }
                _ => Values::Ints(self.ints.clone()),
            }
        };
        match values.len() == count {
            true => Ok(Constant { dims, values }),
            false => Err(length_error(values.len().to_string())),
        }
    }
}

/// Decodes little-endian values of a type that [`describe`] gives a width for.
fn decode(kind: i64, bytes: &[u8]) -> Result<Values, String> {
    let of4 = || bytes.as_chunks::<4>().0.iter();
    let of8 = || bytes.as_chunks::<8>().0.iter();
    Ok(match kind {
        data_type::FLOAT => Values::Floats(of4().map(|four| f32::from_le_bytes(*four)).collect()),
        data_type::DOUBLE => Values::Floats(of8().map(|eight| f64::from_le_bytes(*eight) as f32).collect()),
        data_type::FLOAT16 => Values::Floats(halves(DType::F16, bytes).map_err(|error| error.to_string())?),
        data_type::BFLOAT16 => Values::Floats(halves(DType::BF16, bytes).map_err(|error| error.to_string())?),
        data_type::INT32 => Values::Ints(of4().map(|four| i64::from(i32::from_le_bytes(*four))).collect()),
        data_type::INT64 => Values::Ints(of8().map(|eight| i64::from_le_bytes(*eight)).collect()),
        _ => Values::Ints(bytes.iter().map(|byte| i64::from(*byte)).collect()),
    })
}

/// Decodes values of two bytes.
fn halves(dtype: DType, bytes: &[u8]) -> candle_core::Result<Vec<f32>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    Tensor::from_raw_buffer(bytes, dtype, &[bytes.len() / 2], &Device::Cpu)?.to_dtype(DType::F32)?.to_vec1()
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Values::Floats(values) => values.len(),
            Values::Ints(values) => values.len(),
        }
    }
}

impl<'a> External<'a> {
    /// Reads one `StringStringEntryProto`.
    fn read(&mut self, entry: Wire<'a>) -> Result<(), String> {
        let (mut key, mut value) = ("", "");
        for field in Fields::of(entry.bytes()?) {
            match field? {
                (1, text) => key = text.text()?,
                (2, text) => value = text.text()?,
                _ => {}
            }
        }
        let number =
            || value.parse::<u64>().map_err(|_| format!("external data: expected a number, found {value:?}"));
        match key {
            "location" => self.location = value,
            "offset" => self.offset = number()?,
            "length" => self.length = Some(number()?),
            _ => {}
        }
        Ok(())
    }

    /// Reads the bytes from the second file.
    fn load(&self, folder: &Path, bytes: usize) -> Result<Vec<u8>, String> {
        let name = self.location;
        let refuse = |problem: String| format!("its values are in the file `{name}`: {problem}");
        let is_inside = |part: Component| matches!(part, Component::Normal(_));
        if name.is_empty() || !Path::new(name).components().all(is_inside) {
            return Err(refuse("expected a path within the folder of the ONNX file".into()));
        }
        if self.length.is_some_and(|length| length != bytes as u64) {
            return Err(refuse(format!("expected {bytes} bytes, found {:?}", self.length)));
        }
        let path = folder.join(name);
        let missing = "copy this file into the folder of the ONNX file, or export with `external_data=False`";
        let metadata = path.metadata().ok().filter(|metadata| metadata.is_file());
        let size = metadata.ok_or_else(|| refuse(format!("there is no such file; {missing}")))?.len();
        if self.offset.checked_add(bytes as u64).is_none_or(|end| end > size) {
            let offset = self.offset;
            return Err(refuse(format!("expected {bytes} bytes at {offset}, found a file of {size} bytes")));
        }
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = std::fs::File::open(&path)?;
            file.seek(SeekFrom::Start(self.offset))?;
            let mut content = vec![0; bytes];
            file.read_exact(&mut content)?;
            Ok(content)
        };
        read().map_err(|error| refuse(error.to_string()))
    }
}

impl Constant {
    pub(super) fn from_floats(dims: Vec<usize>, values: Vec<f32>) -> Constant {
        Constant { dims, values: Values::Floats(values) }
    }

    pub(super) fn from_ints(values: Vec<i64>) -> Constant {
        Constant { dims: vec![values.len()], values: Values::Ints(values) }
    }

    /// The slices at some positions of a dimension.
    pub(super) fn selected(&self, axis: usize, positions: &[usize]) -> Constant {
        let inner: usize = self.dims[axis + 1..].iter().product();
        let outer: usize = self.dims[..axis].iter().product();
        let size = self.dims[axis];
        fn pick<T: Copy>(values: &[T], [outer, size, inner]: [usize; 3], positions: &[usize]) -> Vec<T> {
            let blocks =
                (0..outer).flat_map(|block| positions.iter().map(move |at| (block * size + at) * inner));
            blocks.flat_map(|start| values[start..start + inner].iter().copied()).collect()
        }
        let mut dims = self.dims.clone();
        dims[axis] = positions.len();
        let sizes = [outer, size, inner];
        let values = match &self.values {
            Values::Floats(values) => Values::Floats(pick(values, sizes, positions)),
            Values::Ints(values) => Values::Ints(pick(values, sizes, positions)),
        };
        Constant { dims, values }
    }

    pub(super) fn ints(&self) -> Option<&[i64]> {
        match &self.values {
            Values::Ints(values) => Some(values),
            Values::Floats(_) => None,
        }
    }

    /// The values as floats.
    pub(super) fn floats(&self) -> Vec<f32> {
        match &self.values {
            Values::Floats(values) => values.clone(),
            Values::Ints(values) => values.iter().map(|value| *value as f32).collect(),
        }
    }

    /// The value of a tensor with exactly one value, of any rank.
    pub(super) fn number(&self) -> Option<f32> {
        match &self.values {
            Values::Floats(values) => <[f32; 1]>::try_from(values.as_slice()).ok().map(|[value]| value),
            Values::Ints(values) => <[i64; 1]>::try_from(values.as_slice()).ok().map(|[value]| value as f32),
        }
    }
}
