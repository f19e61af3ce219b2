//! `sctl version`

use clap::Args;
use secretd_proto::v1::GetInfoRequest;
use serde_json::{Value, json};

use super::Context;
use super::inspection::ShortFormat;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Version {
    #[command(flatten)]
    format: ShortFormat,
}

pub(crate) async fn run(context: &Context, args: &Version) -> Result<u8, Failure> {
    let client = env!("CARGO_PKG_VERSION");
    // What is known is told even when the daemon cannot be reached.
    let server = server_version(context).await;
    let (plain, value) = match &server {
        Ok(server) => (format!("Client: {client}\nServer: {server}"), json!({ "Version": server })),
        Err(_) => (format!("Client: {client}"), Value::Null),
    };
    let value = json!({ "Client": { "Version": client }, "Server": value });
    let format = args.format.of(context)?;
    output::bytes(format.object(&plain, &value)?.as_bytes())?;
    server.map(|_| 0)
}

async fn server_version(context: &Context) -> Result<String, Failure> {
    let mut local = context.host.local().await?;
    Ok(local.get_info(GetInfoRequest {}).await?.into_inner().server_version)
}
