//! Volumes of a node.

use secretd_proto::v1::Volume;
use serde_json::{Value, json};

use super::{labels, labels_cell};
use crate::format::Column;
use crate::timestamp::rfc3339;

/// The columns of `volume ls`.
pub(crate) const COLUMNS: [Column; 2] = [("Driver", "DRIVER"), ("Name", "VOLUME NAME")];
/// Further fields of a row.
pub(crate) const MORE: [Column; 3] = [("Scope", "SCOPE"), ("Mountpoint", "MOUNTPOINT"), ("Labels", "LABELS")];

/// A row of `volume ls`.
pub(crate) fn row(volume: &Volume) -> Value {
    json!({
        "Driver": "local",
        "Name": volume.name,
        "Scope": "local",
        "Mountpoint": volume.mountpoint,
        "Labels": labels_cell(&volume.labels),
    })
}

/// What `volume inspect` shows.
pub(crate) fn object(volume: &Volume) -> Value {
    json!({
        "CreatedAt": rfc3339(volume.created_at.as_ref()),
        "Driver": "local",
        "Labels": labels(&volume.labels),
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Scope": "local",
        "UsedBy": volume.task_ids,
    })
}
