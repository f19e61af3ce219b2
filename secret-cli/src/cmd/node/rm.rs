//! `sctl node rm`

use clap::Args;
use secretd_proto::v1::RemoveNodeRequest;
use serde_json::json;

use super::named;
use crate::cmd::Context;
use crate::cmd::outcomes::Outcomes;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Name or id of a node
    #[arg(value_name = "NODE", required = true)]
    nodes: Vec<String>,
    /// Also when it is not down: it is refused from then on
    #[arg(short, long)]
    force: bool,
}

pub(crate) async fn run(context: &Context, args: Rm) -> Result<u8, Failure> {
    let mut control = context.control().await?;
    let mut outcomes = Outcomes::new(context);
    for name in args.nodes {
        let removed = match named(context, &name).await {
            Ok(reference) => {
                let request = RemoveNodeRequest { reference, force: args.force };
                control.remove_node(request).await.map_err(Failure::from)
            }
            Err(failure) => Err(failure),
        };
        if let Some(removed) = outcomes.take(removed) {
            let value = json!({ "ID": removed.into_inner().id });
            output::bytes(context.format.object(&name, &value)?.as_bytes())?;
        }
    }
    Ok(outcomes.exit())
}
