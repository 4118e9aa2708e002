//! One `.safetensors` file, read and written.
//!
//! The format: eight bytes with the length of a header (little-endian), the header (JSON: name to `dtype`, `shape`,
//! `data_offsets`, and `__metadata__` with strings), then the tensors' bytes without gaps, row-major and little-endian.
//! The header is parsed here rather than by the `safetensors` crate so that every fault names its tensor; the tests read
//! the same files with that crate and demand the same answer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use rayon::prelude::*;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::json;

use crate::atomic_file;
use crate::error::{Error, Result};
use crate::mapped_file::MappedFile;

/// Longest header the format allows, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;
/// The header's length field.
const LENGTH_BYTES: usize = 8;
/// Elements that one thread converts at a time.
const CONVERT_CHUNK: usize = 1 << 16;

/// How a tensor is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl DType {
    fn named(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::Bf16),
            _ => None,
        }
    }

    fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        })
    }
}

/// Where a tensor is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorEntry {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    /// Bytes from the start of the file.
    pub(crate) bytes: Range<usize>,
}

/// An open `.safetensors` file whose header has been checked.
#[derive(Debug)]
pub(crate) struct SafetensorsFile {
    path: PathBuf,
    file: MappedFile,
    tensors: BTreeMap<String, TensorEntry>,
}

impl SafetensorsFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = MappedFile::open(path)?;
        let tensors = parse_header(&file, path)?;
        Ok(Self { path: path.to_owned(), file, tensors })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn tensors(&self) -> &BTreeMap<String, TensorEntry> {
        &self.tensors
    }

    /// The values of a tensor of this file: borrowed where they are stored as f32 at an address that allows it.
    pub(crate) fn values(&self, entry: &TensorEntry) -> Cow<'_, [f32]> {
        to_f32(&self.file[entry.bytes.clone()], entry.dtype)
    }

    /// The bytes of a tensor of this file.
    pub(crate) fn bytes(&self, entry: &TensorEntry) -> &[u8] {
        &self.file[entry.bytes.clone()]
    }
}

/// The values of little-endian bytes.
fn to_f32(bytes: &[u8], dtype: DType) -> Cow<'_, [f32]> {
    if dtype == DType::F32
        && cfg!(target_endian = "little")
        && let Ok(values) = bytemuck::try_cast_slice(bytes)
    {
        return Cow::Borrowed(values);
    }
    let width = dtype.bytes() as usize;
    let mut values = vec![0.0_f32; bytes.len() / width];
    values.par_chunks_mut(CONVERT_CHUNK).zip(bytes.par_chunks(CONVERT_CHUNK * width)).for_each(|(values, bytes)| {
        match dtype {
            DType::F32 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
            DType::F16 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = f16::from_le_bytes(*bytes).to_f32();
                }
            }
            DType::Bf16 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = bf16::from_le_bytes(*bytes).to_f32();
                }
            }
        }
    });
    Cow::Owned(values)
}

