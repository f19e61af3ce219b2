//! Nodes, and how each protects secrets.

use prost_types::Timestamp;
use secretd_proto::v1::Node;
use secretd_proto::v1::node::{Availability, Reachability, State, TlsStatus};
use serde_json::{Value, json};

use super::{head, labels};
use crate::format::Column;
use crate::timestamp::rfc3339;

/// The columns of `node ls`.
pub(crate) const COLUMNS: [Column; 6] = [
    ("ID", "ID"),
    ("Hostname", "HOSTNAME"),
    ("Status", "STATUS"),
    ("Availability", "AVAILABILITY"),
    ("ManagerStatus", "MANAGER STATUS"),
    ("EngineVersion", "ENGINE VERSION"),
];
/// Further fields of a row.
pub(crate) const MORE: [Column; 3] = [("Self", "SELF"), ("SecretBackend", "SECRETS"), ("TLSStatus", "TLS STATUS")];

/// Docker's words.
fn tls_status(node: &Node) -> &'static str {
    match node.tls_status() {
        TlsStatus::Ready => "Ready",
        TlsStatus::NeedsRotation => "Needs Rotation",
        TlsStatus::Unknown => "Unknown",
    }
}

pub(crate) fn state(node: &Node) -> &'static str {
    match node.state() {
        State::Unknown => "unknown",
        State::Ready => "ready",
        State::Down => "down",
        State::Disconnected => "disconnected",
    }
}

fn availability(node: &Node) -> &'static str {
    match node.availability() {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    }
}

fn reachability(node: &Node) -> &'static str {
    match node.reachability() {
        Reachability::Reachable => "reachable",
        Reachability::Unreachable => "unreachable",
        Reachability::None | Reachability::Unknown => "unknown",
    }
}

fn capital(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// A row of `node ls`; `mark` puts the star of Docker's table behind the id of the node that answers.
pub(crate) fn row(node: &Node, self_id: &str, mark: bool) -> Value {
    let description = node.description.clone().unwrap_or_default();
    let is_self = node.id == self_id;
    let manager = match (node.manager, node.leader) {
        (true, true) => "Leader",
        (true, false) => &capital(reachability(node)),
        (false, _) => "",
    };
    json!({
        "ID": if mark && is_self { format!("{} *", node.id) } else { node.id.clone() },
        "Hostname": description.hostname,
        "Status": capital(state(node)),
        "Availability": capital(availability(node)),
        "ManagerStatus": manager,
        "EngineVersion": description.engine_version,
        "Self": is_self,
        "TLSStatus": tls_status(node),
        "SecretBackend": description.secrets.map(|secrets| secrets.backend).unwrap_or_default(),
    })
}

/// RFC 3339; empty where it is not known.
fn made_at(seconds: i64) -> String {
    if seconds == 0 { String::new() } else { rfc3339(Some(&Timestamp { seconds, nanos: 0 })) }
}

/// What `node inspect` shows.
pub(crate) fn object(node: &Node) -> Value {
    let description = node.description.clone().unwrap_or_default();
    let secrets = description.secrets.unwrap_or_default();
    let mut map = head(&node.id, node.meta.as_ref());
    let role = if node.manager { "manager" } else { "worker" };
    map.insert(
        "Spec".to_owned(),
        json!({ "Role": role, "Availability": availability(node), "Labels": labels(&node.labels) }),
    );
    map.insert(
        "Description".to_owned(),
        json!({
            "Hostname": description.hostname,
            "Platform": { "Architecture": description.architecture, "OS": description.os },
            "Kernel": description.kernel,
            "CgroupVersion": description.cgroup,
            "Fault": description.fault,
            "Resources": { "NanoCPUs": description.nano_cpus, "MemoryBytes": description.memory_bytes },
            "Engine": { "EngineVersion": description.engine_version, "Labels": labels(&description.engine_labels) },
            "Secrets": {
                "Backend": secrets.backend,
                "BackendReason": secrets.backend_reason,
                "Memory": secrets.memory,
                "Sandbox": secrets.sandbox,
                "Weaknesses": secrets.weaknesses,
                "KEK": secrets.kek,
                "KEKSecure": secrets.kek_secure,
                "DataKeyMadeAt": made_at(secrets.data_key_made_at),
                "DataKeyResealing": secrets.data_key_resealing,
                "PublicKey": secrets.public_key.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            },
        }),
    );
    let certificate = node.certificate.clone().unwrap_or_default();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let expires = Timestamp {
        seconds: certificate.not_after_unix_nanos.div_euclid(1_000_000_000),
        nanos: i32::try_from(certificate.not_after_unix_nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
    };
    let expires = node.certificate.is_some().then(|| rfc3339(Some(&expires)));
    map.insert(
        "TLS".to_owned(),
        json!({
            "Status": tls_status(node),
            "IssuerFingerprint": hex(&certificate.issuer),
            "Fingerprint": hex(&certificate.fingerprint),
            "ExpiresAt": expires,
        }),
    );
    map.insert("Status".to_owned(), json!({ "State": state(node), "Message": node.message, "Addr": node.address }));
    if node.manager {
        map.insert(
            "ManagerStatus".to_owned(),
            json!({ "Leader": node.leader, "Reachability": reachability(node), "Addr": node.address }),
        );
    }
    Value::Object(map)
}
