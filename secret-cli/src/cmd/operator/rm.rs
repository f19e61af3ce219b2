//! `sctl operator rm`

use clap::Args;
use secretd_proto::v1::RemoveOperatorRequest;
use serde_json::Value;

use crate::cmd::Context;
use crate::cmd::outcomes::Outcomes;
use crate::failure::Failure;
use crate::output;
use crate::view::operator;

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// A name, for all certificates of that name, or a serial number or its beginning
    #[arg(value_name = "NAME|SERIAL", required = true)]
    operators: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Rm) -> Result<u8, Failure> {
    let mut control = context.control().await?;
    let mut outcomes = Outcomes::new(context);
    for reference in args.operators {
        let removed = control.remove_operator(RemoveOperatorRequest { reference }).await.map_err(Failure::from);
        for taken_back in outcomes.take(removed).into_iter().flat_map(|removed| removed.into_inner().operators) {
            let plain = format!("{} {}", taken_back.name, taken_back.serial);
            let value: Value = operator::certificate(&taken_back);
            output::bytes(context.format.object(&plain, &value)?.as_bytes())?;
        }
    }
    Ok(outcomes.exit())
}
