//! `sctl secret ls`

use clap::Args;
use secretd_proto::v1::{Filter, ListSecretsRequest};

use crate::cmd::Context;
use crate::failure::Failure;
use crate::output;
use crate::parse::key_value;
use crate::view::secret;

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Only those that match: id, name, label
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = key_value::filter)]
    filters: Vec<Filter>,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) async fn run(context: &Context, args: Ls) -> Result<u8, Failure> {
    let mut control = context.control().await?;
    let mut secrets = control.list_secrets(ListSecretsRequest { filters: args.filters }).await?.into_inner().secrets;
    secrets.sort_by_cached_key(|secret| secret.spec.as_ref().map(|spec| spec.name.clone()));
    if args.quiet {
        output::bytes(secrets.iter().map(|secret| format!("{}\n", secret.id)).collect::<String>().as_bytes())?;
        return Ok(0);
    }
    let rows: Vec<_> = secrets.iter().map(secret::row).collect();
    output::bytes(context.format.list(&secret::COLUMNS, &secret::MORE, &rows)?.as_bytes())?;
    Ok(0)
}
