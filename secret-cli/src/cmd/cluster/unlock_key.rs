//! `sctl cluster unlock-key`

use clap::Args;
use secretd_proto::v1::GetUnlockKeyRequest;
use serde_json::{Value, json};

use crate::cmd::Context;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct UnlockKey {
    /// Make a new key; managers that are away need the old one when they come back
    #[arg(long)]
    rotate: bool,
    /// Only the key
    #[arg(short, long)]
    quiet: bool,
}

/// What to do with an unlock key.
pub(crate) fn advice(key: &str) -> String {
    format!(
        "To unlock a manager after it restarts, run 'sctl cluster unlock' and give the following key:\n\n    {key}\n\nKeep this key in a safe place: without it a manager that has stopped cannot be started again."
    )
}

fn object(key: &str) -> Value {
    json!({ "UnlockKey": key })
}

pub(crate) async fn run(context: &Context, args: &UnlockKey) -> Result<u8, Failure> {
    if args.rotate && !args.quiet {
        context.format.check(&object(""))?;
    }
    let mut control = context.control().await?;
    let key = control.get_unlock_key(GetUnlockKeyRequest { rotate: args.rotate }).await?.into_inner().unlock_key;
    if args.quiet {
        output::bytes(format!("{key}\n").as_bytes())?;
        return Ok(0);
    }
    let rotated = if args.rotate { "Successfully rotated manager unlock key.\n\n" } else { "" };
    let plain = format!("{rotated}{}", advice(&key));
    output::bytes(context.format.object(&plain, &object(&key))?.as_bytes())?;
    Ok(0)
}
