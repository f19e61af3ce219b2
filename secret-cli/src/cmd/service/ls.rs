//! `sctl service ls`

use clap::Args;
use secretd_proto::v1::{Filter, ListServicesRequest};

use crate::cmd::Context;
use crate::failure::Failure;
use crate::output;
use crate::parse::key_value;
use crate::view::service;

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Only those that match: id, label, mode, name
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = key_value::filter)]
    filters: Vec<Filter>,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) async fn run(context: &Context, args: Ls) -> Result<u8, Failure> {
    let mut control = context.control().await?;
    let services = control.list_services(ListServicesRequest { filters: args.filters }).await?.into_inner().services;
    if args.quiet {
        let ids =
            services.iter().filter_map(|summary| summary.service.as_ref()).map(|service| format!("{}\n", service.id));
        output::bytes(ids.collect::<String>().as_bytes())?;
        return Ok(0);
    }
    let rows: Vec<_> = services.iter().map(service::row).collect();
    output::bytes(context.format.list(&service::COLUMNS, &service::MORE, &rows)?.as_bytes())?;
    Ok(0)
}
