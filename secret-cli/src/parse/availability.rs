//! Whether a node takes tasks.

use secretd_proto::v1::node::Availability;

pub(crate) fn parse(text: &str) -> Result<Availability, String> {
    match text {
        "active" => Ok(Availability::Active),
        "pause" => Ok(Availability::Pause),
        "drain" => Ok(Availability::Drain),
        _ => Err(format!("invalid availability \"{text}\", only active, pause and drain are supported")),
    }
}
