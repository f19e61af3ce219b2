//! Durations as Go writes them: `10s`, `1m30s`, `500ms`, `1.5h`.

use std::time::Duration;

const UNITS: [(&str, u128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A duration of zero or more.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.starts_with('-') {
        return Err("a duration cannot be negative".to_owned());
    }
    let nanos = nanos(text).ok_or("a duration has numbers with units out of ns, us, ms, s, m and h, such as 1m30s")?;
    let nanos = u64::try_from(nanos).map_err(|_| "a duration is 5124095h at most".to_owned())?;
    Ok(Duration::from_nanos(nanos))
}

/// A duration on the wire, as it may be given: `2160h`, `1m30s`, `500ms`.
pub(crate) fn show(duration: Option<&prost_types::Duration>) -> String {
    let duration = duration.and_then(|duration| Duration::try_from(*duration).ok()).unwrap_or_default();
    let seconds = duration.as_secs();
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let fraction =
        [(u64::from(duration.subsec_millis()), "ms"), (u64::from(duration.subsec_nanos() % 1_000_000), "ns")];
    let parts = parts.into_iter().chain(fraction).filter(|(number, _)| *number > 0);
    let text: String = parts.map(|(number, unit)| format!("{number}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

fn nanos(mut text: &str) -> Option<u128> {
    let mut total: u128 = 0;
    if text.is_empty() {
        return None;
    }
    while !text.is_empty() {
        let number = text.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (number, rest) = text.split_at(number);
        let unit = rest.find(|character: char| character.is_ascii_digit() || character == '.').unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(unit);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole = match whole {
            "" => 0,
            digits => digits.parse().unwrap_or(u128::MAX), // there is nothing but digits
        };
        total = total.saturating_add(whole.saturating_mul(*scale)).saturating_add(part(fraction, *scale)?);
        text = rest;
    }
    Some(total)
}

/// The fraction of a unit, in nanoseconds.
fn part(fraction: &str, scale: u128) -> Option<u128> {
    if fraction.is_empty() {
        return Some(0);
    }
    let digits = fraction.get(..fraction.len().min(12))?;
    let value = u128::from(digits.parse::<u64>().ok()?) * scale;
    value.checked_div(10_u128.checked_pow(u32::try_from(digits.len()).ok()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let table = [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("10s", Some(10_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5s", Some(500_000_000)),
            ("500ms", Some(500_000_000)),
            ("1us", Some(1000)),
            ("10", None),
            ("", None),
            ("-1s", None),
            ("1h1ms5ns", Some(3_600_001_000_005)),
            ("1x", None),
            ("s", None),
            (".s", None),
            ("99999999999999h", None),
        ];
        for (text, nanos) in table {
            assert_eq!(parse(text).ok().map(|duration| duration.as_nanos()), nanos, "{text}");
            let Some(duration) = parse(text).ok().and_then(|duration| prost_types::Duration::try_from(duration).ok())
            else {
                continue;
            };
            assert_eq!(parse(&show(Some(&duration))).unwrap(), parse(text).unwrap(), "{text}");
        }
        assert_eq!(parse("5124095h").unwrap(), Duration::from_hours(5_124_095));
        for long in ["5124096h", "99999999999999h", &format!("{}s", "9".repeat(50))] {
            assert_eq!(parse(long).unwrap_err(), "a duration is 5124095h at most", "{long}");
        }
    }
}
