//! BLAKE3 digests of content: every part framed by its length, every kind of content under a tag of its own, so that no two
//! contents have the same bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

/// A BLAKE3 digest that names a content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 32]);

/// A BLAKE3 digest that names the content of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub [u8; 32]);

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hexadecimal digits in lower case, found `{0}`")]
pub struct NotADigest(pub String);

// As text both are 64 hexadecimal digits in lower case: in messages, in JSON and in the metadata of tensor files.
macro_rules! digest_as_text {
    ($digest:ident) => {
        impl fmt::Display for $digest {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $digest {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($digest))
            }
        }

        impl FromStr for $digest {
            type Err = NotADigest;

            fn from_str(text: &str) -> Result<Self, NotADigest> {
                digest_from_text(text).map(Self)
            }
        }

        impl Serialize for $digest {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $digest {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

digest_as_text!(ContentHash);
digest_as_text!(SnapshotId);

fn digest_from_text(text: &str) -> Result<[u8; 32], NotADigest> {
    let wrong = || NotADigest(text.chars().take(80).collect());
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(wrong()),
    };
    let digits: [u8; 64] = text.as_bytes().try_into().map_err(|_| wrong())?;
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Ok(digest)
}

impl ContentHash {
    /// The digest of a file or other string of bytes, as `b3sum` prints it.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// Digests a content part by part. Numbers are little-endian, floats go in by their bits.
#[derive(Debug, Clone)]
pub struct ContentHasher {
    inner: blake3::Hasher,
    /// What was added and not digested yet, less than [`BLOCK`].
    block: Vec<u8>,
}

/// BLAKE3 digests many KiB at once, but only where they begin at a multiple of their number. The lengths between the parts
/// would put everything off its place: parts are gathered first.
const BLOCK: usize = 1 << 16;

impl ContentHasher {
    /// A digest of one kind of content; `tag` tells it from all other kinds.
    pub fn new(tag: &str) -> Self {
        let mut hasher = Self { inner: blake3::Hasher::new(), block: Vec::new() };
        hasher.text(tag);
        hasher
    }

    /// Adds bytes, framed by their number.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.add(&(bytes.len() as u64).to_le_bytes());
        self.add(bytes);
        self
    }

    /// Adds a text, as [`bytes`](Self::bytes) does.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Adds a number: 8 bytes.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.add(&number.to_le_bytes());
        self
    }

    /// Adds floats by their bits, framed by the number of their bytes.
    pub fn floats(&mut self, values: &[f32]) -> &mut Self {
        self.floats_if_finite(values);
        self
    }

    /// As [`floats`](Self::floats); says whether all of them are finite. Block by block, so that both questions read memory
    /// once.
    pub(crate) fn floats_if_finite(&mut self, values: &[f32]) -> bool {
        self.number(size_of_val(values) as u64);
        let mut all = true;
        for block in values.chunks(BLOCK / 8) {
            // Without a branch in the loop.
            all &= block.iter().fold(true, |all, value| all & value.is_finite());
            if cfg!(target_endian = "little") {
                self.add(bytemuck::cast_slice(block));
            } else {
                block.iter().for_each(|value| self.add(&value.to_le_bytes()));
            }
        }
        all
    }

    /// Adds floats by their bits, framed by the number of their bytes.
    pub fn doubles(&mut self, values: &[f64]) -> &mut Self {
        self.number(size_of_val(values) as u64);
        for value in values {
            self.add(&value.to_le_bytes());
        }
        self
    }

    /// Adds another digest: 32 bytes.
    pub fn digest(&mut self, digest: ContentHash) -> &mut Self {
        self.add(&digest.0);
        self
    }

    fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            if self.block.len() == BLOCK {
                self.inner.update(&self.block);
                self.block.clear();
            }
            bytes = later;
        }
    }

    /// The digest of all that was added.
    pub fn finish(&self) -> ContentHash {
        ContentHash(*self.inner.clone().update(&self.block).finalize().as_bytes())
    }
}

/// A JSON value as text that depends on the value alone: keys sorted by their bytes at every depth, no white space, floats in
/// their shortest form that reads back the same.
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_unstable_by_key(|(key, _)| key.as_bytes());
            text.push('{');
            for (i, (key, field)) in fields.into_iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonical(field, text);
            }
            text.push('}');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn digests_are_those_of_blake3_and_read_back_from_text() {
        // The digest of no bytes, from the test vectors of BLAKE3.
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(ContentHash::of_bytes(b"").to_string(), empty);
        assert_eq!(empty.parse::<ContentHash>().unwrap(), ContentHash::of_bytes(b""));
        assert_eq!(serde_json::from_str::<SnapshotId>(&format!("\"{empty}\"")).unwrap().to_string(), empty);
        for wrong in ["", "af", &empty.to_uppercase(), &format!("{empty}0"), &"é".repeat(32)] {
            assert!(wrong.parse::<ContentHash>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_digest_of_parts_is_that_of_their_frames() {
        let mut bytes = Vec::new();
        bytes.extend(3_u64.to_le_bytes());
        bytes.extend(b"tag");
        bytes.extend(7_u64.to_le_bytes());
        bytes.extend(8_u64.to_le_bytes());
        bytes.extend(1.5_f32.to_le_bytes());
        bytes.extend((-0.0_f32).to_le_bytes());
        bytes.extend(8_u64.to_le_bytes());
        bytes.extend(0.1_f64.to_le_bytes());
        let framed = ContentHasher::new("tag").number(7).floats(&[1.5, -0.0]).doubles(&[0.1]).finish();
        assert_eq!(framed, ContentHash::of_bytes(&bytes));
        // Long parts as well, whatever they begin at.
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK - 40, 5 * BLOCK + 7] {
            let long: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut framed = [&3_u64.to_le_bytes()[..], b"tag"].concat();
            for _ in 0..2 {
                framed.extend((length as u64).to_le_bytes());
                framed.extend(&long);
            }
            let digest = ContentHasher::new("tag").bytes(&long).bytes(&long).finish();
            assert_eq!(digest, ContentHash::of_bytes(&framed), "{length}");
        }
        // Parts cannot trade bytes.
        let apart = |a: &str, b: &str| ContentHasher::new("x").text(a).text(b).finish();
        assert_ne!(apart("ab", "c"), apart("a", "bc"));
    }

    #[test]
    fn json_is_canonical_at_every_depth() {
        let value = json!({"b": [1, {"z": 0.1, "a": null}], "a": "quo\"te", "é": -0.0, "B": 1e300});
        let text = canonical_json(&value);
        assert_eq!(text, r#"{"B":1e+300,"a":"quo\"te","b":[1,{"a":null,"z":0.1}],"é":-0.0}"#);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
