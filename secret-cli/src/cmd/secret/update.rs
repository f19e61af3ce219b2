//! `sctl secret update`: the next version of a value, or other labels.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use secretd_proto::code::Code;
use secretd_proto::v1::{GetSecretRequest, Secret, UpdateSecretRequest};
use serde_json::json;

use crate::cmd::Context;
use crate::connection::Control;
use crate::failure::Failure;
use crate::parse::key_value;
use crate::{output, seal};

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Label to add or to change
    #[arg(long = "label-add", value_name = "KEY=VALUE", value_parser = key_value::label)]
    label_add: Vec<(String, String)>,
    /// Label to remove, by its key
    #[arg(long = "label-rm", value_name = "KEY")]
    label_rm: Vec<String>,
    /// Name or id of the secret
    #[arg(value_name = "SECRET")]
    secret: String,
    /// File with the new value, or - for standard input; without it the labels alone change
    #[arg(value_name = "FILE|-")]
    source: Option<PathBuf>,
}

pub(crate) async fn run(context: &Context, args: Update) -> Result<u8, Failure> {
    let changes_labels = !args.label_add.is_empty() || !args.label_rm.is_empty();
    if args.source.is_none() && !changes_labels {
        let hint = "give a file, - for standard input, --label-add or --label-rm";
        return Err(Failure::usage(format!("there is nothing to update: {hint}")));
    }
    let plaintext = match &args.source {
        Some(source) => {
            seal::protect_memory()?;
            Some(seal::read(source)?)
        }
        None => None,
    };
    let mut control = context.control().await?;
    let secret = current(&mut control, args.secret).await?;
    let id = secret.id.parse().map_err(Failure::failed)?;
    let spec = secret.spec.unwrap_or_default();
    let version = secret.secret_version + 1;
    let (length, payload) = match plaintext {
        Some(plaintext) => {
            let (length, payload) = seal::seal(&mut control, id, version, &spec.name, plaintext).await?;
            (length, Some(payload))
        }
        None => (0, None),
    };
    let mut labels = if changes_labels { spec.labels } else { HashMap::new() };
    labels.retain(|key, _| !args.label_rm.contains(key));
    labels.extend(args.label_add);
    let request = UpdateSecretRequest {
        id: secret.id,
        secret_version: version,
        length,
        payload,
        labels,
        replace_labels: changes_labels,
    };
    let updated = control.update_secret(request).await.map_err(|status| overtaken(status.into(), &spec.name))?;
    let updated = updated.into_inner().secret.unwrap_or_default();
    let value = json!({ "ID": updated.id, "Name": spec.name, "SecretVersion": updated.secret_version });
    output::bytes(context.format.object(&spec.name, &value)?.as_bytes())?;
    Ok(0)
}

async fn current(control: &mut Control, reference: String) -> Result<Secret, Failure> {
    let response = control.get_secret(GetSecretRequest { reference }).await?.into_inner();
    response.secret.ok_or_else(|| Failure::failed("secretd has sent no secret"))
}

/// Says whose value is there when another update came first.
fn overtaken(failure: Failure, name: &str) -> Failure {
    if failure.code != Code::OutOfSequence.as_str() {
        return failure;
    }
    let what = "was updated by someone else meanwhile, and is as they left it: repeat the command to update it again";
    Failure::new(Code::OutOfSequence, format!("secret {name} {what}"))
}
