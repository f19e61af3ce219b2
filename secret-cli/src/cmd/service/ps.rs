//! `sctl service ps`

use clap::Args;
use secretd_proto::v1::Filter;

use super::update::find;
use crate::cmd::Context;
use crate::cmd::outcomes::Outcomes;
use crate::cmd::task_list::TaskList;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Ps {
    #[command(flatten)]
    list: TaskList,
    /// Name or id of a service
    #[arg(value_name = "SERVICE", required = true)]
    services: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Ps) -> Result<u8, Failure> {
    let mut control = context.control().await?;
    let mut outcomes = Outcomes::new(context);
    let mut found = Vec::new();
    for reference in &args.services {
        let service = outcomes.take(find(&mut control, reference).await);
        found.extend(service.map(|service| Filter { key: "service".to_owned(), value: service.id }));
    }
    if !found.is_empty() {
        args.list.show(context, &mut control, found).await?;
    }
    Ok(outcomes.exit())
}
