//! `sctl version`

use clap::Args;
use secretd_proto::v1::GetInfoRequest;
use serde_json::json;

use super::Context;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Version {}

pub(crate) async fn run(context: &Context, Version {}: &Version) -> Result<u8, Failure> {
    let client = env!("CARGO_PKG_VERSION");
    let mut control = context.host.control().await?;
    let server = control.get_info(GetInfoRequest {}).await?.into_inner().server_version;
    let plain = format!("Client: {client}\nServer: {server}");
    let value = json!({ "Client": { "Version": client }, "Server": { "Version": server } });
    output::bytes(context.format.object(&plain, &value)?.as_bytes())?;
    Ok(0)
}
