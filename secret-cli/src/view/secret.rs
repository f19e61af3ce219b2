//! Secrets, without their values: nobody here has them.

use secretd_proto::v1::Secret;
use serde_json::{Value, json};

use super::{head, labels, labels_cell};
use crate::format::Column;
use crate::human;

/// The columns of `secret ls`.
pub(crate) const COLUMNS: [Column; 6] = [
    ("ID", "ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Version", "VERSION"),
    ("CreatedAt", "CREATED"),
    ("UpdatedAt", "UPDATED"),
];
/// Further fields of a row.
pub(crate) const MORE: [Column; 2] = [("Labels", "LABELS"), ("Length", "LENGTH")];

/// A row of `secret ls`.
pub(crate) fn row(secret: &Secret) -> Value {
    let spec = secret.spec.clone().unwrap_or_default();
    let meta = secret.meta.unwrap_or_default();
    json!({
        "ID": secret.id,
        "Name": spec.name,
        "Driver": "",
        "Version": secret.secret_version,
        "CreatedAt": human::ago(meta.created_at.as_ref()),
        "UpdatedAt": human::ago(meta.updated_at.as_ref()),
        "Labels": labels_cell(&spec.labels),
        "Length": secret.length,
    })
}

/// What `secret inspect` shows.
pub(crate) fn object(secret: &Secret, used_by: &[String]) -> Value {
    let spec = secret.spec.clone().unwrap_or_default();
    let mut map = head(&secret.id, secret.meta.as_ref());
    map.insert("Spec".to_owned(), json!({ "Name": spec.name, "Labels": labels(&spec.labels) }));
    map.insert("SecretVersion".to_owned(), secret.secret_version.into());
    map.insert("Length".to_owned(), secret.length.into());
    map.insert("UsedBy".to_owned(), used_by.into());
    Value::Object(map)
}
