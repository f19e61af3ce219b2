//! What an image is called: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, as Docker reads it.

use std::fmt;
use std::str::FromStr;

/// Docker's own registry, for names without a host.
const DEFAULT_REGISTRY: &str = "docker.io";

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid reference format: `{0}`: give [HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST], the name in lower case")]
pub struct ParseReferenceError(pub String);

/// A name of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Host and port, where the name has them.
    pub registry: Option<String>,
    /// The path: `library/app`.
    pub path: String,
    /// The tag; `latest` where neither tag nor digest is given.
    pub tag: Option<String>,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: Option<String>,
}

impl Reference {
    /// The name that tags of this node have: with the host, without Docker's own.
    pub fn familiar(&self) -> String {
        let name = match self.registry.as_deref() {
            None | Some(DEFAULT_REGISTRY) => self.path.strip_prefix("library/").unwrap_or(&self.path).to_owned(),
            Some(registry) => format!("{registry}/{}", self.path),
        };
        format!("{name}:{}", self.tag.as_deref().unwrap_or("latest"))
    }

    /// Host and port to pull from, Docker's own where the name has none.
    pub fn registry_or_default(&self) -> &str {
        self.registry.as_deref().unwrap_or(DEFAULT_REGISTRY)
    }

    /// The path at the registry: Docker's own has a folder for names without one.
    pub fn repository(&self) -> String {
        let own = self.registry_or_default() == DEFAULT_REGISTRY;
        if own && !self.path.contains('/') { format!("library/{}", self.path) } else { self.path.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}/")?;
        }
        f.write_str(&self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;
    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        let refused = || ParseReferenceError(text.chars().take(256).collect());
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) if is_digest(digest) => (name, Some(digest.to_owned())),
            Some(_) => return Err(refused()),
            None => (text, None),
        };
        let (registry, rest) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first.to_owned()), rest),
            _ => (None, name),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
            _ => (rest, None),
        };
        let tag_is_good = tag.as_deref().is_none_or(is_tag);
        let registry_is_good = registry.as_deref().is_none_or(is_registry);
        if text.len() > 1024 || !tag_is_good || !registry_is_good || !path.split('/').all(is_component) {
            return Err(refused());
        }
        let tag = if tag.is_none() && digest.is_none() { Some("latest".to_owned()) } else { tag };
        Ok(Self { registry, path: path.to_owned(), tag, digest })
    }
}

/// `sha256:` and 64 lower-case hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hex))
}

fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_tag(tag: &str) -> bool {
    let first = tag.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    first && tag.len() <= 128 && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Lower-case letters and digits, joined by one dot, one or two underscores, or dashes.
fn is_component(part: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = part.bytes().next().is_some_and(alphanumeric) && part.bytes().last().is_some_and(alphanumeric);
    let separators = part.split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit());
    ends && separators
        .into_iter()
        .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let table = [
            ("app", "app:latest", "docker.io", "library/app"),
            ("app:1", "app:1", "docker.io", "library/app"),
            ("team/app", "team/app:latest", "docker.io", "team/app"),
            ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000", "app"),
            ("127.0.0.1:5000/a/b-c__d:v_1", "127.0.0.1:5000/a/b-c__d:v_1", "127.0.0.1:5000", "a/b-c__d"),
            ("docker.io/library/app", "app:latest", "docker.io", "library/app"),
        ];
        for (text, familiar, registry, repository) in table {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(
                (reference.familiar().as_str(), reference.registry_or_default(), reference.repository().as_str()),
                (familiar, registry, repository)
            );
        }
        let pinned: Reference = format!("r.example/app@{digest}").parse().unwrap();
        assert_eq!((pinned.tag, pinned.digest), (None, Some(digest)));
    }

    #[test]
    fn what_names_no_image_is_refused() {
        for text in
            ["", "App", "a//b", "/a", "a/", "a:", "a:b/c:", "-a", "a..b", "a@sha256:12", "h:x/a", "a b", "a:\u{e4}"]
        {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
    }
}
