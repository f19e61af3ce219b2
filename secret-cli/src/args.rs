//! The command line, defined once: parsing, help, completions and manual pages come from it.

use clap::{Parser, Subcommand};

use crate::cmd;
use crate::connection::{DEFAULT_HOST, Host};

const MORE: &str = "\
Environment:
  SCTL_HOST  Control socket, as --host

Exit status:
  0  done
  1  refused or failed
  2  wrong command line
  3  secretd, or what it needs, cannot be reached
  4  in conflict with what there is: taken, in use, changed meanwhile
  5  not found
  exec ends as its command does: 126 if that cannot be run, 127 if there is none, 128 + N after signal N";

/// Secrets and services of a secretd cluster
#[derive(Debug, Parser)]
#[command(name = "sctl", version, propagate_version = false, subcommand_required = true, after_help = MORE, max_term_width = 120)]
pub(crate) struct Cli {
    /// Control socket of the node to speak to
    #[arg(
        short = 'H',
        long,
        env = "SCTL_HOST",
        value_name = "unix://PATH",
        default_value = DEFAULT_HOST
    )]
    pub(crate) host: Host,
    /// How to show what comes out: table, json, a template such as '{{.Name}}', or 'table TEMPLATE'; errors follow json
    #[arg(long, global = true, value_name = "FORMAT", display_order = 900)]
    pub(crate) format: Option<String>,
    /// Show what the manager knows that is spoken to, also when it may be out of date: where too few managers answer
    #[arg(long, global = true, display_order = 901)]
    pub(crate) stale: bool,
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
    /// Manage volumes of the node
    #[command(subcommand)]
    Volume(cmd::volume::Group),
}
