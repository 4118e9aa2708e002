//! The vocabulary: token ids are used directly, there is no tokenizer.

/// Ends the question.
pub const ASK: u32 = 0;
/// Ends an answer of several tokens.
pub const END: u32 = 1;
/// "The string belongs to the language."
pub const YES: u32 = 2;
/// "It does not."
pub const NO: u32 = 3;
/// Letters: eight lower-case ones, then the same in upper case.
pub const LETTERS: u32 = 4;
/// How many letters have two cases.
pub const ALPHABET: u32 = 8;
/// Numbers 0 to 15.
pub const NUMBERS: u32 = 20;
/// `( ) [ ]`.
pub const BRACKETS: u32 = 36;
/// Tags of the streams' tasks. While the base model is trained each is another name of one of its tasks: a stream gives it
/// a new meaning.
pub const STREAM_TAGS: u32 = 40;
/// Tags of the tasks the base model is trained on.
pub const BASE_TAGS: u32 = 56;
/// Tokens.
pub const VOCABULARY: usize = 100;

/// The lower- or upper-case letter at `index` (0 to 15).
pub fn letter(index: u32) -> u32 {
    LETTERS + index
}

/// The number `value` (0 to 15).
pub fn number(value: u32) -> u32 {
    NUMBERS + value
}
