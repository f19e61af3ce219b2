//! `sctl context use`

use clap::Args;
use serde_json::json;

use crate::cmd::Context;
use crate::contexts::Contexts;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Use {
    /// Name of a context
    #[arg(value_name = "CONTEXT")]
    name: String,
}

pub(crate) fn run(context: &Context, args: &Use) -> Result<u8, Failure> {
    Contexts::of_user().make_current(&args.name)?;
    output::bytes(context.format.object(&args.name, &json!({ "Name": args.name }))?.as_bytes())?;
    Ok(0)
}
