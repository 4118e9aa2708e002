//! Text from files, made harmless.

/// The text for use within HTML elements and quoted attributes. What cannot be seen, or turns the direction of what can, is
/// written as its code.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
                out.push_str(&format!("[U+{:04X}]", u32::from(c)));
            }
            c if c.is_control() => out.push_str(&format!("[U+{:04X}]", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// The first `most` characters, with dots where there were more.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_what_cannot_be_seen_become_text() {
        assert_eq!(escape(r#"<b a="x" c='y'>&amp;"#), "&lt;b a=&quot;x&quot; c=&#39;y&#39;&gt;&amp;amp;");
        assert_eq!(escape("a\u{0}\u{1b}[31m\u{202e}b\nc"), "a[U+0000][U+001B][31m[U+202E]b\nc");
    }

    #[test]
    fn long_texts_end_in_dots() {
        assert_eq!((shortened("äöü", 3), shortened("äöü!", 3)), ("äöü".to_owned(), "äöü…".to_owned()));
    }
}
