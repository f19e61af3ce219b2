//! `sctl events`

use std::collections::BTreeMap;

use clap::Args;
use prost_types::Timestamp;
use secretd_proto::v1::{Event, Filter, WatchEventsRequest};
use serde_json::{Value, json};

use super::Context;
use crate::failure::Failure;
use crate::parse::key_value;
use crate::timestamp::{self, rfc3339_fixed};
use crate::{clock, output};

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Only events that match: type, event, id, name, or the name or id of a secret, service, task or node
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = key_value::filter)]
    filters: Vec<Filter>,
    /// Begin with events of a time such as 2026-01-02T15:04:05Z, or of a duration ago such as 42m
    #[arg(long, value_name = "TIME", value_parser = |text: &str| timestamp::parse(text, clock::now()))]
    since: Option<Timestamp>,
    /// End with events of a time
    #[arg(long, value_name = "TIME", value_parser = |text: &str| timestamp::parse(text, clock::now()))]
    until: Option<Timestamp>,
}

pub(crate) async fn run(context: &Context, args: Events) -> Result<u8, Failure> {
    let mut control = context.control().await?;
    let request = WatchEventsRequest { filters: args.filters, since: args.since, until: args.until };
    let mut events = control.watch_events(request).await?.into_inner();
    while let Some(event) = events.message().await? {
        output::bytes(context.format.object(&plain(&event), &object(&event))?.as_bytes())?;
    }
    Ok(0)
}

fn plain(event: &Event) -> String {
    let ordered: BTreeMap<_, _> = event.attributes.iter().collect();
    let attributes: Vec<String> = ordered.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let Event { kind, action, id, .. } = event;
    format!("{} {kind} {action} {id} ({})", rfc3339_fixed(event.at.as_ref()), attributes.join(", "))
}

fn object(event: &Event) -> Value {
    let at = event.at.unwrap_or_default();
    json!({
        "Type": event.kind,
        "Action": event.action,
        "ID": event.id,
        "Actor": { "ID": event.id, "Attributes": event.attributes.iter().collect::<BTreeMap<_, _>>() },
        "scope": if event.version == 0 { "local" } else { "swarm" },
        "time": at.seconds,
        "timeNano": at.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(at.nanos)),
    })
}
