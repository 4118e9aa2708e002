//! Saving and loading a value.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Header, atomic, frame, payload};

/// Writes `value` to `path`, replacing the file there in one step (see [`write_atomically`](crate::write_atomically)).
///
/// `kind` says what the file is (`trainer`, `optimizer`); `version` is the layout of the type, to be raised whenever a field
/// is added, removed, reordered or retyped, because the payload does not describe itself. Floats keep every bit, NaN
/// payloads included.
///
/// # Errors
/// [`Error::Encode`] where the value has no such encoding, [`Error::Io`] where it cannot be written; the previous file is
/// then as it was.
pub fn save(path: &Path, kind: &str, version: u32, value: &impl Serialize) -> Result<(), Error> {
    atomic::write_atomically(path, &encode(path, kind, version, value)?)
}

/// What [`save`] would write, for values inside another checkpoint: whole or refused by themselves.
///
/// # Errors
/// [`Error::Encode`] where the value has no such encoding.
pub fn to_bytes(kind: &str, version: u32, value: &impl Serialize) -> Result<Vec<u8>, Error> {
    encode(Path::new(kind), kind, version, value)
}

/// Reads what [`to_bytes`] made.
///
/// # Errors
/// As [`load`], with `kind` in the place of the file's name.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8], kind: &str, version: u32) -> Result<T, Error> {
    decode(Path::new(kind), bytes, kind, version)
}

fn encode(path: &Path, kind: &str, version: u32, value: &impl Serialize) -> Result<Vec<u8>, Error> {
    let encoded = payload::encode(value);
    let payload = encoded.map_err(|reason| Error::Encode { path: path.to_owned(), kind: kind.to_owned(), reason })?;
    Ok(frame::seal(kind, version, &payload))
}

/// Reads what [`save`] wrote, if it is whole, of this `kind` and of exactly this `version`.
///
/// Memory is bounded by the file's length, whatever the file says.
///
/// # Errors
/// One [`Error`] variant per way in which the file is not what was asked for.
pub fn load<T: DeserializeOwned>(path: &Path, kind: &str, version: u32) -> Result<T, Error> {
    let bytes = fs::read(path).map_err(|source| Error::io("read", path, source))?;
    decode(path, &bytes, kind, version)
}

/// Kind and version of the intact checkpoint at `path`, for callers that choose a type by them.
///
/// # Errors
/// As [`load`], for everything up to the checksum.
pub fn read_header(path: &Path) -> Result<Header, Error> {
    let bytes = fs::read(path).map_err(|source| Error::io("read", path, source))?;
    Ok(frame::open(path, &bytes)?.0)
}

