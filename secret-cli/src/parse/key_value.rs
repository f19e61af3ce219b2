//! `KEY=VALUE` pairs: labels, sysctls, options, filters, hosts.

use secretd_proto::v1::Filter;

/// A label: `KEY` or `KEY=VALUE`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() { Err("a label is KEY=VALUE".to_owned()) } else { Ok((key.to_owned(), value.to_owned())) }
}

/// A pair whose value must be there.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("give KEY=VALUE".to_owned()),
    }
}

/// A filter of a list; which keys there are is the daemon's to say.
pub(crate) fn filter(text: &str) -> Result<Filter, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok(Filter { key: key.trim().to_lowercase(), value: value.trim().to_owned() })
        }
        _ => Err("a filter is KEY=VALUE".to_owned()),
    }
}

/// `NAME:ADDRESS`, as a line of /etc/hosts.
pub(crate) fn host(text: &str) -> Result<String, String> {
    match text.split_once([':', '=']) {
        Some((name, address)) if !name.is_empty() && !address.is_empty() => {
            let address = address.trim_start_matches('[').trim_end_matches(']');
            Ok(format!("{address} {name}"))
        }
        _ => Err(format!("bad format for add-host: {text}: give NAME:ADDRESS")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_become_lines_of_etc_hosts() {
        assert_eq!(host("db:10.0.0.1").as_deref(), Ok("10.0.0.1 db"));
        assert_eq!(host("db:::1").as_deref(), Ok("::1 db"));
        assert_eq!(host("db=[::1]").as_deref(), Ok("::1 db"));
        assert!(host("db").is_err() && host(":1").is_err());
    }

    #[test]
    fn labels_may_lack_a_value_and_pairs_may_not() {
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(label("a"), Ok(("a".to_owned(), String::new())));
        assert!(label("=b").is_err() && pair("a").is_err() && filter("name").is_err());
    }
}
