//! `sctl context create`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cmd::Context;
use crate::connection::{Certificate, Host};
use crate::contexts::{Contexts, Saved};
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Where the node is: unix:///PATH, or tcp://HOST:PORT of a manager
    #[arg(long = "host", id = "context_host", value_name = "HOST")]
    host: Host,
    /// File of 'sctl operator create' to show oneself with, for tcp://; it is copied
    #[arg(long = "cert", id = "context_cert", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// Name of the context
    #[arg(value_name = "CONTEXT")]
    name: String,
}

pub(crate) fn run(context: &Context, args: Create) -> Result<u8, Failure> {
    match (&args.host, &args.cert) {
        (Host::Tcp(_), None) => return Err(Failure::usage("tcp:// needs a certificate: give --cert FILE")),
        (Host::Tcp(_), Some(path)) => drop(Certificate::read(path)?),
        (Host::Unix(_), Some(_)) => return Err(Failure::usage("--cert is for tcp:// alone")),
        (Host::Unix(_), None) => {}
    }
    let saved = Saved { name: args.name, host: args.host.to_string(), description: args.description, cert: args.cert };
    Contexts::of_user().create(&saved)?;
    output::bytes(context.format.object(&saved.name, &json!({ "Name": saved.name }))?.as_bytes())?;
    Ok(0)
}
