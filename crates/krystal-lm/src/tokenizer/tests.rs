use std::fs;

use proptest::prelude::*;

use super::*;
use crate::fixture::{MODELS, shared};

type TestResult = std::result::Result<(), Box<dyn std::error::Error>>;

/// The byte-level tokenizer of the fixtures.
fn byte_level() -> Option<Tokenizer> {
    shared("fixtures/hf/qwen2-tied").map(|folder| Tokenizer::load(&folder).expect("the fixture loads"))
}

#[test]
fn the_fixtures_give_the_recorded_ids() -> TestResult {
    let Some(root) = shared("fixtures/hf") else { return Ok(()) };
    let cases: Value = serde_json::from_str(&fs::read_to_string(root.join("tokenizer_cases.json"))?)?;
    let cases = cases.as_array().ok_or("cases are a list")?;
    assert!(!cases.is_empty());
    for model in MODELS {
        let tokenizer = Tokenizer::load(&root.join(model))?;
        for case in cases {
            let text = case["text"].as_str().ok_or("a case has a text")?;
            let expected: Vec<u32> = serde_json::from_value(case["ids"].clone())?;
            assert_eq!(tokenizer.encode(text, true)?, expected, "{text:?}");
            assert_eq!(tokenizer.encode(text, false)?, expected, "{text:?}");
            assert_eq!(tokenizer.decode(&expected, false)?, text);
            assert_eq!(streamed(&tokenizer, &expected, false)?, text);
        }
        assert_eq!(
            (tokenizer.bos(), tokenizer.eos(), tokenizer.pad(), tokenizer.unk()),
            (None, Some(2), Some(0), None)
        );
        assert_eq!(tokenizer.vocab_size(), 384);
        assert_eq!((tokenizer.id("<|im_start|>"), tokenizer.id("no such token")), (Some(1), None));
        assert_eq!(tokenizer.token(1).as_deref(), Some("<|im_start|>"));
        assert!(tokenizer.is_special(1) && !tokenizer.is_special(3) && !tokenizer.is_special(999));
    }
    Ok(())
}

#[test]
fn special_tokens_are_one_token_and_can_be_left_out() -> TestResult {
    let Some(tokenizer) = byte_level() else { return Ok(()) };
    let ids = tokenizer.encode("<|im_start|>user\nhi<|im_end|>", false)?;
    assert_eq!((ids.first(), ids.last()), (Some(&1), Some(&2)));
    assert_eq!(tokenizer.decode(&ids, false)?, "<|im_start|>user\nhi<|im_end|>");
    assert_eq!(tokenizer.decode(&ids, true)?, "user\nhi");
    // Ids of the embedding's padding have no text.
    assert_eq!(tokenizer.decode(&[ids[1], 100_000, u32::MAX], true)?, tokenizer.decode(&[ids[1]], true)?);
    Ok(())
}

/// The text of a stream; no piece may end within a character.
fn streamed(tokenizer: &Tokenizer, ids: &[u32], skip_special: bool) -> Result<String> {
    let mut stream = tokenizer.stream(skip_special);
    let mut text = String::new();
    for &id in ids {
        let piece = stream.push(id)?;
        assert!(!piece.ends_with('\u{FFFD}'), "half a character was emitted");
        text.push_str(&piece);
    }
    text.push_str(&stream.finish()?);
    Ok(text)
}

#[test]
fn a_stream_holds_back_half_characters_alone() -> TestResult {
    let Some(tokenizer) = byte_level() else { return Ok(()) };
    // No token of this vocabulary spans the bytes of the emoji.
    let ids = tokenizer.encode("a\u{1F600}b", false)?;
    assert_eq!(ids.len(), 6);
    let mut stream = tokenizer.stream(false);
    let pieces: Vec<_> = ids.iter().map(|&id| stream.push(id)).collect::<Result<_>>()?;
    assert_eq!(pieces, ["a", "", "", "", "\u{1F600}", "b"]);
    assert_eq!(stream.finish()?, "");
    // A character that never comes is shown as what it is in the end.
    let mut stream = tokenizer.stream(false);
    let pieces: Vec<_> = ids[..3].iter().map(|&id| stream.push(id)).collect::<Result<_>>()?;
    assert_eq!(pieces, ["a", "", ""]);
    assert_eq!(stream.finish()?, tokenizer.decode(&ids[1..3], false)?);
    Ok(())
}

