//! Images of a node.

use secretd_proto::v1::Image;
use serde_json::{Value, json};

use super::SHORT_ID;
use crate::format::Column;
use crate::human;
use crate::timestamp::rfc3339;

/// The columns of `image ls`.
pub(crate) const COLUMNS: [Column; 5] =
    [("Repository", "REPOSITORY"), ("Tag", "TAG"), ("ID", "IMAGE ID"), ("CreatedSince", "CREATED"), ("Size", "SIZE")];
/// Further fields of a row.
pub(crate) const MORE: [Column; 2] = [("CreatedAt", "CREATED AT"), ("Digest", "DIGEST")];

/// Rows of `image ls`: one for each tag.
pub(crate) fn rows(image: &Image, full: bool) -> Vec<Value> {
    let id = if full { image.id.clone() } else { short(&image.id) };
    let digest = image.digests.first().and_then(|digest| digest.split('@').nth(1)).unwrap_or("<none>");
    let row = |repository: &str, tag: &str| {
        json!({
            "Repository": repository,
            "Tag": tag,
            "ID": id,
            "CreatedSince": human::ago(image.created_at.as_ref()),
            "CreatedAt": rfc3339(image.created_at.as_ref()),
            "Size": human::size(image.size),
            "Digest": digest,
        })
    };
    let untagged = || image.digests.first().and_then(|digest| digest.split('@').next()).unwrap_or("<none>");
    if image.tags.is_empty() {
        return vec![row(untagged(), "<none>")];
    }
    image
        .tags
        .iter()
        .map(|name| name.rsplit_once(':').unwrap_or((name, "")))
        .map(|(name, tag)| row(name, tag))
        .collect()
}

/// The first characters of an id, without its algorithm.
pub(crate) fn short(id: &str) -> String {
    id.strip_prefix("sha256:").unwrap_or(id).chars().take(SHORT_ID).collect()
}

/// What `image inspect` shows.
pub(crate) fn object(image: &Image) -> Value {
    let configuration: Value = serde_json::from_str(&image.config_json).unwrap_or_default();
    let field = |name: &str| configuration.get(name).cloned().unwrap_or_default();
    json!({
        "Id": image.id,
        "RepoTags": image.tags,
        "RepoDigests": image.digests,
        "Created": rfc3339(image.created_at.as_ref()),
        "Author": field("author"),
        "Config": field("config"),
        "Architecture": image.architecture,
        "Os": image.os,
        "Size": image.size,
        "RootFS": { "Type": "layers", "Layers": image.layers },
        "History": field("history"),
    })
}
