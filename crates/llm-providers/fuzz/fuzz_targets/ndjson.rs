#![no_main]
//! Lines of JSON, against a splitting of the whole body.

use libfuzzer_sys::fuzz_target;
use llm_providers::decode::NdjsonDecoder;
use llm_providers_fuzz::cuts;

fuzz_target!(|data: &[u8]| {
    let mut lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).collect();
    let rest = lines.pop().unwrap_or_default();
    lines.retain(|line| !line.is_empty());
    for pieces in cuts(data) {
        let mut seen: Vec<Vec<u8>> = Vec::new();
        let mut decoder = NdjsonDecoder::new(1 << 20);
        for piece in pieces {
            let pushed = decoder.push(piece, |line| {
                seen.push(line.to_vec());
                Ok(())
            });
            pushed.expect("below the limit");
        }
        assert_eq!(seen, lines);
        assert_eq!(decoder.rest(), rest);
    }
});
