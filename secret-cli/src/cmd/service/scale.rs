//! `sctl service scale`

use clap::Args;
use secretd_proto::v1::service_spec::Mode;
use secretd_proto::v1::{ReplicatedMode, UpdateServiceRequest};
use serde_json::json;

use super::options::Waiting;
use super::{update, wait};
use crate::cmd::Context;
use crate::cmd::outcomes::Outcomes;
use crate::connection::Control;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// Do not wait until all tasks run and the others are gone
    #[arg(short, long)]
    detach: bool,
    /// Name or id of a service, and its number of tasks
    #[arg(value_name = "SERVICE=REPLICAS", required = true, value_parser = target)]
    targets: Vec<(String, u64)>,
}

fn target(text: &str) -> Result<(String, u64), String> {
    let (service, replicas) = text
        .split_once('=')
        .filter(|(service, _)| !service.is_empty())
        .ok_or_else(|| format!("invalid scale specifier '{text}': give SERVICE=REPLICAS"))?;
    let number = replicas.parse().map_err(|error| format!("{service}: invalid replicas value {replicas}: {error}"))?;
    Ok((service.to_owned(), number))
}

pub(crate) async fn run(context: &Context, args: Scale) -> Result<u8, Failure> {
    let mut control = context.control().await?;
    let mut outcomes = Outcomes::new(context);
    let mut scaled = Vec::new();
    for (service, replicas) in args.targets {
        let result = scale(context, &mut control, &service, replicas).await;
        scaled.extend(outcomes.take(result));
    }
    for id in scaled {
        let waiting = Waiting { detach: args.detach, quiet: false };
        outcomes.take(wait::converge(&mut control, &id, waiting, wait::Goal::Forward).await);
    }
    Ok(outcomes.exit())
}

async fn scale(context: &Context, control: &mut Control, reference: &str, replicas: u64) -> Result<String, Failure> {
    let service = update::find(control, reference).await?;
    let mut spec = service.spec.unwrap_or_default();
    if matches!(spec.mode, Some(Mode::Global(_))) {
        return Err(Failure::invalid(format!("{reference}: scale can only be used with replicated mode")));
    }
    spec.mode = Some(Mode::Replicated(ReplicatedMode { replicas }));
    let id = service.id.clone();
    let version = update::version(&service.meta);
    let request = UpdateServiceRequest { id: service.id, version, spec: Some(spec), rollback: false };
    control.update_service(request).await?;
    let value = json!({ "ID": id, "Name": reference, "Replicas": replicas });
    output::bytes(context.format.object(&format!("{reference} scaled to {replicas}"), &value)?.as_bytes())?;
    Ok(id)
}
