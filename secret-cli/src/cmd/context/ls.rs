//! `sctl context ls`

use clap::Args;
use serde_json::{Value, json};

use crate::cmd::Context;
use crate::connection::DEFAULT_HOST;
use crate::contexts::{Contexts, DEFAULT, Saved};
use crate::failure::Failure;
use crate::format::{Column, Format};
use crate::output;

const COLUMNS: [Column; 3] = [("Name", "NAME"), ("Description", "DESCRIPTION"), ("Host", "HOST")];
const MORE: [Column; 1] = [("Current", "CURRENT")];

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Only the names
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(context: &Context, args: &Ls) -> Result<u8, Failure> {
    let contexts = Contexts::of_user();
    let own = Saved {
        name: DEFAULT.to_owned(),
        host: DEFAULT_HOST.to_owned(),
        description: "This node".to_owned(),
        cert: None,
    };
    let all: Vec<Saved> = std::iter::once(own).chain(contexts.all()?).collect();
    if args.quiet {
        let names: String = all.iter().map(|saved| format!("{}\n", saved.name)).collect();
        output::bytes(names.as_bytes())?;
        return Ok(0);
    }
    let current = contexts.current();
    let mark = matches!(context.format, Format::Table | Format::TableTemplate(_));
    let row = |saved: &Saved| -> Value {
        let is_current = saved.name == current;
        json!({
            "Name": if mark && is_current { format!("{} *", saved.name) } else { saved.name.clone() },
            "Description": saved.description,
            "Host": saved.host,
            "Current": is_current,
        })
    };
    let rows: Vec<Value> = all.iter().map(row).collect();
    output::bytes(context.format.list(&COLUMNS, &MORE, &rows)?.as_bytes())?;
    Ok(0)
}