proptest! {
    #[test]
    fn byte_level_tokens_give_the_text_back(text in "\\PC{0,40}|[ \\n\\t\\r]{0,10}|(a|é|漢|\u{1F600}|\u{FFFD}| |\\n){0,20}") {
        let Some(tokenizer) = byte_level() else { return Ok(()) };
        let ids = tokenizer.encode(&text, false)?;
        prop_assert_eq!(&tokenizer.decode(&ids, false)?, &text);
        let mut stream = tokenizer.stream(false);
        let mut pieces = String::new();
        for &id in &ids {
            pieces.push_str(&stream.push(id)?);
        }
        pieces.push_str(&stream.finish()?);
        prop_assert_eq!(pieces, text);
    }

    #[test]
    fn a_stream_of_any_tokens_is_their_decoding(ids in prop::collection::vec(0_u32..400, 0..40), skip in any::<bool>()) {
        let Some(tokenizer) = byte_level() else { return Ok(()) };
        prop_assert_eq!(streamed(&tokenizer, &ids, skip)?, tokenizer.decode(&ids, skip)?);
    }
}

/// A tokenizer of the SentencePiece kind: spaces are `▁`, unknown characters fall back to bytes, and the first word gets a
/// space that decoding takes away.
fn sentence_piece(folder: &Path) -> TestResult {
    let mut vocabulary = Map::new();
    for token in ["<unk>", "<s>", "</s>"] {
        vocabulary.insert(token.to_owned(), json!(vocabulary.len()));
    }
    for byte in 0..=255_u8 {
        vocabulary.insert(format!("<0x{byte:02X}>"), json!(vocabulary.len()));
    }
    for token in ["\u{2581}", "a", "b", "\u{2581}a", "ab", "\u{2581}ab"] {
        vocabulary.insert(token.to_owned(), json!(vocabulary.len()));
    }
    let added = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "<unk>"},
        "added_tokens": [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": 0.9, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocabulary,
            "merges": [["\u{2581}", "a"], ["a", "b"], ["\u{2581}a", "b"]]},
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string())?;
    fs::write(
        folder.join("special_tokens_map.json"),
        r#"{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "unk_token": "<unk>"}"#,
    )?;
    Ok(())
}

#[test]
fn dropout_truncation_and_padding_of_a_file_are_off() -> TestResult {
    let folder = tempfile::tempdir()?;
    sentence_piece(folder.path())?;
    let tokenizer = Tokenizer::load(folder.path())?;
    let ids =
        ["<s>", "\u{2581}ab", "\u{2581}ab", "\u{2581}ab", "\u{2581}ab"].map(|token| tokenizer.id(token).unwrap_or(0));
    for _ in 0..20 {
        assert_eq!(tokenizer.encode("ab ab ab ab", true)?, ids);
    }
    assert_eq!(tokenizer.encode("ab ab ab ab", false)?, ids[1..]);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.unk(), tokenizer.pad()), (Some(1), Some(2), Some(0), None));
    Ok(())
}

#[test]
fn a_stream_keeps_spaces_and_joins_bytes() -> TestResult {
    let folder = tempfile::tempdir()?;
    sentence_piece(folder.path())?;
    let tokenizer = Tokenizer::load(folder.path())?;
    for text in ["ab a b", "a \u{1F600} b", "\u{1F600}", "  a", "é\u{1F600}漢 ab"] {
        let ids = tokenizer.encode(text, true)?;
        assert_eq!(streamed(&tokenizer, &ids, true)?, text);
    }
    // A space after special tokens that are not shown is a space all the same.
    let ids = ["\u{2581}a", "</s>", "</s>", "\u{2581}a"].map(|token| tokenizer.id(token).unwrap_or(0));
    assert_eq!(streamed(&tokenizer, &ids, true)?, "a a");
    Ok(())
}

