//! Times as text: RFC 3339 out, and what `--since` and `--until` take in.

use std::time::Duration;

use prost_types::Timestamp;

use crate::parse::duration;

const DAY: i64 = 86_400;

/// `2026-01-02T03:04:05.123456789Z`, without the zeros at its end, as Go writes it.
pub(crate) fn rfc3339(at: Option<&Timestamp>) -> String {
    let at = at.copied().unwrap_or_default();
    let fraction = format!(".{:09}", at.nanos.clamp(0, 999_999_999));
    format!("{}{}Z", to_seconds(at.seconds), fraction.trim_end_matches('0').trim_end_matches('.'))
}

/// The same with all nine digits: lines of a log line up.
pub(crate) fn rfc3339_fixed(at: Option<&Timestamp>) -> String {
    let at = at.copied().unwrap_or_default();
    format!("{}.{:09}Z", to_seconds(at.seconds), at.nanos.clamp(0, 999_999_999))
}

/// Whether a time lies before `now`, which counts from 1970.
pub(crate) fn is_past(at: &Timestamp, now: Duration) -> bool {
    let (seconds, nanos) = (i64::try_from(now.as_secs()).unwrap_or(i64::MAX), i64::from(now.subsec_nanos()));
    (at.seconds, i64::from(at.nanos)) < (seconds, nanos)
}

fn to_seconds(seconds: i64) -> String {
    let (days, of_day) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// Year, month and day of a number of days since 1970 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

/// Days since 1970 of a date; the inverse of [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// What `--since` and `--until` take: a time (RFC 3339, or a date), seconds since 1970, or a duration before `now`.
pub(crate) fn parse(text: &str, now: Duration) -> Result<Timestamp, String> {
    if let Some((seconds, nanos)) = unix_seconds(text).or_else(|| date_time(text)) {
        return Ok(Timestamp { seconds, nanos });
    }
    if let Ok(before) = duration::parse(text) {
        let at = now.saturating_sub(before);
        let seconds = i64::try_from(at.as_secs()).map_err(|_| "too far away".to_owned())?;
        return Ok(Timestamp { seconds, nanos: i32::try_from(at.subsec_nanos()).unwrap_or(0) });
    }
    Err("give a time such as 2026-01-02T15:04:05Z, a duration such as 42m, or seconds since 1970".to_owned())
}

fn unix_seconds(text: &str) -> Option<(i64, i32)> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    Some((number(seconds)?, nanos(fraction)?))
}

fn number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

fn nanos(fraction: &str) -> Option<i32> {
    let digits = fraction.len() <= 9 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if digits { format!("{fraction:0<9}").parse().ok() } else { None }
}

/// `DATE`, `DATETTIME`, each with an optional zone; without one it is UTC.
fn date_time(text: &str) -> Option<(i64, i32)> {
    let (date, rest) = text.split_once('T').unwrap_or((text, ""));
    let mut parts = date.split('-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let is_possible = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if parts.next().is_some() || !is_possible || civil(days(year, month, day)) != (year, month, day) {
        return None;
    }
    let midnight = days(year, month, day).checked_mul(DAY)?;
    if rest.is_empty() {
        return Some((midnight, 0));
    }
    let (clock, offset) = zone(rest)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = clock.split(':').map(number);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    if hour > 23 || minute > 59 || second > 60 || parts.next().is_some() {
        return None;
    }
    Some((midnight + hour * 3600 + minute * 60 + second - offset, nanos(fraction)?))
}

/// The clock and the seconds east of UTC.
fn zone(text: &str) -> Option<(&str, i64)> {
    if let Some(clock) = text.strip_suffix('Z') {
        return Some((clock, 0));
    }
    let Some(at) = text.rfind(['+', '-']) else { return Some((text, 0)) };
    let (clock, offset) = text.split_at(at);
    let (hours, minutes) = offset[1..].split_once(':')?;
    let seconds = number(hours)? * 3600 + number(minutes)? * 60;
    Some((clock, if offset.starts_with('-') { -seconds } else { seconds }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        let table = [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 500_000_000, "2000-02-29T00:00:00.5Z"),
            (1_790_000_000, 1, "2026-09-21T14:13:20.000000001Z"),
        ];
        for (seconds, nanos, text) in table {
            assert_eq!(rfc3339(Some(&Timestamp { seconds, nanos })), text);
        }
    }

    #[test]
    fn since_takes_times_durations_and_seconds() {
        let now = Duration::from_secs(10_000);
        let table = [
            ("1970-01-01T01:00:00Z", Some((3600, 0))),
            ("1970-01-01T01:00:00.25+01:00", Some((0, 250_000_000))),
            ("1970-01-02", Some((86_400, 0))),
            ("2000-02-29T00:00", Some((951_782_400, 0))),
            ("42m", Some((10_000 - 42 * 60, 0))),
            ("123.5", Some((123, 500_000_000))),
            ("yesterday", None),
            ("1970-13-01", None),
            ("", None),
        ];
        for (text, wanted) in table {
            let parsed = parse(text, now).ok().map(|at| (at.seconds, at.nanos));
            assert_eq!(parsed, wanted, "{text}");
        }
    }
}
