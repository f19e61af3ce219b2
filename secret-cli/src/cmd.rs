//! The commands: one file for each verb, its flags first, then what it does.

pub(crate) mod cluster;
pub(crate) mod completion;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod image;
pub(crate) mod info;
pub(crate) mod inspection;
pub(crate) mod man;
pub(crate) mod node;
pub(crate) mod outcomes;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod task_list;
pub(crate) mod version;
pub(crate) mod volume;

use crate::args::{Cli, Command};
use crate::connection::{Control, Host, Reading};
use crate::failure::Failure;
use crate::format::Format;
use crate::output;

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where the node is.
    pub(crate) host: Host,
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
        self.format == Format::Json
    }
}

/// Runs a command to its end: its exit code.
pub(crate) async fn run(cli: Cli) -> Result<u8, Failure> {
    let reading = Reading { stale: cli.stale };
    let context = Context { host: cli.host, reading, format: Format::parse(cli.format.as_deref())? };
    if reading.stale {
        output::note("WARNING: what follows is what this manager knows, and may be out of date");
    }
    match cli.command {
        Command::Cluster(group) => cluster::run(&context, group).await,
        Command::Completion(args) => completion::run(&args),
        Command::Events(args) => events::run(&context, args).await,
        Command::Exec(args) => exec::run(&context, args).await,
        Command::Image(group) => image::run(&context, group).await,
        Command::Info(args) => info::run(&context, &args).await,
        Command::Man(args) => man::run(&args),
        Command::Node(group) => node::run(&context, group).await,
        Command::Secret(group) => secret::run(&context, group).await,
        Command::Service(group) => service::run(&context, group).await,
        Command::Version(args) => version::run(&context, &args).await,
        Command::Volume(group) => volume::run(&context, group).await,
    }
}
