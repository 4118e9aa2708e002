//! When to try again, as servers say it in headers.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

/// `retry-after-ms`, else `retry-after` in seconds (a fraction is allowed) or as an HTTP date, seen from `now`.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name: &str| text(name)?.parse::<f64>().ok();
    if let Some(milliseconds) = number("retry-after-ms") {
        return Duration::try_from_secs_f64(milliseconds / 1000.0).ok();
    }
    if let Some(seconds) = number("retry-after") {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(text("retry-after")?).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

/// `x-should-retry`.
pub(crate) fn should_retry(headers: &HeaderMap) -> Option<bool> {
    match headers.get("x-should-retry")?.to_str().ok()?.trim() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (headers, expected) in [
            (vec![("retry-after", "7")], Some(7.0)),
            (vec![("retry-after", "0.25")], Some(0.25)),
            (vec![("retry-after-ms", "1500"), ("retry-after", "7")], Some(1.5)),
            // RFC 9110's example date is 784111777 seconds after the epoch.
            (vec![("retry-after", "Sun, 06 Nov 1994 08:49:57 GMT")], Some(20.0)),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:49:17 GMT")], Some(0.0)),
            (vec![("retry-after", "-3")], None),
            (vec![("retry-after", "nan")], None),
            (vec![("retry-after", "soon")], None),
            (vec![], None),
        ] {
            let map = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            assert_eq!(retry_after(&map, now).map(|d| d.as_secs_f64()), expected, "{headers:?}");
        }
    }
}
