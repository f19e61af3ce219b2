//! `sctl service logs`

use clap::Args;
use prost_types::Timestamp;
use secretd_proto::code::Code;
use secretd_proto::v1::log_record::Stream;
use secretd_proto::v1::{GetServiceRequest, LogRecord, ServiceLogsRequest};
use serde_json::{Value, json};

use crate::cmd::Context;
use crate::connection::Control;
use crate::failure::Failure;
use crate::format::Format;
use crate::timestamp::{self, rfc3339_fixed};
use crate::view::SHORT_ID;
use crate::view::service::{container, replicas};
use crate::{clock, output};

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Go on with what is printed from now on
    #[arg(short, long)]
    follow: bool,
    /// Only lines since a time such as 2026-01-02T15:04:05Z, or since a duration ago such as 42m
    #[arg(long, value_name = "TIME", value_parser = |text: &str| timestamp::parse(text, clock::now()))]
    since: Option<Timestamp>,
    /// Only so many lines from the end of each task's log
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all", value_parser = tail)]
    tail: i64,
    /// Put the time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// Task ids in full
    #[arg(long)]
    no_trunc: bool,
    /// No task ids
    #[arg(long)]
    no_task_ids: bool,
    /// Only what was printed
    #[arg(long)]
    raw: bool,
    /// Name or id of a service or task, or SERVICE.SLOT
    #[arg(value_name = "SERVICE|TASK")]
    reference: String,
}

fn tail(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse::<u32>().map(i64::from).map_err(|_| "give a number of lines, or all".to_owned())
}

pub(crate) async fn run(context: &Context, args: Logs) -> Result<u8, Failure> {
    let mut control = context.control().await?;
    let slots = slots(&mut control, &args).await?;
    let request = ServiceLogsRequest {
        reference: args.reference.clone(),
        follow: args.follow,
        tail: args.tail,
        since: args.since,
    };
    let mut records = control.service_logs(request).await?.into_inner();
    let width = slots.to_string().len();
    while let Some(record) = records.message().await? {
        let is_plain = context.format == Format::Table;
        let line = match is_plain {
            true => line(&args, &record, width),
            false => context.format.object("", &object(&record))?.into_bytes(),
        };
        match record.stream() {
            Stream::Stdout => output::bytes(&line)?,
            Stream::Stderr if !is_plain => output::bytes(&line)?,
            Stream::Stderr => output::error_bytes(&line)?,
        }
    }
    Ok(0)
}

/// How many slots the prefix must have room for; a terminal's output, which moves the cursor, takes no prefix.
async fn slots(control: &mut Control, args: &Logs) -> Result<u64, Failure> {
    let request = GetServiceRequest { reference: args.reference.clone() };
    match control.get_service(request).await.map_err(Failure::from) {
        Ok(found) => {
            let spec = found.into_inner().service.unwrap_or_default().spec.unwrap_or_default();
            if container(&spec).tty && !args.raw {
                return Err(Failure::invalid("tty service logs only supported with --raw"));
            }
            Ok(replicas(&spec).unwrap_or(1))
        }
        Err(failure) if failure.code == Code::NotFound.as_str() => Ok(0), // a task
        Err(failure) => Err(failure),
    }
}

fn line(args: &Logs, record: &LogRecord, width: usize) -> Vec<u8> {
    let mut out = Vec::new();
    if args.timestamps {
        out.extend_from_slice(rfc3339_fixed(record.at.as_ref()).as_bytes());
        out.push(b' ');
    }
    if !args.raw {
        let slot = record.slot.to_string();
        let padding = " ".repeat(width.saturating_sub(slot.len()));
        let id: String =
            if args.no_trunc { record.task_id.clone() } else { record.task_id.chars().take(SHORT_ID).collect() };
        let id = if args.no_task_ids { String::new() } else { format!(".{id}") };
        out.extend_from_slice(format!("{}.{slot}{id}@{}{padding}    | ", record.service_name, record.node).as_bytes());
    }
    out.extend_from_slice(&record.line);
    // A piece of a long line, or a last line without its end, must not run into the next prefix.
    if !args.raw && !record.line.ends_with(b"\n") {
        out.push(b'\n');
    }
    out
}

fn object(record: &LogRecord) -> Value {
    let stream = match record.stream() {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    json!({
        "Time": rfc3339_fixed(record.at.as_ref()),
        "Service": record.service_name,
        "Slot": record.slot,
        "TaskID": record.task_id,
        "Node": record.node,
        "Stream": stream,
        "Line": String::from_utf8_lossy(&record.line),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_dockers_prefix() {
        let args = Logs {
            follow: false,
            since: None,
            tail: -1,
            timestamps: false,
            no_trunc: false,
            no_task_ids: false,
            raw: false,
            reference: "app".to_owned(),
        };
        let record = LogRecord {
            task_id: "0123456789abcdefghijklmno".to_owned(),
            service_name: "app".to_owned(),
            slot: 1,
            node: "host".to_owned(),
            at: Some(Timestamp { seconds: 1, nanos: 5 }),
            line: b"hello\n".to_vec(),
            ..LogRecord::default()
        };
        let show = |args: &Logs| String::from_utf8(line(args, &record, 2)).unwrap();

        assert_eq!(show(&args), "app.1.0123456789ab@host     | hello\n");
        let args = Logs { no_task_ids: true, timestamps: true, ..args };
        assert_eq!(show(&args), "1970-01-01T00:00:01.000000005Z app.1@host     | hello\n");
        assert_eq!(show(&Logs { raw: true, timestamps: false, ..args }), "hello\n");
    }
}
