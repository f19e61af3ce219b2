//! `sctl node rekey`

use clap::Args;
use secretd_proto::v1::RekeyRequest;
use secretd_proto::v1::rekey_request::Source;
use serde_json::json;

use crate::cmd::Context;
use crate::failure::Failure;
use crate::{input, output};

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Rekey {
    /// A new file beside the data; with autolock, the cluster's unlock key
    #[arg(long)]
    file: bool,
    /// A passphrase, read from standard input: the node asks for it when it starts
    #[arg(long)]
    passphrase: bool,
    /// What systemd hands over as the credential secretd-kek: the node starts without being asked
    #[arg(long)]
    credential: bool,
    /// A new data key: it seals from now on, and what there is is sealed anew in the background
    #[arg(long)]
    data_key: bool,
}

pub(crate) async fn run(context: &Context, args: &Rekey) -> Result<u8, Failure> {
    let mut local = context.host.local().await?;
    let source = match (args.passphrase, args.credential) {
        _ if args.data_key => Source::DataKey(true),
        (true, _) => {
            let passphrase = input::hidden_line("New passphrase: ", "the new passphrase")?;
            Source::Passphrase(passphrase.as_bytes().to_vec())
        }
        (false, true) => Source::Credential(true),
        (false, false) => Source::File(args.file),
    };
    let kek = local.rekey(RekeyRequest { source: Some(source) }).await?.into_inner();
    let worth = if kek.secure { "secure" } else { "weak" };
    let done = if args.data_key { "New data key, wrapped by" } else { "Data key wrapped anew:" };
    let plain = format!("{done} {} ({worth}): {}", kek.source, kek.reason);
    let value = json!({ "Source": kek.source, "Secure": kek.secure, "Reason": kek.reason });
    output::bytes(context.format.object(&plain, &value)?.as_bytes())?;
    Ok(0)
}
