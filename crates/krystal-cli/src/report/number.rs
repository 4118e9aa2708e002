//! Numbers for people.

use serde_json::Value;

/// Four significant digits, thousands apart; powers of ten where plain digits would be mostly zeros.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return value.to_string();
    }
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e9).contains(&size) {
        return format!("{value:.2e}");
    }
    let before = size.log10().floor() as i32 + 1;
    let text = format!("{value:.*}", usize::try_from(4 - before).unwrap_or(0));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    thousands(text)
}

/// A share of one as per cent.
pub(crate) fn percent(value: f64) -> String {
    format!("{:.1} %", value * 100.0)
}

/// Seconds in the largest units that say something.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// A JSON value as a word: strings without quotes, numbers short.
pub(crate) fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(n) if n.is_f64() => n.as_f64().map_or_else(|| n.to_string(), number),
        other => other.to_string(),
    }
}

fn thousands(text: &str) -> String {
    let digits = text.split('.').next().map_or(0, |whole| whole.trim_start_matches('-').len());
    let sign = usize::from(text.starts_with('-'));
    if digits < 5 {
        return text.to_owned();
    }
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i > sign && i < sign + digits && (sign + digits - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let check = |value: f64, expected: &str| assert_eq!(number(value), expected);
        check(0.0, "0");
        check(0.984_375, "0.9844");
        check(-12.0, "-12");
        check(1234.56, "1235");
        check(-572_352.0, "-572\u{202f}352");
        check(0.000_057_3, "5.73e-5");
        check(2e12, "2.00e12");
        check(f64::INFINITY, "inf");
    }

    #[test]
    fn durations_are_in_units_that_say_something() {
        assert_eq!([duration(4.26), duration(125.0), duration(7384.0)], ["4.3 s", "2 min 05 s", "2 h 03 min"]);
    }
}
