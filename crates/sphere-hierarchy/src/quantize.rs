//! Values in eight bits, for slow links.
//!
//! Each block of 256 values goes as a scale (`f32`, little-endian) and as many signed bytes: `value = scale * byte`, where the
//! scale is the largest magnitude of the block over 127. The error of a value is at most half a scale.

use crate::error::{Error, Result};

const BLOCK: usize = 256;
const LARGEST: f32 = 127.0;

/// Bytes of so many values.
fn encoded_len(n_values: usize) -> usize {
    n_values + size_of::<f32>() * n_values.div_ceil(BLOCK)
}

/// Finite values in eight bits.
pub(crate) fn encode(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(encoded_len(values.len()));
    for block in values.chunks(BLOCK) {
        let scale = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs())) / LARGEST;
        bytes.extend(scale.to_le_bytes());
        // Of a block of zeros (or of values that vanish beside 127) nothing is left.
        let quantized = |value: &f32| if scale > 0.0 { (value / scale).round_ties_even() as i8 } else { 0 };
        bytes.extend(block.iter().map(|value| quantized(value) as u8));
    }
    bytes
}

/// What [`encode`] made of `n_values`.
pub(crate) fn decode(bytes: &[u8], n_values: usize) -> Result<Vec<f32>> {
    if bytes.len() != encoded_len(n_values) {
        let (expected, found) = (encoded_len(n_values), bytes.len());
        return Err(Error::Counts { what: "bytes of values in eight bits", expected, found });
    }
    let mut values = Vec::with_capacity(n_values);
    for block in bytes.chunks(size_of::<f32>() + BLOCK) {
        let Some((scale, quantized)) = block.split_first_chunk() else { continue };
        let scale = f32::from_le_bytes(*scale);
        // Rounding may have made 127 scales of the largest f32 a little more than that.
        values.extend(quantized.iter().map(|&byte| (f32::from(byte as i8) * scale).clamp(f32::MIN, f32::MAX)));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_within_half_a_scale() {
        for n_values in [0, 1, 255, 256, 257, 1_000] {
            let values: Vec<f32> = (0..n_values).map(|i| (i as f32 * 0.7).sin() * 10.0_f32.powi(i % 9 - 4)).collect();
            let bytes = encode(&values);
            assert_eq!(bytes.len(), encoded_len(values.len()));
            let decoded = decode(&bytes, values.len()).unwrap();
            assert_eq!(decoded.len(), values.len());
            for (block, decoded) in values.chunks(BLOCK).zip(decoded.chunks(BLOCK)) {
                let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                for (value, decoded) in block.iter().zip(decoded) {
                    assert!((value - decoded).abs() <= largest / 254.0 * 1.000_01, "{value} {decoded} {largest}");
                }
            }
        }
    }

    #[test]
    fn extremes_survive() {
        for value in [0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45] {
            let decoded = decode(&encode(&[value, value / 2.0]), 2).unwrap();
            assert!((decoded[0] - value).abs() <= value.abs() * 1e-6 + 1e-43, "{value} {decoded:?}");
        }
        assert_eq!(decode(&encode(&[-127.0, 1.0, 3.4, 127.0]), 4).unwrap(), [-127.0, 1.0, 3.0, 127.0]);
    }

    #[test]
    fn other_lengths_are_refused() {
        for n_bytes in [0, 4, 6, 300] {
            assert!(matches!(decode(&vec![0; n_bytes], 1), Err(Error::Counts { expected: 5, .. })));
        }
    }
}
