//! Files that live beside the project and may be absent.

use std::collections::BTreeMap;
use std::path::PathBuf;

use safetensors::SafeTensors;

/// The families of the golden fixtures.
pub(crate) const MODELS: [&str; 5] = ["llama-gqa", "llama3-rope", "qwen2-tied", "qwen3-qknorm", "mistral-window"];

/// `relative` below the shared folder, or `None` with a line that says what was skipped.
pub(crate) fn shared(relative: &str) -> Option<PathBuf> {
    let root = std::env::var_os("KRYSTAL_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let path = root.join(relative);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {relative} is not here");
    None
}

/// A safetensors file in memory: integers and floats by name.
pub(crate) struct Golden {
    pub(crate) floats: BTreeMap<String, Vec<f32>>,
    pub(crate) ids: BTreeMap<String, (Vec<usize>, Vec<u32>)>,
}

impl Golden {
    pub(crate) fn read(path: &std::path::Path) -> Self {
        let bytes = std::fs::read(path).expect("a golden file");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        let mut golden = Self { floats: BTreeMap::new(), ids: BTreeMap::new() };
        for (name, view) in file.tensors() {
            match view.dtype() {
                safetensors::Dtype::F32 => {
                    let values =
                        view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
                    golden.floats.insert(name, values);
                }
                safetensors::Dtype::I64 => {
                    let values =
                        view.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect();
                    golden.ids.insert(name, (view.shape().to_vec(), values));
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        golden
    }
}

/// The largest difference in units of the largest expected value.
pub(crate) fn relative_error(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    got.iter().zip(expected).fold(0.0_f32, |m, (g, e)| {
        assert!(g.is_finite());
        m.max((g - e).abs())
    }) / scale
}
