//! The command line, defined once: parsing, help, completions and manual pages come from it.

use clap::{Parser, Subcommand};

use crate::cmd;
use crate::connection::Host;

/// Secrets and services of a secretd cluster
#[derive(Debug, Parser)]
#[command(name = "sctl", version, propagate_version = false, subcommand_required = true, max_term_width = 120)]
pub(crate) struct Cli {
    /// Control socket of the node to speak to
    #[arg(
        short = 'H',
        long,
        env = "SCTL_HOST",
        value_name = "unix://PATH",
        default_value = "unix:///run/secretd/control.sock"
    )]
    pub(crate) host: Host,
    /// How to show what comes out: table, json, a template such as '{{.Name}}', or 'table TEMPLATE'; errors follow json
    #[arg(long, global = true, value_name = "FORMAT", display_order = 900)]
    pub(crate) format: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Manage the cluster
    #[command(subcommand)]
    Cluster(cmd::cluster::Group),
    /// Print completions for a shell
    Completion(cmd::completion::Completion),
    /// Show what happens in the cluster
    Events(cmd::events::Events),
    /// Run a command in a running container
    Exec(cmd::exec::Exec),
    /// Manage images of the node
    #[command(subcommand)]
    Image(cmd::image::Group),
    /// Show the node and its cluster
    Info(cmd::info::Info),
    /// Write manual pages
    #[command(hide = true)]
    Man(cmd::man::Man),
    /// Manage nodes
    #[command(subcommand)]
    Node(cmd::node::Group),
    /// Manage secrets
    #[command(subcommand)]
    Secret(cmd::secret::Group),
    /// Manage services
    #[command(subcommand)]
    Service(cmd::service::Group),
    /// Show the versions of sctl and of secretd
    Version(cmd::version::Version),
}
