//! `sctl service update`

mod change;

use clap::Args;
use secretd_proto::v1::{GetServiceRequest, Mount, Service, Ulimit, UpdateServiceRequest};
use serde_json::json;

use super::options::{Limits, Policies, Scalars, Waiting, Words, words};
use super::{grants, wait};
use crate::cmd::Context;
use crate::connection::Control;
use crate::failure::Failure;
use crate::output;
use crate::parse::secret::SecretRequest;
use crate::parse::{key_value, mount, number, placement};

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Image
    #[arg(long)]
    image: Option<String>,
    /// Arguments of the command, as a shell would write them
    #[arg(long, value_name = "COMMAND", value_parser = words)]
    args: Option<Words>,
    /// Replace the tasks even when nothing in them changes
    #[arg(long)]
    force: bool,
    /// Go back to what the service was before its last update
    #[arg(long)]
    rollback: bool,
    #[command(flatten)]
    lists: Lists,
    #[command(flatten)]
    scalars: Scalars,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    policies: Policies,
    #[command(flatten)]
    waiting: Waiting,
    /// Name or id of the service
    #[arg(value_name = "SERVICE")]
    service: String,
}

/// What is added to lists, and taken out of them.
#[derive(Debug, Default, Args)]
struct Lists {
    /// Secret to grant, as NAME or source=NAME,target=PATH,uid=UID,gid=GID,mode=OCTAL
    #[arg(long, value_name = "SECRET")]
    secret_add: Vec<SecretRequest>,
    /// Secret to grant no longer
    #[arg(long, value_name = "NAME")]
    secret_rm: Vec<String>,
    /// Environment variable to set, as NAME=VALUE, or NAME with the value that it has here
    #[arg(long, value_name = "VARIABLE")]
    env_add: Vec<String>,
    /// Environment variable to remove
    #[arg(long, value_name = "NAME")]
    env_rm: Vec<String>,
    /// Label of the service to set
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value::label)]
    label_add: Vec<(String, String)>,
    /// Label of the service to remove
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// Label of the containers to set
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value::label)]
    container_label_add: Vec<(String, String)>,
    /// Label of the containers to remove
    #[arg(long, value_name = "KEY")]
    container_label_rm: Vec<String>,
    /// Mount to add, in place of another at its target
    #[arg(long, value_name = "MOUNT", value_parser = mount::parse)]
    mount_add: Vec<Mount>,
    /// Mount to remove, by its target
    #[arg(long, value_name = "TARGET")]
    mount_rm: Vec<String>,
    /// Rule for the nodes of the tasks to add, as KEY==VALUE or KEY!=VALUE
    #[arg(long, value_name = "RULE")]
    constraint_add: Vec<String>,
    /// Rule for the nodes of the tasks to remove
    #[arg(long, value_name = "RULE")]
    constraint_rm: Vec<String>,
    /// Preference to add, as spread=node.labels.KEY
    #[arg(long, value_name = "PREFERENCE", value_parser = placement::preference)]
    placement_pref_add: Vec<String>,
    /// Preference to remove
    #[arg(long, value_name = "PREFERENCE", value_parser = placement::preference)]
    placement_pref_rm: Vec<String>,
    /// Line of /etc/hosts to add
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = key_value::host)]
    host_add: Vec<String>,
    /// Line of /etc/hosts to remove, by its name or as NAME:ADDRESS
    #[arg(long, value_name = "NAME[:ADDRESS]")]
    host_rm: Vec<String>,
    /// Supplementary group to add
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Supplementary group to remove
    #[arg(long, value_name = "GROUP")]
    group_rm: Vec<String>,
    /// Resource limit to set
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = number::ulimit)]
    ulimit_add: Vec<Ulimit>,
    /// Resource limit to remove
    #[arg(long, value_name = "NAME")]
    ulimit_rm: Vec<String>,
    /// Kernel parameter to set
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value::pair)]
    sysctl_add: Vec<(String, String)>,
    /// Kernel parameter to remove
    #[arg(long, value_name = "KEY")]
    sysctl_rm: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Update) -> Result<u8, Failure> {
    let mut control = context.control().await?;
    let service = find(&mut control, &args.service).await?;
    let (waiting, is_rollback) = (args.waiting, args.rollback);
    let before = service.spec.clone().unwrap_or_default();
    let grants = grants::resolve(&mut control, &args.lists.secret_add).await?;
    let spec = args.changed(before.clone(), grants)?;
    let request = match is_rollback {
        true if spec != before => return Err(Failure::usage("other flags may not be combined with --rollback")),
        true => rollback(&service),
        false => {
            let version = version(&service.meta);
            UpdateServiceRequest { id: service.id.clone(), version, spec: Some(spec), rollback: false }
        }
    };
    send(context, &mut control, &before.name, request).await?;
    let goal = if is_rollback { wait::Goal::Back } else { wait::Goal::Forward };
    wait::converge(&mut control, &service.id, waiting, goal).await
}

/// The service that a reference means.
pub(super) async fn find(control: &mut Control, reference: &str) -> Result<Service, Failure> {
    let request = GetServiceRequest { reference: reference.to_owned() };
    let found = control.get_service(request).await?.into_inner().service;
    found.ok_or_else(|| Failure::failed("secretd has sent no service"))
}

/// The request that exchanges a service's specification with the one before.
pub(super) fn rollback(service: &Service) -> UpdateServiceRequest {
    UpdateServiceRequest { id: service.id.clone(), version: version(&service.meta), spec: None, rollback: true }
}

pub(super) fn version(meta: &Option<secretd_proto::v1::Meta>) -> u64 {
    meta.map_or(0, |meta| meta.version)
}

/// Sends an update and says so.
pub(super) async fn send(
    context: &Context,
    control: &mut Control,
    name: &str,
    request: UpdateServiceRequest,
) -> Result<(), Failure> {
    let updated = control.update_service(request).await?.into_inner();
    for warning in &updated.warnings {
        output::note(&format!("WARNING: {warning}"));
    }
    let value = json!({ "ID": updated.service.unwrap_or_default().id, "Name": name });
    output::bytes(context.format.object(name, &value)?.as_bytes())
}