const ALPHABET: &str = "0123456789+-= \n\u{E9}\u{1F600}";

#[test]
fn characters_are_tokens() -> TestResult {
    let tokenizer = Tokenizer::characters(ALPHABET, &["<think>"])?;
    assert_eq!((tokenizer.pad(), tokenizer.eos(), tokenizer.unk(), tokenizer.bos()), (Some(0), Some(1), Some(2), None));
    assert_eq!(tokenizer.vocab_size(), 4 + ALPHABET.chars().count());
    let ids = tokenizer.encode("12+3=\n\u{1F600}x<think><eos>", true)?;
    assert_eq!(ids, [5, 6, 14, 7, 16, 18, 20, 2, 3, 1]);
    assert_eq!(tokenizer.decode(&ids, true)?, "12+3=\n\u{1F600}");
    assert_eq!(tokenizer.decode(&ids, false)?, "12+3=\n\u{1F600}<unk><think><eos>");
    assert_eq!(streamed(&tokenizer, &ids, true)?, "12+3=\n\u{1F600}");
    for character in ALPHABET.chars() {
        let text = character.to_string();
        assert_eq!(tokenizer.decode(&tokenizer.encode(&text, true)?, true)?, text);
    }
    assert_eq!(tokenizer.encode("", true)?, [0_u32; 0]);
    Ok(())
}

#[test]
fn what_is_saved_loads_again() -> TestResult {
    let folder = tempfile::tempdir()?;
    let directory = folder.path().join("new");
    let tokenizer = Tokenizer::characters(ALPHABET, &["<think>"])?;
    tokenizer.save(&directory)?;
    let text = "1+\u{E9}?<think>";
    let copy = folder.path().join("copy");
    for from in [&directory, &copy] {
        let loaded = Tokenizer::load(from)?;
        assert_eq!(loaded.encode(text, true)?, tokenizer.encode(text, true)?);
        assert_eq!((loaded.pad(), loaded.eos(), loaded.unk()), (Some(0), Some(1), Some(2)));
        assert_eq!(loaded.vocab_size(), tokenizer.vocab_size());
        if from == &directory {
            loaded.save(&copy)?;
        }
    }
    assert_eq!(fs::read(directory.join("tokenizer.json"))?, fs::read(copy.join("tokenizer.json"))?);
    assert_eq!(fs::read(directory.join("tokenizer_config.json"))?, fs::read(copy.join("tokenizer_config.json"))?);
    Ok(())
}

