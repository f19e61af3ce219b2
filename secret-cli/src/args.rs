//! The command line, defined once: parsing, help, completions and manual pages come from it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cmd;
use crate::connection::{DEFAULT_HOST, Host};

const MORE: &str = "\
Environment:
  SCTL_HOST     Node to speak to, as --host
  SCTL_CONTEXT  Context to use, as --context
  SCTL_CERT     Certificate to show, as --cert
  SCTL_CONFIG   Directory of contexts [default: ~/.config/sctl]

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
    #[arg(
        short = 'H',
        long,
        value_name = "HOST",
        help = format!("Node to speak to: unix://PATH of its control socket, or tcp://HOST:PORT of a manager [default: {DEFAULT_HOST}]")
    )]
    pub(crate) host: Option<Host>,
    /// Context to use, instead of the one that 'sctl context use' has chosen
    #[arg(short = 'c', long, value_name = "CONTEXT", conflicts_with = "host")]
    pub(crate) context: Option<String>,
    /// File of 'sctl operator create' to show oneself with, for tcp://
    #[arg(long, env = "SCTL_CERT", value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
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
    /// Manage names for clusters
    #[command(subcommand)]
    Context(cmd::context::Group),
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
    /// Manage who may use sctl from afar
    #[command(subcommand)]
    Operator(cmd::operator::Group),
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
