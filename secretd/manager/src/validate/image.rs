//! References of images: `[registry[:port]/]path[:tag][@digest]`, as Docker writes them.

/// Why a text is no reference of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidImage {
    #[error("ContainerSpec: image reference must be provided")]
    Missing,
    #[error("ContainerSpec: \"{0}\" is not a valid repository/tag")]
    Malformed(String),
}

/// Checks a reference; an image id (`sha256:` and hexadecimal digits, or 12 to 64 of those) is one too.
pub(crate) fn check(reference: &str) -> Result<(), InvalidImage> {
    if reference.is_empty() {
        return Err(InvalidImage::Missing);
    }
    let malformed = || InvalidImage::Malformed(reference.chars().take(256).collect());
    if is_id(reference) {
        return Ok(());
    }
    let (named, digest) = match reference.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (reference, None),
    };
    let (name, tag) = match named.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (named, None),
    };
    let is_good = is_name(name) && tag.is_none_or(is_tag) && digest.is_none_or(is_digest);
    if is_good { Ok(()) } else { Err(malformed()) }
}

fn is_id(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_name(name: &str) -> bool {
    if name.len() > 255 {
        return false;
    }
    let path = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" || host != host.to_lowercase() => {
            if !is_host(host) {
                return false;
            }
            path
        }
        _ => name,
    };
    path.split('/').all(is_component)
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') => (name, Some(port)),
        _ => (host, None),
    };
    let is_name = name.starts_with('[') && name.ends_with(']')
        || name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        });
    is_name && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Lower-case letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_are_words = bytes.first().copied().is_some_and(is_word) && bytes.last().copied().is_some_and(is_word);
    let separators = component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends_are_words
        && separators
            .filter(|text| !text.is_empty())
            .all(|text| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || b".-".contains(&byte))
}

fn is_digest(digest: &str) -> bool {
    digest.starts_with("sha256:") && is_id(digest)
}