#[test]
fn files_are_copied_as_they_are() -> TestResult {
    let folder = tempfile::tempdir()?;
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    Tokenizer::characters("ab", &[])?.save(&from)?;
    fs::write(from.join("chat_template.jinja"), "{{ messages }}")?;
    fs::write(from.join("model.safetensors"), "not a part of the tokenizer")?;
    let copied = copy_tokenizer_files(&from, &to)?;
    assert!(copied.iter().eq(["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]));
    for name in &copied {
        assert_eq!(fs::read(from.join(name))?, fs::read(to.join(name))?);
    }
    assert_eq!(fs::read_dir(&to)?.count(), 3);
    let error = copy_tokenizer_files(&folder.path().join("nowhere"), &to).unwrap_err().to_string();
    assert!(error.ends_with("nowhere/tokenizer.json: missing; there is no tokenizer to copy"), "{error}");
    Ok(())
}

#[test]
fn alphabets_that_cannot_be_are_refused() {
    for (alphabet, specials, message) in [
        ("aba", vec![], "\"a\" is given twice"),
        ("ab", vec!["<eos>"], "\"<eos>\" is given twice"),
        ("ab", vec!["b"], "\"b\" is given twice"),
        ("ab", vec![""], "\"\" is not a token"),
    ] {
        let error = Tokenizer::characters(alphabet, &specials).unwrap_err().to_string();
        assert_eq!(error, format!("character tokenizer: {message}"));
    }
}

#[test]
fn missing_and_damaged_files_are_named() -> TestResult {
    let folder = tempfile::tempdir()?;
    let error = || {
        let error = Tokenizer::load(folder.path()).unwrap_err().to_string();
        error.replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(error(), "tokenizer.json: missing; a model folder needs its tokenizer");
    fs::write(folder.path().join("tokenizer.model"), "")?;
    assert_eq!(
        error(),
        "tokenizer.json: missing; only a SentencePiece tokenizer.model was found, which must be converted first"
    );
    fs::write(folder.path().join("tokenizer.json"), r#"{"version": "1.0"}"#)?;
    assert_eq!(error(), "tokenizer.json: cannot read the tokenizer");
    fs::write(folder.path().join("tokenizer.json"), "{")?;
    assert_eq!(error(), "tokenizer.json: not a JSON object");
    Tokenizer::characters("ab", &[])?.save(folder.path())?;
    fs::write(folder.path().join("tokenizer_config.json"), r#"{"eos_token": "</s>"}"#)?;
    assert_eq!(error(), "tokenizer_config.json: `eos_token` is \"</s>\", which is not in the vocabulary");
    fs::write(folder.path().join("tokenizer_config.json"), r#"{"eos_token": 3}"#)?;
    assert_eq!(
        error(),
        "tokenizer_config.json: field `eos_token`: expected a token, an object with its content, or null, found 3"
    );
    // A token with a role is special even where tokenizer.json does not say so.
    fs::write(folder.path().join("tokenizer_config.json"), r#"{"eos_token": {"content": "a"}}"#)?;
    let tokenizer = Tokenizer::load(folder.path())?;
    assert_eq!(tokenizer.eos(), tokenizer.id("a"));
    assert_eq!(tokenizer.decode(&tokenizer.encode("aba", true)?, true)?, "b");
    Ok(())
}

#[test]
fn every_truncation_of_a_tokenizer_is_an_error() -> TestResult {
    let folder = tempfile::tempdir()?;
    Tokenizer::characters("ab", &[])?.save(folder.path())?;
    let text = fs::read(folder.path().join("tokenizer.json"))?;
    let path = || PathBuf::from("tokenizer.json");
    assert!(Tokenizer::new(&text, path(), TokenizerConfig::default()).is_ok());
    for end in 0..text.len() {
        assert!(Tokenizer::new(&text[..end], path(), TokenizerConfig::default()).is_err());
    }
    Ok(())
}

#[test]
fn any_part_of_a_tokenizer_may_be_wrong() -> TestResult {
    let folder = tempfile::tempdir()?;
    sentence_piece(folder.path())?;
    let whole: Value = serde_json::from_slice(&fs::read(folder.path().join("tokenizer.json"))?)?;
    let parts = ["normalizer", "pre_tokenizer", "post_processor", "decoder", "model", "added_tokens", "truncation"];
    let mut read = 0;
    for part in parts {
        for value in
            [json!(null), json!(3), json!("x"), json!([]), json!([1]), json!({}), json!({"type": "Precompiled"})]
        {
            let mut tokenizer = whole.clone();
            tokenizer[part] = value;
            let path = PathBuf::from("tokenizer.json");
            // Read or refused, but no panic; and what was read can be used.
            if let Ok(tokenizer) = Tokenizer::new(tokenizer.to_string().as_bytes(), path, TokenizerConfig::default()) {
                let _ = tokenizer.encode("ab ab", true).and_then(|ids| tokenizer.decode(&ids, true));
                read += 1;
            }
        }
    }
    assert!(read > 0);
    Ok(())
}
