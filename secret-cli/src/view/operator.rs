//! Certificates of operators.

use secretd_proto::v1::operator_status::State;
use secretd_proto::v1::{Operator, OperatorStatus};
use serde_json::{Value, json};

use crate::format::Column;
use crate::human;
use crate::timestamp::rfc3339;

/// The columns of `operator ls`.
pub(crate) const COLUMNS: [Column; 6] = [
    ("Name", "NAME"),
    ("Role", "ROLE"),
    ("Serial", "SERIAL"),
    ("Issued", "ISSUED"),
    ("ExpiresAt", "EXPIRES"),
    ("Status", "STATUS"),
];
/// Further fields of a row.
pub(crate) const MORE: [Column; 3] =
    [("Fingerprint", "FINGERPRINT"), ("IssuedAt", "ISSUED AT"), ("RevokedAt", "REVOKED AT")];

/// What the certificate allows.
pub(crate) fn role(operator: &Operator) -> &'static str {
    if operator.admin { "admin" } else { "viewer" }
}

/// A row of `operator ls`.
pub(crate) fn row(status: &OperatorStatus) -> Value {
    let operator = status.operator.clone().unwrap_or_default();
    let word = match status.state() {
        State::Valid => "Valid",
        State::Expired => "Expired",
        State::Revoked => "Revoked",
        State::Replaced => "Root replaced",
        State::Unknown => "Unknown",
    };
    let mut row = certificate(&operator);
    if let Value::Object(fields) = &mut row {
        fields.insert("Issued".to_owned(), human::ago(operator.issued_at.as_ref()).into());
        fields.insert("Status".to_owned(), word.into());
    }
    row
}

/// A certificate without its state.
pub(crate) fn certificate(operator: &Operator) -> Value {
    let fingerprint: String = operator.fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "Name": operator.name,
        "Role": role(operator),
        "Serial": operator.serial,
        "Fingerprint": fingerprint,
        "IssuedAt": rfc3339(operator.issued_at.as_ref()),
        "ExpiresAt": rfc3339(operator.expires_at.as_ref()),
        "RevokedAt": operator.revoked_at.as_ref().map(|at| rfc3339(Some(at))).unwrap_or_default(),
    })
}
