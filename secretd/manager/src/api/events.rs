//! Events: what has happened since a time, and what happens until another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use secretd_core::time::Timestamp;
use secretd_core::wire::time_from_wire;
use secretd_proto::code::Code;
use secretd_proto::v1;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tonic::Status;

use super::{Context, Messages};
use crate::filter::Filters;
use crate::refusal::Refusal;

const KINDS: [&str; 6] = ["cluster", "image", "node", "secret", "service", "task"];

pub(super) fn watch(context: &Context, request: v1::WatchEventsRequest) -> Result<Messages<v1::Event>, Refusal> {
    let mut known = vec!["type", "event", "action", "id", "name"];
    known.extend(KINDS);
    let filters = Filters::parse(request.filters, &known)?;
    let since = request.since.map(|since| time_from_wire(Some(since)));
    let until = request.until.map(|until| time_from_wire(Some(until)));
    let (history, live) = context.events.subscribe();
    // Without either only the future counts; `until` alone is as in Docker: what there is up to then.
    let past = history.into_iter().filter(|event| match since {
        Some(since) => at(event) >= since,
        None => until.is_some(),
    });
    let deadline = until.map(|until| {
        let left = until.0.saturating_sub(context.now().0);
        Instant::now() + Duration::from_nanos(u64::try_from(left).unwrap_or(0))
    });
    let feed = Feed { past: past.collect(), live, filters, until, deadline };
    Ok(Box::pin(stream::unfold(Some(feed), |feed| async {
        let mut feed = feed?;
        match feed.next().await? {
            Ok(event) => Some((Ok(event), Some(feed))),
            Err(status) => Some((Err(status), None)),
        }
    })))
}

struct Feed {
    past: VecDeque<Arc<v1::Event>>,
    live: Receiver<Arc<v1::Event>>,
    filters: Filters,
    until: Option<Timestamp>,
    deadline: Option<Instant>,
}

impl Feed {
    async fn next(&mut self) -> Option<Result<v1::Event, Status>> {
        loop {
            let event = match self.past.pop_front() {
                Some(event) => event,
                None => match self.receive().await? {
                    Ok(event) => event,
                    Err(status) => return Some(Err(status)),
                },
            };
            if self.until.is_some_and(|until| at(&event) > until) {
                return None;
            }
            if passes(&self.filters, &event) {
                return Some(Ok(v1::Event::clone(&event)));
            }
        }
    }

    async fn receive(&mut self) -> Option<Result<Arc<v1::Event>, Status>> {
        let over = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            event = self.live.recv() => match event { // cancel-safe, says broadcast
                Ok(event) => Some(Ok(event)),
                Err(RecvError::Closed) => None,
                Err(RecvError::Lagged(missed)) => {
                    let message = format!("{missed} events came faster than they were read: begin again with --since");
                    Some(Err(Refusal::new(Code::OutOfSequence, message).into()))
                }
            },
            () = over => None,
        }
    }
}

fn at(event: &v1::Event) -> Timestamp {
    time_from_wire(event.at)
}

/// `type` and `event` as in Docker, and `secret=X` for the events of one object.
fn passes(filters: &Filters, event: &v1::Event) -> bool {
    let is_object = |kind: &str| {
        filters.holds(kind, |value| {
            event.kind == kind && (event.id.starts_with(value) || event.name == value)
                || event.attributes.get(kind).is_some_and(|id| id.starts_with(value))
        })
    };
    filters.exact("type", &event.kind)
        && filters.exact("event", &event.action)
        && filters.exact("action", &event.action)
        && filters.prefix("id", &event.id)
        && filters.prefix("name", &event.name)
        && KINDS.into_iter().all(is_object)
}
