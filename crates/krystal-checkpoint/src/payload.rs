//! The payload's encoding: bincode 2 with fixed-width little-endian integers. The only module that knows bincode.

use bincode::config::{self, Config};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// # Errors
/// The encoder's complaint.
pub(crate) fn encode(value: &impl Serialize) -> Result<Vec<u8>, String> {
    let encoding = config::standard().with_fixed_int_encoding();
    bincode::serde::encode_to_vec(value, encoding).map_err(|error| error.to_string())
}

/// # Errors
/// The decoder's complaint, or how many bytes were left over.
pub(crate) fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
    let encoding = config::standard().with_fixed_int_encoding();
    // A length inside the payload must not make us allocate more than the file could hold. bincode's limit is a constant of
    // the type, so take the next of a ladder. A fixed-width payload claims at most four times its length (a `char` of one
    // byte claims four).
    let most = payload.len().saturating_mul(4);
    if most <= power(12) {
        decode_with(payload, encoding.with_limit::<{ power(12) }>())
    } else if most <= power(20) {
        decode_with(payload, encoding.with_limit::<{ power(20) }>())
    } else if most <= power(24) {
        decode_with(payload, encoding.with_limit::<{ power(24) }>())
    } else if most <= power(28) {
        decode_with(payload, encoding.with_limit::<{ power(28) }>())
    } else if most <= power(32) {
        decode_with(payload, encoding.with_limit::<{ power(32) }>())
    } else {
        decode_with(payload, encoding.with_limit::<{ power(40) }>())
    }
}

fn decode_with<T: DeserializeOwned>(payload: &[u8], encoding: impl Config) -> Result<T, String> {
    let (value, read) = bincode::serde::decode_from_slice(payload, encoding).map_err(|error| error.to_string())?;
    if read == payload.len() {
        Ok(value)
    } else {
        Err(format!("expected the value to take all {} bytes of the payload, it took {read}", payload.len()))
    }
}

/// `2^exponent`, or everything where a pointer is too short for it.
const fn power(exponent: u32) -> usize {
    if exponent < usize::BITS { 1 << exponent } else { usize::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_payload_is_refused_before_it_is_allocated() {
        // A string whose length field says 2^60.
        let mut payload = (1_u64 << 60).to_le_bytes().to_vec();
        payload.extend_from_slice(b"abc");
        assert!(decode::<String>(&payload).is_err());
        assert!(decode::<Vec<u8>>(&payload).is_err());
        assert!(decode::<Vec<u64>>(&payload).is_err());
    }

    #[test]
    fn what_claims_most_still_fits_the_limit_at_every_rung() {
        for len in [0, 1, 7, 100, 1000, 5_000, 70_000, 300_000] {
            let text = "k".repeat(len);
            let chars: Vec<char> = text.chars().collect();
            assert_eq!(decode::<String>(&encode(&text).unwrap()).unwrap(), text);
            assert_eq!(decode::<Vec<char>>(&encode(&chars).unwrap()).unwrap(), chars);
            let options: Vec<Option<bool>> = (0..len).map(|i| [None, Some(true), Some(false)][i % 3]).collect();
            assert_eq!(decode::<Vec<Option<bool>>>(&encode(&options).unwrap()).unwrap(), options);
        }
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        let payload = encode(&(1_u32, 2_u32)).unwrap();
        assert!(decode::<u32>(&payload).unwrap_err().contains("all 8 bytes of the payload, it took 4"));
    }
}
