//! Sizes (`512m`, `1g`), processors (`0.5`) and identifiers.

/// Bytes, with b, k, m, g, t or p in powers of 1024, as Docker has it.
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    let wrong = || "a size is a number of bytes, with b, k, m, g, t or p, such as 512m".to_owned();
    let lower = text.to_lowercase();
    let number = lower.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = &lower[number.len()..];
    let power = match unit.strip_suffix('b').unwrap_or(unit).trim_end_matches('i') {
        "" if unit != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    decimal(number.trim_end(), 1_i64 << (10 * power)).ok_or_else(wrong)
}

/// Processors in billionths, from a decimal number. What is finer than that is refused, as in Docker.
pub(crate) fn nano_cpus(text: &str) -> Result<i64, String> {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    if fraction.trim_end_matches('0').len() > 9 {
        return Err("a number of processors has at most nine decimals".to_owned());
    }
    decimal(text, 1_000_000_000).ok_or_else(|| "a number of processors is decimal, such as 0.5".to_owned())
}

/// A decimal number of `scale`, cut to a whole one.
fn decimal(text: &str, scale: i64) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 12 {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: i64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let tens = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = i64::try_from(i128::from(part) * i128::from(scale) / tens).ok()?;
    whole.checked_mul(scale)?.checked_add(part)
}

/// `name=soft[:hard]`; -1 is no limit, and without `hard` both are the same.
pub(crate) fn ulimit(text: &str) -> Result<secretd_proto::v1::Ulimit, String> {
    let wrong = || format!("invalid ulimit argument: {text}: give NAME=SOFT[:HARD]");
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let limit = |text: &str| text.parse::<i64>().ok().filter(|limit| *limit >= -1).ok_or_else(wrong);
    if name.is_empty() {
        return Err(wrong());
    }
    Ok(secretd_proto::v1::Ulimit { name: name.to_lowercase(), soft: limit(soft)?, hard: limit(hard)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        let table = [
            ("512m", Some(512 << 20)),
            ("1g", Some(1 << 30)),
            ("1.5k", Some(1536)),
            ("100", Some(100)),
            ("100b", Some(100)),
            ("1MiB", Some(1 << 20)),
            ("1MB", Some(1 << 20)),
            ("0", Some(0)),
            ("-1", None),
            ("m", None),
            ("1x", None),
            ("", None),
            ("9999999p", None),
        ];
        for (text, wanted) in table {
            assert_eq!(bytes(text).ok(), wanted, "{text}");
        }
    }

    #[test]
    fn processors_are_decimal() {
        let table = [("0.5", Some(500_000_000)), ("2", Some(2_000_000_000)), (".001", Some(1_000_000)), ("x", None)];
        for (text, wanted) in table {
            assert_eq!(nano_cpus(text).ok(), wanted, "{text}");
        }
    }

    #[test]
    fn ulimits_have_one_or_two_limits() {
        let show = |text| ulimit(text).map(|limit| (limit.name, limit.soft, limit.hard)).ok();
        assert_eq!(show("nofile=1024:2048"), Some(("nofile".to_owned(), 1024, 2048)));
        assert_eq!(show("core=-1"), Some(("core".to_owned(), -1, -1)));
        assert_eq!((show("nofile"), show("=1"), show("nofile=a"), show("nofile=-2")), (None, None, None, None));
    }
}
