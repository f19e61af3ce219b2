//! Where a container's output goes.

use secretd_core::service::LogConfig;

/// Why a log configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidLog {
    #[error("invalid log driver {0}: --log-driver takes json-file or none")]
    Driver(String),
    #[error("unknown log opt '{option}' for {driver} log driver (--log-opt)")]
    Option { driver: String, option: String },
    #[error("invalid value {value} of max-size: --log-opt max-size takes a number of bytes, with k, m or g")]
    Size { value: String },
    #[error("invalid value {value} of max-file: --log-opt max-file takes a number from 1")]
    Files { value: String },
    #[error("max-file above 1 needs max-size: without it files are never rotated (--log-opt)")]
    FilesWithoutSize,
}

/// Checks driver and options.
pub(crate) fn check(log: &LogConfig) -> Result<(), InvalidLog> {
    let driver = if log.driver.is_empty() { "json-file" } else { log.driver.as_str() };
    let known: &[&str] = match driver {
        "json-file" => &["max-size", "max-file"],
        "none" => &[],
        _ => return Err(InvalidLog::Driver(driver.to_owned())),
    };
    if let Some(option) = log.options.keys().find(|option| !known.contains(&option.as_str())) {
        return Err(InvalidLog::Option { driver: driver.to_owned(), option: option.clone() });
    }
    let size = log.options.get("max-size");
    if let Some(value) = size.filter(|value| !is_size(value)) {
        return Err(InvalidLog::Size { value: value.clone() });
    }
    match log.options.get("max-file").map(|value| (value, value.parse::<u32>())) {
        Some((_, Ok(files))) if files > 1 && size.is_none() => Err(InvalidLog::FilesWithoutSize),
        None | Some((_, Ok(1..))) => Ok(()),
        Some((value, Ok(0) | Err(_))) => Err(InvalidLog::Files { value: value.clone() }),
    }
}

fn is_size(text: &str) -> bool {
    let lower = text.to_lowercase();
    let number = lower.strip_suffix('b').unwrap_or(&lower);
    let number = number.strip_suffix(['k', 'm', 'g']).unwrap_or(number);
    number.parse::<u64>().is_ok_and(|size| size > 0)
}
