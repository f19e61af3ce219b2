//! `sctl secret create`: seals here, sends only what is sealed.

use std::path::PathBuf;

use clap::Args;
use secretd_proto::id::SecretId;
use secretd_proto::name::SecretName;
use secretd_proto::v1::{CreateSecretRequest, SecretSpec};
use serde_json::json;

use crate::cmd::Context;
use crate::failure::Failure;
use crate::parse::key_value;
use crate::{output, seal};

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Label of the secret
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = key_value::label)]
    labels: Vec<(String, String)>,
    /// Name of the secret
    #[arg(value_name = "NAME")]
    name: String,
    /// File with the value, or - for standard input; every byte counts, a newline at the end too
    #[arg(value_name = "FILE|-")]
    source: PathBuf,
}

pub(crate) async fn run(context: &Context, args: Create) -> Result<u8, Failure> {
    let name: SecretName = args.name.parse().map_err(Failure::invalid)?;
    seal::protect_memory()?;
    let plaintext = seal::read(&args.source)?;
    let mut control = context.control().await?;
    let id = SecretId::random();
    let (length, payload) = seal::seal(&mut control, id, 1, name.as_str(), plaintext).await?;
    let spec = SecretSpec { name: name.into(), labels: args.labels.into_iter().collect() };
    let request = CreateSecretRequest { id: id.to_string(), spec: Some(spec), length, payload: Some(payload) };
    control.create_secret(request).await?;
    let id = id.to_string();
    output::bytes(context.format.object(&id, &json!({ "ID": id }))?.as_bytes())?;
    Ok(0)
}
