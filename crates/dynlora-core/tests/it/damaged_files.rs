use std::fs;

use dynlora_core::{CONFIG_FILE, Error, LoraAdapter, LoraConfig, TENSORS_FILE, stored_shapes};
use proptest::prelude::*;

use crate::{shape, trained};

fn small() -> ([dynlora_core::ModuleShape; 2], tempfile::TempDir) {
    let shapes = [shape("m.q_proj", 3, 2), shape("m.k_proj", 3, 1)];
    let directory = tempfile::tempdir().unwrap();
    trained(LoraConfig { r: 2, ..LoraConfig::default() }, &shapes, 3).save(directory.path(), None).unwrap();
    (shapes, directory)
}

#[test]
fn every_truncation_of_the_tensors_is_detected() {
    let (shapes, directory) = small();
    let path = directory.path().join(TENSORS_FILE);
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        let error = LoraAdapter::load(directory.path(), &shapes).unwrap_err();
        assert!(matches!(error, Error::Tensors { .. }), "{len}: {error}");
        assert!(error.to_string().contains(TENSORS_FILE) && !error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn every_truncation_of_the_configuration_is_detected() {
    let (shapes, directory) = small();
    let path = directory.path().join(CONFIG_FILE);
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        let error = LoraAdapter::load(directory.path(), &shapes).unwrap_err();
        assert!(matches!(error, Error::ConfigSyntax { .. }), "{len}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damage_never_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        in_config: bool,
        garbage in prop::collection::vec(any::<u8>(), 0..200),
        replace in prop::option::weighted(0.2, any::<bool>()),
    ) {
        let (shapes, directory) = small();
        let path = directory.path().join(if in_config { CONFIG_FILE } else { TENSORS_FILE });
        let mut bytes = fs::read(&path).unwrap();
        if replace.is_some() {
            bytes = garbage;
        } else {
            for (index, byte) in edits {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
        }
        fs::write(&path, &bytes).unwrap();
        // Damage to a value itself cannot be seen, but then every factor still has its size.
        if let Ok(adapter) = LoraAdapter::load(directory.path(), &shapes) {
            for module in &adapter.modules {
                prop_assert_eq!(module.a.len(), module.rank * module.d_in);
                prop_assert_eq!(module.b.len(), module.rank * module.d_out);
            }
        }
        drop(stored_shapes(directory.path()));
    }
}
