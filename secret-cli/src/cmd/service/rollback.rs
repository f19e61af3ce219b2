//! `sctl service rollback`

use clap::Args;

use super::options::Waiting;
use super::{update, wait};
use crate::cmd::Context;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    #[command(flatten)]
    waiting: Waiting,
    /// Name or id of the service
    #[arg(value_name = "SERVICE")]
    service: String,
}

pub(crate) async fn run(context: &Context, args: Rollback) -> Result<u8, Failure> {
    let mut control = context.control().await?;
    let service = update::find(&mut control, &args.service).await?;
    let name = service.spec.as_ref().map(|spec| spec.name.clone()).unwrap_or_default();
    update::send(context, &mut control, &name, update::rollback(&service)).await?;
    wait::converge(&mut control, &service.id, args.waiting, wait::Goal::Back).await
}
