//! Writing safetensors files whose bytes depend on their content alone.
//!
//! The crate `safetensors`, which reads them, keeps the metadata in a map without order: with two entries, saving the same
//! twice would give two files with different digests.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Error;

/// A tensor to be written.
pub(crate) struct NamedTensor {
    name: String,
    /// `F32` or `F64`.
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl NamedTensor {
    pub(crate) fn f32(name: String, shape: Vec<usize>, values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name, dtype: "F32", shape, bytes }
    }

    pub(crate) fn f64(name: String, shape: Vec<usize>, values: &[f64]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name, dtype: "F64", shape, bytes }
    }
}

/// The file's bytes, laid out as the crate `safetensors` does: wider types first, then by name; the header padded to 8 bytes.
///
/// # Errors
/// [`Error::Tensors`] where two tensors have one name, or one is called as the metadata is.
pub(crate) fn encode(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    mut tensors: Vec<NamedTensor>,
) -> Result<Vec<u8>, Error> {
    const METADATA: &str = "__metadata__";
    tensors.sort_by(|x, y| y.dtype.cmp(x.dtype).then_with(|| x.name.cmp(&y.name)));
    let mut header = Map::new();
    header.insert(METADATA.to_owned(), json!(metadata));
    let mut end = 0;
    for NamedTensor { name, dtype, shape, bytes } in &tensors {
        let begin = end;
        end += bytes.len();
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]});
        if header.insert(name.clone(), entry).is_some() {
            return Err(Error::Tensors { path: path.to_owned(), reason: format!("two tensors are called `{name}`") });
        }
    }
    let mut header = Value::Object(header).to_string();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut file = Vec::with_capacity(8 + header.len() + end);
    file.extend((header.len() as u64).to_le_bytes());
    file.extend(header.as_bytes());
    tensors.iter().for_each(|tensor| file.extend(&tensor.bytes));
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::tensor::TensorView;
    use safetensors::{Dtype, SafeTensors};

    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_crate_safetensors() {
        let (small, wide) = ([1.5_f32, -0.0, f32::MIN_POSITIVE], [0.1_f64, 2.0]);
        let tensors = vec![
            NamedTensor::f32("b".to_owned(), vec![3, 1], &small),
            NamedTensor::f32("a \"quoted\"".to_owned(), vec![0], &[]),
            NamedTensor::f64("z".to_owned(), vec![2], &wide),
        ];
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let bytes = encode(Path::new("x"), &metadata, tensors).unwrap();

        let small: Vec<u8> = small.iter().flat_map(|v| v.to_le_bytes()).collect();
        let wide: Vec<u8> = wide.iter().flat_map(|v| v.to_le_bytes()).collect();
        let views = [
            ("b", TensorView::new(Dtype::F32, vec![3, 1], &small).unwrap()),
            ("z", TensorView::new(Dtype::F64, vec![2], &wide).unwrap()),
            ("a \"quoted\"", TensorView::new(Dtype::F32, vec![0], &[]).unwrap()),
        ];
        let metadata: HashMap<String, String> = metadata.into_iter().collect();
        assert_eq!(bytes, safetensors::serialize(views, Some(metadata)).unwrap());
        assert_eq!(SafeTensors::deserialize(&bytes).unwrap().tensor("z").unwrap().data(), wide);
    }

    #[test]
    fn a_name_cannot_be_used_twice() {
        let twice = || NamedTensor::f32("x".to_owned(), vec![1], &[0.0]);
        let error = encode(Path::new("x"), &BTreeMap::new(), vec![twice(), twice()]).unwrap_err();
        assert!(error.to_string().contains("two tensors are called `x`"), "{error}");
        let metadata = NamedTensor::f32("__metadata__".to_owned(), vec![1], &[0.0]);
        assert!(encode(Path::new("x"), &BTreeMap::new(), vec![metadata]).is_err());
    }
}
