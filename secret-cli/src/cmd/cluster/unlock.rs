//! `sctl cluster unlock`

use clap::Args;
use secretd_proto::v1::UnlockRequest;
use serde_json::json;

use crate::cmd::Context;
use crate::failure::Failure;
use crate::{input, output};

#[derive(Debug, Args)]
pub(crate) struct Unlock {}

pub(crate) async fn run(context: &Context, Unlock {}: &Unlock) -> Result<u8, Failure> {
    let mut local = context.host.local().await?;
    let key = input::hidden_line("Please enter unlock key: ", "the unlock key, or the node's passphrase")?;
    local.unlock(UnlockRequest { key: key.as_bytes().to_vec() }).await?;
    output::bytes(context.format.object("Node unlocked.", &json!({ "Unlocked": true }))?.as_bytes())?;
    Ok(0)
}
