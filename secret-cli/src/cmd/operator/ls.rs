//! `sctl operator ls`

use clap::Args;
use secretd_proto::v1::ListOperatorsRequest;

use crate::cmd::Context;
use crate::failure::Failure;
use crate::output;
use crate::view::operator;

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Only the serial numbers
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) async fn run(context: &Context, args: &Ls) -> Result<u8, Failure> {
    let operators = context.control().await?.list_operators(ListOperatorsRequest {}).await?.into_inner().operators;
    if args.quiet {
        let serials = operators.iter().filter_map(|status| status.operator.as_ref());
        output::bytes(serials.map(|operator| format!("{}\n", operator.serial)).collect::<String>().as_bytes())?;
        return Ok(0);
    }
    let rows: Vec<_> = operators.iter().map(operator::row).collect();
    output::bytes(context.format.list(&operator::COLUMNS, &operator::MORE, &rows)?.as_bytes())?;
    Ok(0)
}