/// Checks the header of a whole file and finds its tensors.
pub(crate) fn parse_header(file: &[u8], path: &Path) -> Result<BTreeMap<String, TensorEntry>> {
    let damaged = |reason: String| Error::Safetensors { path: path.to_owned(), reason };
    let Some((length, rest)) = file.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(damaged(format!("expected at least {LENGTH_BYTES} bytes, found {}", file.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > LONGEST_HEADER {
        return Err(damaged(format!("header of {length} bytes, expected at most {LONGEST_HEADER}")));
    }
    let length = length as usize;
    if length > rest.len() {
        return Err(damaged(format!("truncated: header of {length} bytes, found {}", rest.len())));
    }
    let (header, data) = rest.split_at(length);
    let header = std::str::from_utf8(header).map_err(|error| damaged(format!("header is not UTF-8: {error}")))?;
    // The format demands it, so that a file is never taken for something else.
    if !header.starts_with('{') {
        return Err(damaged("header does not start with `{`".to_owned()));
    }
    let Header(entries) =
        serde_json::from_str(header).map_err(|error| damaged(format!("header is not valid: {error}")))?;

    let start = LENGTH_BYTES + length;
    let mut tensors = BTreeMap::new();
    for (name, entry) in entries {
        let entry = check_entry(&name, &entry, data.len() as u64, start, path)?;
        tensors.insert(name, entry);
    }
    check_cover(&tensors, start..file.len(), path)?;
    Ok(tensors)
}

fn check_entry(name: &str, entry: &RawEntry, data: u64, start: usize, path: &Path) -> Result<TensorEntry> {
    let damaged = |expected: String, found: String| {
        Err(Error::Tensor { path: path.to_owned(), tensor: name.to_owned(), expected, found })
    };
    let Some(dtype) = DType::named(&entry.dtype) else {
        return damaged("dtype F32, F16 or BF16".to_owned(), entry.dtype.clone());
    };
    let [begin, end] = entry.data_offsets;
    if begin > end {
        return damaged("data_offsets in order".to_owned(), format!("[{begin}, {end}]"));
    }
    if end > data {
        return damaged(
            format!("bytes {begin} to {end}"),
            format!("{data} bytes in all: the file is truncated or its offsets are wrong"),
        );
    }
    let size = entry.shape.iter().try_fold(dtype.bytes(), |size, &length| size.checked_mul(length));
    if size != Some(end - begin) {
        let size = size.map_or_else(|| "too many".to_owned(), |size| size.to_string());
        return damaged(format!("{size} bytes of {dtype} for shape {:?}", entry.shape), (end - begin).to_string());
    }
    // Every length divides a size that fits, or the tensor is empty.
    let shape = entry.shape.iter().map(|&length| usize::try_from(length).unwrap_or(usize::MAX)).collect();
    Ok(TensorEntry { dtype, shape, bytes: start + begin as usize..start + end as usize })
}

/// Tensors must follow one another without gap or overlap from the end of the header to the end of the file.
fn check_cover(tensors: &BTreeMap<String, TensorEntry>, data: Range<usize>, path: &Path) -> Result<()> {
    let mut order: Vec<_> = tensors.iter().map(|(name, entry)| (entry.bytes.start, entry.bytes.end, name)).collect();
    order.sort_unstable();
    let mut covered = data.start;
    for (begin, end, name) in order {
        if begin != covered {
            let problem = if begin < covered { "overlaps the tensor before it" } else { "leaves a gap before it" };
            return Err(Error::Tensor {
                path: path.to_owned(),
                tensor: name.clone(),
                expected: format!("data from byte {}", covered - data.start),
                found: format!("{}: it {problem}", begin - data.start),
            });
        }
        covered = end;
    }
    if covered != data.end {
        let (used, found) = (covered - data.start, data.len());
        let reason = format!("tensors take {used} bytes, found {found}");
        return Err(Error::Safetensors { path: path.to_owned(), reason });
    }
    Ok(())
}

/// One entry of the header as it is written.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The header without its metadata. Unlike a map it refuses a name given twice, of which a map would keep one.
struct Header(Vec<(String, RawEntry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct HeaderVisitor;

        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with an entry for each tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header, A::Error> {
                let mut names = std::collections::BTreeSet::new();
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format!("`{name}` is given twice")));
                    }
                    if name == "__metadata__" {
                        map.next_value::<Option<BTreeMap<String, String>>>()?;
                    } else {
                        let entry = map.next_value().map_err(|error| A::Error::custom(format!("`{name}`: {error}")))?;
                        entries.push((name, entry));
                    }
                }
                Ok(Header(entries))
            }
        }

        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// Writes an f32 file as transformers does (`format: pt`), whole or not at all. The caller has checked that each
/// tensor has as many values as its shape.
pub(crate) fn write(path: &Path, tensors: &[(String, Vec<usize>, &[f32])]) -> Result<()> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut offset = 0;
    for (name, shape, values) in tensors {
        let end = offset + size_of_val(*values);
        header.insert(name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": [offset, end]}));
        offset = end;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    // Data then starts at a multiple of eight, so that it can be used where it is mapped.
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    atomic_file::write(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for (_, _, values) in tensors {
            if cfg!(target_endian = "little") {
                file.write_all(bytemuck::cast_slice(values))?;
            } else {
                for value in *values {
                    file.write_all(&value.to_le_bytes())?;
                }
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests;
