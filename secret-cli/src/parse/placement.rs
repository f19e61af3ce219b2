//! How tasks are spread over nodes.

/// The key of `spread=KEY`.
pub(crate) fn preference(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some(("spread", key)) if !key.is_empty() => Ok(key.to_owned()),
        Some((strategy, _)) if strategy != "spread" => {
            Err(format!("unsupported placement preference {strategy} (only spread is supported)"))
        }
        Some(_) | None => Err("placement preference must be of the format \"<strategy>=<arg>\"".to_owned()),
    }
}
