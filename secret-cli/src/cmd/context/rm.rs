//! `sctl context rm`

use clap::Args;
use secretd_proto::code::Code;
use serde_json::json;

use crate::cmd::Context;
use crate::cmd::outcomes::Outcomes;
use crate::contexts::{Contexts, DEFAULT};
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Also the one that is in use
    #[arg(short, long)]
    force: bool,
    /// Name of a context
    #[arg(value_name = "CONTEXT", required = true)]
    names: Vec<String>,
}

pub(crate) fn run(context: &Context, args: Rm) -> Result<u8, Failure> {
    let contexts = Contexts::of_user();
    let mut outcomes = Outcomes::new(context);
    for name in args.names {
        if outcomes.take(remove(&contexts, &name, args.force)).is_some() {
            output::bytes(context.format.object(&name, &json!({ "Name": name }))?.as_bytes())?;
        }
    }
    Ok(outcomes.exit())
}

fn remove(contexts: &Contexts, name: &str, force: bool) -> Result<(), Failure> {
    if name == DEFAULT {
        return Err(Failure::invalid("context \"default\" cannot be removed"));
    }
    let is_current = contexts.current() == name;
    if is_current && !force {
        return Err(Failure::new(
            Code::InUse,
            format!("context \"{name}\" is in use: use another one, or give --force"),
        ));
    }
    contexts.remove(name)?;
    if is_current { contexts.make_current(DEFAULT) } else { Ok(()) }
}
