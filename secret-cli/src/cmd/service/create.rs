//! `sctl service create`

use clap::Args;
use secretd_proto::v1::service_spec::Mode;
use secretd_proto::v1::{CreateServiceRequest, GlobalMode, Mount, ReplicatedMode, ServiceSpec, Ulimit};
use serde_json::json;

use super::options::apply::{container, task};
use super::options::{Limits, Policies, Scalars, Waiting};
use super::{grants, wait};
use crate::cmd::Context;
use crate::failure::Failure;
use crate::output;
use crate::parse::secret::SecretRequest;
use crate::parse::{environment, key_value, mount, number, placement};

#[derive(Debug, Clone, Copy)]
enum ServiceMode {
    Replicated,
    Global,
}

fn mode(text: &str) -> Result<ServiceMode, String> {
    match text {
        "replicated" => Ok(ServiceMode::Replicated),
        "global" => Ok(ServiceMode::Global),
        _ => Err(format!("unknown mode: {text}, only replicated and global are supported")),
    }
}

#[derive(Debug, Args)]
#[command(override_usage = "sctl service create [OPTIONS] IMAGE [COMMAND] [ARG...]")]
pub(crate) struct Create {
    /// Name of the service; a random one without it
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// How the number of tasks is chosen: replicated, or global for one on each node
    #[arg(long, default_value = "replicated", value_parser = mode)]
    mode: ServiceMode,
    /// Secret to grant, as NAME or source=NAME,target=PATH,uid=UID,gid=GID,mode=OCTAL
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<SecretRequest>,
    /// Environment variable, as NAME=VALUE, or NAME with the value that it has here
    #[arg(short, long, value_name = "VARIABLE")]
    env: Vec<String>,
    /// File with an environment variable in each line
    #[arg(long = "env-file", value_name = "FILE")]
    env_files: Vec<std::path::PathBuf>,
    /// Label of the service
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = key_value::label)]
    labels: Vec<(String, String)>,
    /// Label of the containers
    #[arg(long = "container-label", value_name = "KEY=VALUE", value_parser = key_value::label)]
    container_labels: Vec<(String, String)>,
    /// Rule for the nodes of the tasks, as KEY==VALUE or KEY!=VALUE: node.id, node.hostname, node.role,
    /// node.platform.os, node.platform.arch, node.labels.KEY, engine.labels.KEY
    #[arg(long = "constraint", value_name = "RULE")]
    constraints: Vec<String>,
    /// Spread the tasks over the values of a label of nodes, as spread=node.labels.KEY; the first one is the outermost
    #[arg(long = "placement-pref", value_name = "PREFERENCE", value_parser = placement::preference)]
    placement_prefs: Vec<String>,
    #[arg(long = "mount", help = mount::HELP, value_name = "MOUNT", value_parser = mount::parse)]
    mounts: Vec<Mount>,
    /// Further line of /etc/hosts
    #[arg(long = "host", value_name = "NAME:ADDRESS", value_parser = key_value::host)]
    hosts: Vec<String>,
    /// Supplementary group in the container
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// Resource limit of processes
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]", value_parser = number::ulimit)]
    ulimits: Vec<Ulimit>,
    /// Kernel parameter of the container's namespaces
    #[arg(long = "sysctl", value_name = "KEY=VALUE", value_parser = key_value::pair)]
    sysctls: Vec<(String, String)>,
    #[command(flatten)]
    scalars: Scalars,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    policies: Policies,
    #[command(flatten)]
    waiting: Waiting,
    /// Image, then the command and its arguments in place of the image's
    #[arg(value_name = "IMAGE", required = true, num_args = 1.., trailing_var_arg = true)]
    image: Vec<String>,
}

pub(crate) async fn run(context: &Context, mut args: Create) -> Result<u8, Failure> {
    let env = environment::variables(&args.env_files, &args.env)?;
    let (requests, waiting) = (std::mem::take(&mut args.secrets), args.waiting);
    let mut spec = args.into_spec(env)?;
    let mut control = context.control().await?;
    container(&mut spec).secrets = grants::resolve(&mut control, &requests).await?;
    let created = control.create_service(CreateServiceRequest { spec: Some(spec) }).await?.into_inner();
    for warning in &created.warnings {
        output::note(&format!("WARNING: {warning}"));
    }
    let service = created.service.unwrap_or_default();
    let name = service.spec.map(|spec| spec.name).unwrap_or_default();
    let value = json!({ "ID": service.id, "Name": name });
    output::bytes(context.format.object(&service.id, &value)?.as_bytes())?;
    wait::converge(&mut control, &service.id, waiting, wait::Goal::Forward).await
}

impl Create {
    /// The specification, without its secrets.
    fn into_spec(self, env: Vec<String>) -> Result<ServiceSpec, Failure> {
        let mode = match self.mode {
            ServiceMode::Replicated => Mode::Replicated(ReplicatedMode { replicas: 1 }),
            ServiceMode::Global => Mode::Global(GlobalMode {}),
        };
        let mut spec = ServiceSpec {
            name: self.name,
            labels: self.labels.into_iter().collect(),
            mode: Some(mode),
            ..ServiceSpec::default()
        };
        let container = container(&mut spec);
        let mut words = self.image.into_iter();
        container.image = words.next().unwrap_or_default();
        container.args = words.collect();
        container.env = env;
        container.labels = self.container_labels.into_iter().collect();
        container.mounts = self.mounts;
        container.hosts = self.hosts;
        container.groups = self.groups;
        container.ulimits = self.ulimits;
        container.sysctls = self.sysctls.into_iter().collect();
        let placement = task(&mut spec).placement.get_or_insert_default();
        placement.constraints = self.constraints;
        placement.spread = self.placement_prefs;
        self.scalars.apply(&mut spec)?;
        self.limits.apply(&mut spec);
        self.policies.apply(&mut spec);
        Ok(spec)
    }
}
