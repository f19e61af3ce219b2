//! Objects of the API as JSON values, with Docker's names of fields. Pure.

pub(crate) mod image;
pub(crate) mod node;
pub(crate) mod operator;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod task;
pub(crate) mod volume;

use std::collections::{BTreeMap, HashMap};

use secretd_proto::v1::Meta;
use serde_json::{Value, json};

use crate::timestamp::rfc3339;

/// Characters of a task's id in lists, as in Docker.
pub(crate) const SHORT_ID: usize = 12;

/// Labels in the order of their keys.
pub(crate) fn labels(labels: &HashMap<String, String>) -> Value {
    json!(labels.iter().collect::<BTreeMap<_, _>>())
}

/// Labels in one cell.
pub(crate) fn labels_cell(labels: &HashMap<String, String>) -> String {
    let ordered: BTreeMap<_, _> = labels.iter().collect();
    ordered.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// The fields that every object begins with.
pub(crate) fn head(id: &str, meta: Option<&Meta>) -> serde_json::Map<String, Value> {
    let meta = meta.cloned().unwrap_or_default();
    let mut map = serde_json::Map::new();
    map.insert("ID".to_owned(), id.into());
    map.insert("Version".to_owned(), json!({ "Index": meta.version }));
    map.insert("CreatedAt".to_owned(), rfc3339(meta.created_at.as_ref()).into());
    map.insert("UpdatedAt".to_owned(), rfc3339(meta.updated_at.as_ref()).into());
    map
}
