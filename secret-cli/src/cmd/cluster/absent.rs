//! Docker's flags that are refused by name, with the reason: who gives one must not believe that it does anything.

use std::convert::Infallible;

use clap::Args;

/// Of `init` and `update`.
#[derive(Debug, Args)]
pub(crate) struct Absent {
    #[arg(long, hide = true, value_parser = snapshots, allow_hyphen_values = true)]
    snapshot_interval: Option<Infallible>,
    #[arg(long, hide = true, value_parser = old_snapshots, allow_hyphen_values = true)]
    max_snapshots: Option<Infallible>,
    #[arg(long, hide = true, value_parser = external_ca)]
    external_ca: Option<Infallible>,
}

/// Of `ca`.
#[derive(Debug, Args)]
pub(crate) struct AbsentAuthority {
    #[arg(long, hide = true, value_parser = external_ca)]
    external_ca: Option<Infallible>,
}

/// Of `init` and `join`.
#[derive(Debug, Args)]
pub(crate) struct AbsentNetwork {
    #[arg(long, hide = true, value_parser = overlay)]
    data_path_addr: Option<Infallible>,
    #[arg(long, hide = true, value_parser = overlay)]
    data_path_port: Option<Infallible>,
    #[arg(long, hide = true, value_parser = overlay)]
    default_addr_pool: Option<Infallible>,
    #[arg(long, hide = true, value_parser = overlay)]
    default_addr_pool_mask_length: Option<Infallible>,
}

fn snapshots(_: &str) -> Result<Infallible, String> {
    Err("a snapshot costs nothing here: the log is shortened every 500 changes, and there is no interval to set"
        .to_owned())
}

fn old_snapshots(_: &str) -> Result<Infallible, String> {
    Err("old snapshots are not kept: take backups with \"sctl cluster backup\"".to_owned())
}

fn external_ca(_: &str) -> Result<Infallible, String> {
    Err("certificates are made by the cluster's own authority: there is no external one".to_owned())
}

fn overlay(_: &str) -> Result<Infallible, String> {
    Err("there are no overlay networks yet".to_owned())
}
