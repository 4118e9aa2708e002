//! `tojson` as chat templates have it: Python's `json.dumps` with `ensure_ascii=False`, and no HTML escapes.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// Values nested deeper than this are refused; Python gives up near 1000.
const DEEPEST: usize = 200;

/// How `json.dumps` was asked to write.
struct Style {
    ensure_ascii: bool,
    /// One level's indentation; `None` writes everything on one line.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

/// The filter: `value | tojson(ensure_ascii=.., indent=.., separators=.., sort_keys=..)`.
pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<Value> = options.get("indent")?;
    let indent = match indent {
        Some(indent) if indent.kind() == ValueKind::String => indent.as_str().map(str::to_owned),
        Some(width) if !width.is_none() => Some(" ".repeat(usize::try_from(width)?.min(64))),
        _ => None,
    };
    let separators: Option<Vec<String>> = options.get("separators")?;
    let (item_separator, key_separator) = match separators.as_deref() {
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(refused("separators must be two strings".to_owned())),
    };
    let style = Style {
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent,
        item_separator,
        key_separator,
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    let mut text = String::new();
    style.write(value, 0, &mut text)?;
    Ok(Value::from(text))
}

impl Style {
    fn write(&self, value: &Value, depth: usize, text: &mut String) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(refused(format!("values nested deeper than {DEEPEST}")));
        }
        match value.kind() {
            ValueKind::None => text.push_str("null"),
            ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => text.push_str(&value.to_string()),
            ValueKind::Number => text.push_str(&python_float(f64::try_from(value.clone())?)),
            ValueKind::String => self.write_string(value.as_str().unwrap_or_default(), text),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_items('[', ']', &items, depth, text, |style, item, text| {
                    style.write(item, depth + 1, text)
                })?;
            }
            ValueKind::Map => {
                let mut items = Vec::new();
                for key in value.try_iter()? {
                    let item = value.get_item(&key)?;
                    items.push((key_text(&key)?, item));
                }
                if self.sort_keys {
                    items.sort_by(|(left, _), (right, _)| left.cmp(right));
                }
                self.write_items('{', '}', &items, depth, text, |style, (key, item), text| {
                    style.write_string(key, text);
                    text.push_str(&style.key_separator);
                    style.write(item, depth + 1, text)
                })?;
            }
            kind => return Err(refused(format!("a value of type {kind} is not JSON"))),
        }
        Ok(())
    }

    fn write_items<T>(
        &self,
        open: char,
        close: char,
        items: &[T],
        depth: usize,
        text: &mut String,
        mut write: impl FnMut(&Self, &T, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        text.push(open);
        for (position, item) in items.iter().enumerate() {
            if position > 0 {
                text.push_str(&self.item_separator);
            }
            self.new_line(depth + 1, text);
            write(self, item, text)?;
        }
        if !items.is_empty() {
            self.new_line(depth, text);
        }
        text.push(close);
        Ok(())
    }

    fn new_line(&self, depth: usize, text: &mut String) {
        if let Some(indent) = &self.indent {
            text.push('\n');
            text.push_str(&indent.repeat(depth));
        }
    }

    fn write_string(&self, string: &str, text: &mut String) {
        text.push('"');
        for character in string.chars() {
            match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                character if character < ' ' || (self.ensure_ascii && character > '~') => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        // Writing to a string cannot fail.
                        let _ = write!(text, "\\u{unit:04x}");
                    }
                }
                character => text.push(character),
            }
        }
        text.push('"');
    }
}

fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::Number if key.is_integer() => Ok(key.to_string()),
        ValueKind::Number => Ok(python_float(f64::try_from(key.clone())?)),
        kind => Err(refused(format!("a key of type {kind} is not JSON"))),
    }
}

/// Python's `repr` of a float: the fewest digits that give it back, with an exponent from 1e16 and below 1e-4.
fn python_float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => {
            let plain = number.to_string();
            if plain.contains('.') { plain } else { format!("{plain}.0") }
        }
    }
}

fn refused(problem: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::python_float;

    #[test]
    fn floats_are_those_of_python() {
        // Expected values are those of Python's repr.
        for (number, expected) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5e-7, "-2.5e-07"),
            (123_456.789, "123456.789"),
        ] {
            assert_eq!(python_float(number), expected);
        }
    }
}
