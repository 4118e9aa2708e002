//! A template's text, changed where Jinja2 as transformers sets it up reads it otherwise than minijinja does.

/// What is compiled in the place of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AdaptedSource {
    pub(super) text: String,
    /// Lines of `text` (from 1) at whose end a line break was taken out, in order.
    joined: Vec<usize>,
}

impl AdaptedSource {
    /// Two things are changed:
    /// - `{% generation %}` and `{% endgeneration %}`, which mark what the assistant wrote and render as what is between
    ///   them, become `{% if true %}` and `{% endif %}`;
    /// - a backslash before a line break within a string, which in Python joins the lines, is taken out with the break.
    pub(super) fn new(source: &str) -> Self {
        let mut adapted = Self { text: String::with_capacity(source.len()), joined: Vec::new() };
        let mut rest = source;
        while let Some(at) = rest.find("{").filter(|&at| at + 1 < rest.len()) {
            let (before, tag) = rest.split_at(at);
            adapted.text.push_str(before);
            rest = match tag.as_bytes()[1] {
                b'#' => adapted.copy_through(tag, "#}"),
                b'%' => adapted.copy_block(tag),
                b'{' => adapted.copy_tag(tag, "}}"),
                _ => adapted.copy_bytes(tag, 1),
            };
        }
        adapted.text.push_str(rest);
        adapted
    }

    /// The line of the original that a line of `text` comes from.
    pub(super) fn original_line(&self, line: usize) -> usize {
        line + self.joined.iter().filter(|&&joined| joined < line).count()
    }

    fn copy_bytes<'s>(&mut self, from: &'s str, bytes: usize) -> &'s str {
        let (copied, rest) = from.split_at(bytes);
        self.text.push_str(copied);
        rest
    }

    /// Copies up to and with `end`, or everything where it is not there.
    fn copy_through<'s>(&mut self, from: &'s str, end: &str) -> &'s str {
        self.copy_bytes(from, from.find(end).map_or(from.len(), |at| at + end.len()))
    }

    /// Copies a `{% .. %}`, and what follows it where it begins raw text.
    fn copy_block<'s>(&mut self, tag: &'s str) -> &'s str {
        let body = tag[2..].trim_start_matches(['-', '+']).trim_start();
        let head = tag.len() - body.len();
        for (word, replacement) in [("generation", "if true"), ("endgeneration", "endif"), ("raw", "raw")] {
            let Some(after) = body.strip_prefix(word) else { continue };
            if !after.trim_start().trim_start_matches(['-', '+']).starts_with("%}") {
                continue;
            }
            self.copy_bytes(tag, head);
            self.text.push_str(replacement);
            let rest = self.copy_through(after, "%}");
            return if word == "raw" { self.copy_bytes(rest, rest.find("endraw").unwrap_or(rest.len())) } else { rest };
        }
        self.copy_tag(tag, "%}")
    }

    /// Copies a tag that ends with `end`, joining the lines of its strings.
    fn copy_tag<'s>(&mut self, tag: &'s str, end: &str) -> &'s str {
        let mut rest = self.copy_bytes(tag, 2);
        let mut quote = None;
        let mut open_braces = 0_usize;
        while let Some(character) = rest.chars().next() {
            let mut width = character.len_utf8();
            match (quote, character) {
                (None, '\'' | '"') => quote = Some(character),
                (None, _) if open_braces == 0 && rest.starts_with(end) => return self.copy_bytes(rest, end.len()),
                (None, '{') => open_braces += 1,
                (None, '}') => open_braces = open_braces.saturating_sub(1),
                (Some(_), '\\') => {
                    let escaped = &rest[1..];
                    if let Some(joined) = escaped.strip_prefix("\r\n").or_else(|| escaped.strip_prefix('\n')) {
                        self.joined.push(self.text.matches('\n').count() + 1);
                        rest = joined;
                        continue;
                    }
                    width += escaped.chars().next().map_or(0, char::len_utf8);
                }
                (Some(open), _) if character == open => quote = None,
                _ => {}
            }
            rest = self.copy_bytes(rest, width);
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        assert_eq!(AdaptedSource::new(source).text, expected);
    }

    #[test]
    fn generation_tags_are_conditions() {
        check(
            "a{% generation %}b{%-  endgeneration\n-%}c{%+ generation +%}",
            "a{% if true %}b{%-  endif\n-%}c{%+ if true +%}",
        );
        check("{% set generation = 1 %}{% generations %}", "{% set generation = 1 %}{% generations %}");
    }

    #[test]
    fn strings_are_joined_over_lines() {
        check("{{ 'a\\\nb\\\\\nc\\'\\\r\nd' }}\\\n'\\\n", "{{ 'ab\\\\\nc\\'d' }}\\\n'\\\n");
        check("{% set x = {'a': {'b': \"}}\\\n%}\"}} %}\\\n", "{% set x = {'a': {'b': \"}}%}\"}} %}\\\n");
        check("{{ {'a': {}} ~ '\\\n' }}", "{{ {'a': {}} ~ '' }}");
        check("{# '\\\n #}{% raw %}{{ '\\\n' }}{% endraw %}", "{# '\\\n #}{% raw %}{{ '\\\n' }}{% endraw %}");
    }

    #[test]
    fn lines_of_the_original_are_known() {
        let source = AdaptedSource::new("1\n{{ 'a\\\nb\\\nc' }}\n5\n{{ '\\\n' }}\n8");
        assert_eq!(source.text, "1\n{{ 'abc' }}\n5\n{{ '' }}\n8");
        let lines: Vec<_> = (1..=5).map(|line| source.original_line(line)).collect();
        assert_eq!(lines, [1, 2, 5, 6, 8]);
    }

    proptest! {
        #[test]
        fn other_text_is_left_alone(source in "([{}%#'\"\\\\ a-]|\u{E9}|generation|raw){0,40}") {
            let adapted = AdaptedSource::new(&source);
            if !source.contains("generation") {
                prop_assert_eq!(adapted.text, source);
            }
        }
    }
}
