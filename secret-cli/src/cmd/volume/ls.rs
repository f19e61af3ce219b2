//! `sctl volume ls`

use clap::Args;
use secretd_proto::v1::{Filter, ListVolumesRequest, Volume};

use crate::cmd::Context;
use crate::failure::Failure;
use crate::output;
use crate::parse::key_value;
use crate::view::volume;

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Only those that match: name, label, dangling (true: no container uses it)
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = key_value::filter)]
    filters: Vec<Filter>,
    /// Only the names
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) async fn run(context: &Context, args: Ls) -> Result<u8, Failure> {
    if let Some(wrong) = args.filters.iter().find(|filter| !is_known(filter)) {
        let Filter { key, value } = wrong;
        return Err(Failure::invalid(format!(
            "invalid filter '{key}={value}': it must be one of name, label, dangling=true, dangling=false"
        )));
    }
    let mut client = context.host.volumes().await?;
    let mut volumes = client.list(ListVolumesRequest {}).await?.into_inner().volumes;
    volumes.retain(|volume| args.filters.iter().all(|filter| matches(volume, filter)));
    if args.quiet {
        output::bytes(volumes.iter().map(|of| format!("{}\n", of.name)).collect::<String>().as_bytes())?;
        return Ok(0);
    }
    let rows: Vec<_> = volumes.iter().map(volume::row).collect();
    output::bytes(context.format.list(&volume::COLUMNS, &volume::MORE, &rows)?.as_bytes())?;
    Ok(0)
}

fn is_known(filter: &Filter) -> bool {
    match filter.key.as_str() {
        "name" | "label" => true,
        "dangling" => ["true", "1", "false", "0"].contains(&filter.value.as_str()),
        _ => false,
    }
}

fn matches(volume: &Volume, filter: &Filter) -> bool {
    let value = filter.value.as_str();
    match filter.key.as_str() {
        "name" => volume.name.contains(value),
        "dangling" => volume.task_ids.is_empty() == ["true", "1"].contains(&value),
        _ => match value.split_once('=') {
            Some((key, value)) => volume.labels.get(key).is_some_and(|have| have == value),
            None => volume.labels.contains_key(value),
        },
    }
}