fn decode<T: DeserializeOwned>(path: &Path, bytes: &[u8], kind: &str, version: u32) -> Result<T, Error> {
    let (header, payload) = frame::open(path, bytes)?;
    if header.kind != kind {
        return Err(Error::WrongKind { path: path.to_owned(), expected: kind.to_owned(), found: header.kind });
    }
    let (path_, found) = (path.to_owned(), header.version);
    match found.cmp(&version) {
        std::cmp::Ordering::Greater => {
            Err(Error::NewerVersion { path: path_, kind: header.kind, expected: version, found })
        }
        std::cmp::Ordering::Less => {
            Err(Error::OlderVersion { path: path_, kind: header.kind, expected: version, found })
        }
        std::cmp::Ordering::Equal => {
            payload::decode(payload).map_err(|reason| Error::Decode { path: path_, kind: header.kind, version, reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Stage {
        Warm,
        Step { index: u64, name: String },
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct State {
        stage: Stage,
        moments: Vec<f32>,
        best: Option<f64>,
        counts: BTreeMap<String, i64>,
        bytes: Vec<u8>,
    }

    fn state() -> impl Strategy<Value = State> {
        let stage = prop_oneof![
            Just(Stage::Warm),
            (any::<u64>(), any::<String>()).prop_map(|(index, name)| Stage::Step { index, name })
        ];
        (
            stage,
            prop::collection::vec(-1e30_f32..1e30, 0..40),
            prop::option::of(-1e300_f64..1e300),
            prop::collection::btree_map(any::<String>(), any::<i64>(), 0..4),
            prop::collection::vec(any::<u8>(), 0..100),
        )
            .prop_map(|(stage, moments, best, counts, bytes)| State { stage, moments, best, counts, bytes })
    }

    proptest! {
        #[test]
        fn what_is_loaded_is_what_was_saved(state in state(), kind in ".{0,12}", version: u32) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("state");
            save(&path, &kind, version, &state).unwrap();
            prop_assert_eq!(read_header(&path).unwrap(), Header { kind: kind.clone(), version });
            prop_assert_eq!(&load::<State>(&path, &kind, version).unwrap(), &state);
            let bytes = to_bytes(&kind, version, &state).unwrap();
            prop_assert_eq!(&bytes, &fs::read(&path).unwrap());
            prop_assert_eq!(from_bytes::<State>(&bytes, &kind, version).unwrap(), state);
        }

        #[test]
        fn no_bytes_make_loading_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode::<State>(Path::new("f"), &bytes, "k", 1).is_err());
            // The same behind an intact magic, and as the payload of an intact frame.
            let mut framed = frame::MAGIC.to_vec();
            framed.extend_from_slice(&bytes);
            prop_assert!(decode::<State>(Path::new("f"), &framed, "k", 1).is_err());
            let sealed = frame::seal("k", 1, &bytes);
            match decode::<State>(Path::new("f"), &sealed, "k", 1) {
                // Few random payloads are a state, and then exactly the one they encode.
                Ok(state) => prop_assert_eq!(payload::encode(&state).unwrap(), bytes),
                Err(error) => prop_assert!(matches!(error, Error::Decode { .. }), "{}", error),
            }
        }
    }

    #[test]
    fn every_bit_of_a_float_survives() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("floats");
        let bits = [0x7fc0_0001_u32, 0xffff_ffff, 0x8000_0000, 1, 0x7f80_0000];
        let floats: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
        save(&path, "floats", 1, &floats).unwrap();
        let loaded: Vec<f32> = load(&path, "floats", 1).unwrap();
        assert_eq!(loaded.iter().map(|float| float.to_bits()).collect::<Vec<_>>(), bits);
    }

    #[test]
    fn another_kind_and_other_versions_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.ckpt");
        save(&path, "trainer", 2, &5_u64).unwrap();
        let message = |kind, version| load::<u64>(&path, kind, version).unwrap_err().to_string();
        let file = path.display();
        assert_eq!(message("fleet", 2), format!("{file} holds a checkpoint of kind `trainer`, expected `fleet`"));
        assert_eq!(
            message("trainer", 1),
            format!("{file} holds version 2 of `trainer`, newer than version 1, the newest this program reads")
        );
        assert_eq!(message("trainer", 3), format!("{file} holds version 2 of `trainer`, expected version 3"));
        assert!(matches!(load::<u32>(&path, "trainer", 2), Err(Error::Decode { .. })));
    }

    #[test]
    fn a_missing_file_and_a_foreign_one_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none");
        assert!(load::<u64>(&path, "k", 1).unwrap_err().is_not_found());
        fs::write(&path, b"{\"step\": 3}").unwrap();
        let error = load::<u64>(&path, "k", 1).unwrap_err();
        assert!(matches!(&error, Error::NotACheckpoint { .. }) && !error.is_not_found(), "{error}");
    }

    #[test]
    fn a_value_that_does_not_encode_leaves_the_previous_file() {
        struct OfUnknownLength;
        impl Serialize for OfUnknownLength {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde::ser::SerializeSeq::end(serializer.serialize_seq(None)?)
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        save(&path, "k", 1, &5_u64).unwrap();
        assert!(matches!(save(&path, "k", 1, &OfUnknownLength), Err(Error::Encode { .. })));
        assert_eq!(load::<u64>(&path, "k", 1).unwrap(), 5);
    }
}
