//! The frame around a payload; the layout is in the crate's README.

use std::path::Path;

use crate::Error;

pub(crate) const MAGIC: [u8; 8] = *b"\x89KRYST\r\n";
const FORMAT_VERSION: u32 = 1;
const CHECKSUM_LEN: usize = blake3::OUT_LEN;
/// Bytes of a frame with an empty kind and an empty payload.
const LEAST_LEN: usize = MAGIC.len() + 4 + 4 + 4 + 8 + CHECKSUM_LEN;

/// What a checkpoint says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// What the file holds, as given to [`save`](crate::save).
    pub kind: String,
    /// The layout of the payload, as given to [`save`](crate::save).
    pub version: u32,
}

/// The bytes of a file: `payload` in its frame.
pub(crate) fn seal(kind: &str, version: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LEAST_LEN + kind.len() + payload.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(kind.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(kind.as_bytes());
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(payload);
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes
}

/// Header and payload of an intact frame.
///
/// The checksum is judged first, so that what an intact file says about itself can be believed and a damaged one is never
/// called a wrong kind or a newer version.
pub(crate) fn open<'a>(path: &Path, bytes: &'a [u8]) -> Result<(Header, &'a [u8]), Error> {
    let begin = &bytes[..bytes.len().min(MAGIC.len())];
    if !MAGIC.starts_with(begin) {
        return Err(Error::NotACheckpoint { path: path.to_owned(), expected: MAGIC, found: begin.to_vec() });
    }
    let truncated = |expected: u64| Error::Truncated { path: path.to_owned(), expected, found: bytes.len() as u64 };
    if bytes.len() < LEAST_LEN {
        return Err(truncated(LEAST_LEN as u64));
    }
    let (content, stored) = bytes.split_at(bytes.len() - CHECKSUM_LEN);
    let checksum = blake3::hash(content);
    let corrupted =
        || Error::Corrupted { path: path.to_owned(), expected: hex(stored), found: checksum.to_hex().to_string() };

    // Every format, now and later, begins with magic and format version and ends with the checksum of all before it.
    let mut rest = &content[MAGIC.len()..];
    let format = u32::from_le_bytes(take(&mut rest).ok_or_else(corrupted)?);
    let intact = checksum.as_bytes() == stored;
    if intact && format > FORMAT_VERSION {
        return Err(Error::NewerFormat { path: path.to_owned(), expected: FORMAT_VERSION, found: format });
    }
    let promised = promised_len(bytes);
    if !intact {
        return Err(match promised {
            Some(promised) if format == FORMAT_VERSION && promised > bytes.len() as u64 => truncated(promised),
            _ => corrupted(),
        });
    }
    if format != FORMAT_VERSION || promised != Some(bytes.len() as u64) {
        return Err(corrupted());
    }
    let kind_len = u32::from_le_bytes(take(&mut rest).ok_or_else(corrupted)?) as usize;
    let (kind, mut rest) = rest.split_at_checked(kind_len).ok_or_else(corrupted)?;
    let kind = str::from_utf8(kind).map_err(|_| corrupted())?.to_owned();
    let version = u32::from_le_bytes(take(&mut rest).ok_or_else(corrupted)?);
    let _payload_len: [u8; 8] = take(&mut rest).ok_or_else(corrupted)?;
    Ok((Header { kind, version }, rest))
}

/// Length of the whole file according to its header; `None` where the header is cut or adds up to nonsense.
fn promised_len(bytes: &[u8]) -> Option<u64> {
    let mut rest = bytes.get(MAGIC.len() + 4..)?;
    let kind_len = u32::from_le_bytes(take(&mut rest)?);
    // A header cut inside its kind still tells that more was to come.
    let Some(mut rest) = rest.get(kind_len as usize..) else {
        return (LEAST_LEN as u64).checked_add(u64::from(kind_len));
    };
    let _version: Option<[u8; 4]> = take(&mut rest);
    let payload_len = take(&mut rest).map_or(0, u64::from_le_bytes);
    (LEAST_LEN as u64).checked_add(u64::from(kind_len))?.checked_add(payload_len)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*first)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flip_of_a_byte_is_detected() {
        let whole = seal("kind", 3, b"a small payload");
        for position in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[position] ^= 1 << bit;
                let error = open(Path::new("f"), &damaged).unwrap_err();
                let detected = match position {
                    0..8 => matches!(error, Error::NotACheckpoint { .. }),
                    // A flip that makes a length longer reads as a file that is too short.
                    _ => matches!(error, Error::Corrupted { .. } | Error::Truncated { .. }),
                };
                assert!(detected, "byte {position} bit {bit}: {error}");
            }
        }
    }

    #[test]
    fn every_truncation_is_called_one() {
        let whole = seal("kind", 3, b"a small payload of some forty bytes......");
        for len in 0..whole.len() {
            let error = open(Path::new("f"), &whole[..len]).unwrap_err();
            assert!(
                matches!(error, Error::Truncated { expected, found, .. } if found == len as u64 && expected > found),
                "{len} of {}: {error}",
                whole.len()
            );
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(matches!(open(Path::new("f"), &longer), Err(Error::Corrupted { .. })));
    }

    #[test]
    fn an_intact_file_of_a_later_format_is_named_as_such() {
        let mut bytes = seal("kind", 3, b"payload");
        bytes.truncate(bytes.len() - CHECKSUM_LEN);
        bytes[8..12].copy_from_slice(&9_u32.to_le_bytes());
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        assert!(matches!(
            open(Path::new("f"), &bytes),
            Err(Error::NewerFormat { expected: FORMAT_VERSION, found: 9, .. })
        ));
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = seal("ab", 258, &[7]);
        assert_eq!(
            bytes[..31],
            [
                0x89, 0x4b, 0x52, 0x59, 0x53, 0x54, 0x0d, 0x0a, 1, 0, 0, 0, 2, 0, 0, 0, b'a', b'b', 2, 1, 0, 0, 1, 0,
                0, 0, 0, 0, 0, 0, 7
            ]
        );
        assert_eq!(bytes[31..], *blake3::hash(&bytes[..31]).as_bytes());
    }
}
