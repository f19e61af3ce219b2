//! `sctl context inspect`

use clap::Args;
use serde_json::json;

use crate::cmd::Context;
use crate::cmd::inspection::Inspection;
use crate::cmd::outcomes::Outcomes;
use crate::contexts::Contexts;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    inspection: Inspection,
    /// Name of a context
    #[arg(value_name = "CONTEXT", required = true)]
    names: Vec<String>,
}

pub(crate) fn run(context: &Context, args: &Inspect) -> Result<u8, Failure> {
    let format = args.inspection.format.of(context)?;
    let contexts = Contexts::of_user();
    let mut outcomes = Outcomes::new(context);
    let mut objects = Vec::new();
    for name in &args.names {
        objects.extend(outcomes.take(contexts.get(name)).map(|saved| {
            json!({
                "Name": saved.name,
                "Description": saved.description,
                "Host": saved.host,
                "Cert": saved.cert.map(|path| path.display().to_string()),
            })
        }));
    }
    args.inspection.show(&format, &objects, &outcomes)
}
