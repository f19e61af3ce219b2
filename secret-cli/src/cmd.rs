//! The commands: one file for each verb, its flags first, then what it does.

pub(crate) mod cluster;
pub(crate) mod completion;
pub(crate) mod context;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod image;
pub(crate) mod info;
pub(crate) mod inspection;
pub(crate) mod man;
pub(crate) mod node;
pub(crate) mod operator;
pub(crate) mod outcomes;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod task_list;
pub(crate) mod version;
pub(crate) mod volume;

use crate::args::{Cli, Command};
use crate::connection::{Certificate, Control, DEFAULT_HOST, Host, Reading, Target};
use crate::contexts::{Contexts, DEFAULT};
use crate::failure::Failure;
use crate::format::Format;
use crate::output;

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where the node is.
    pub(crate) host: Target,
    /// Whether what is read may be old.
    pub(crate) reading: Reading,
    /// How to show what comes out.
    pub(crate) format: Format,
}

impl Context {
    /// Connects to the API.
    pub(crate) async fn control(&self) -> Result<Control, Failure> {
        self.host.control(self.reading).await
    }

    /// Whether errors are JSON too.
    pub(crate) fn errors_as_json(&self) -> bool {
        matches!(self.format, Format::Json(_))
    }
}

/// Runs a command to its end: its exit code.
pub(crate) async fn run(cli: Cli) -> Result<u8, Failure> {
    let reading = Reading { stale: cli.stale };
    // What is asked of contexts must not fail because of the one that is in use.
    let needs_none = matches!(cli.command, Command::Context(_) | Command::Completion(_) | Command::Man(_));
    let host = if needs_none { own_node()? } else { target(&cli)? };
    let context = Context { host, reading, format: Format::parse(cli.format.as_deref(), reading.age())? };
    if reading.stale {
        check_reads(&cli.command)?;
        output::note("WARNING: what follows is what this manager knows, and may be out of date");
    }
    match cli.command {
        Command::Cluster(group) => cluster::run(&context, group).await,
        Command::Completion(args) => completion::run(&args),
        Command::Context(group) => context::run(&context, group),
        Command::Events(args) => events::run(&context, args).await,
        Command::Exec(args) => exec::run(&context, args).await,
        Command::Image(group) => image::run(&context, group).await,
        Command::Info(args) => info::run(&context, &args).await,
        Command::Man(args) => man::run(&args),
        Command::Node(group) => node::run(&context, group).await,
        Command::Operator(group) => operator::run(&context, group).await,
        Command::Secret(group) => secret::run(&context, group).await,
        Command::Service(group) => service::run(&context, group).await,
        Command::Version(args) => version::run(&context, &args).await,
        Command::Volume(group) => volume::run(&context, group).await,
    }
}

/// Refuses `--stale` with what does not read the state of the cluster: it would say of an answer what is not so.
fn check_reads(command: &Command) -> Result<(), Failure> {
    let reads = match command {
        Command::Node(group) => group.reads(),
        Command::Secret(group) => group.reads(),
        Command::Service(group) => group.reads(),
        Command::Cluster(_)
        | Command::Completion(_)
        | Command::Context(_)
        | Command::Events(_)
        | Command::Exec(_)
        | Command::Image(_)
        | Command::Info(_)
        | Command::Man(_)
        | Command::Operator(_)
        | Command::Version(_)
        | Command::Volume(_) => false,
    };
    match reads {
        true => Ok(()),
        false => Err(Failure::usage("--stale is for what is read: ls, inspect and ps of nodes, secrets and services")),
    }
}

/// The node that is meant: by a flag, else by the environment, else by the context that is in use.
fn target(cli: &Cli) -> Result<Target, Failure> {
    let read = |path: &std::path::Path| Certificate::read(path).map(std::sync::Arc::new);
    let certificate = cli.cert.as_deref().map(read).transpose()?;
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let host = match (&cli.host, &cli.context) {
        (Some(host), _) => Some(host.clone()),
        (None, Some(_)) => None,
        (None, None) => {
            let host = variable("SCTL_HOST").map(|text| text.parse().map_err(|error| format!("SCTL_HOST: {error}")));
            host.transpose().map_err(Failure::usage)?
        }
    };
    if let Some(host) = host {
        return Ok(Target { host, certificate });
    }
    let contexts = Contexts::of_user();
    let named = cli.context.clone().or_else(|| variable("SCTL_CONTEXT"));
    let name = named.unwrap_or_else(|| contexts.current());
    if name == DEFAULT {
        return own_node();
    }
    let saved = contexts.get(&name)?;
    let host = saved.host.parse().map_err(|error| Failure::invalid(format!("context \"{name}\": {error}")))?;
    let certificate = match (certificate, &saved.cert) {
        (Some(given), _) => Some(given),
        (None, Some(path)) => Some(read(path)?),
        (None, None) => None,
    };
    Ok(Target { host, certificate })
}

fn own_node() -> Result<Target, Failure> {
    Ok(Target { host: DEFAULT_HOST.parse::<Host>().map_err(Failure::failed)?, certificate: None })
}
