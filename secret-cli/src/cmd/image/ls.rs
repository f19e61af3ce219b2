//! `sctl image ls`

use clap::Args;
use secretd_proto::v1::{Filter, Image, ListImagesRequest};
use serde_json::Value;

use crate::cmd::Context;
use crate::failure::Failure;
use crate::output;
use crate::parse::key_value;
use crate::view::image;

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Only those that match: reference (with * for any letters), label, dangling (true: without a name)
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = key_value::filter)]
    filters: Vec<Filter>,
    /// Ids in full
    #[arg(long)]
    no_trunc: bool,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
    /// Only images of this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

impl Ls {
    /// Leaves each image the tags that were asked for.
    fn choose(&self, images: Vec<Image>) -> Vec<Image> {
        let given = self.filters.iter().filter(|filter| filter.key == "reference").map(|filter| filter.value.as_str());
        let names: Vec<&str> = self.name.as_deref().into_iter().chain(given).collect();
        let is_asked_for = |tag: &str| {
            let repository = tag.rsplit_once(':').map_or(tag, |(repository, _)| repository);
            names.iter().all(|name| is_like(tag, name) || is_like(repository, name))
        };
        let chosen = images.into_iter().filter_map(|mut image| {
            let was_untagged = image.tags.is_empty();
            image.tags.retain(|tag| is_asked_for(tag));
            let is_named = !image.tags.is_empty() || (was_untagged && names.is_empty());
            (is_named && self.filters.iter().all(|filter| matches(&image, filter))).then_some(image)
        });
        chosen.collect()
    }
}

/// Whether a text is like a pattern, in which `*` stands for any letters but a slash, as in Docker.
fn is_like(text: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => text == pattern,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            let end = rest.find('/').unwrap_or(rest.len());
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .take_while(|at| *at <= end)
                .any(|at| rest.get(at..).is_some_and(|rest| is_like(rest, after)))
        }),
    }
}

fn matches(image: &Image, filter: &Filter) -> bool {
    let value = filter.value.as_str();
    match filter.key.as_str() {
        "dangling" => image.tags.is_empty() == ["true", "1"].contains(&value),
        "label" => {
            let config: Value = serde_json::from_str(&image.config_json).unwrap_or_default();
            let label = |key: &str| config["config"]["Labels"][key].as_str().map(str::to_owned);
            match value.split_once('=') {
                Some((key, value)) => label(key).as_deref() == Some(value),
                None => label(value).is_some(),
            }
        }
        _ => true, // reference: of tags, seen to above
    }
}

fn is_known(filter: &Filter) -> bool {
    match filter.key.as_str() {
        "reference" | "label" => true,
        "dangling" => ["true", "1", "false", "0"].contains(&filter.value.as_str()),
        _ => false,
    }
}

pub(crate) async fn run(context: &Context, args: Ls) -> Result<u8, Failure> {
    if let Some(Filter { key, value }) = args.filters.iter().find(|filter| !is_known(filter)) {
        return Err(Failure::invalid(format!(
            "invalid filter '{key}={value}': it must be one of reference, label, dangling=true, dangling=false"
        )));
    }
    let mut client = context.host.images().await?;
    let images = client.list(ListImagesRequest {}).await?.into_inner().images;
    let images = args.choose(images);
    if args.quiet {
        let id = |of: &Image| if args.no_trunc { of.id.clone() } else { image::short(&of.id) };
        output::bytes(images.iter().map(|of| format!("{}\n", id(of))).collect::<String>().as_bytes())?;
        return Ok(0);
    }
    let rows: Vec<_> = images.iter().flat_map(|of| image::rows(of, args.no_trunc)).collect();
    output::bytes(context.format.list(&image::COLUMNS, &image::MORE, &rows)?.as_bytes())?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_stands_for_letters_of_one_part() {
        for (text, pattern, is) in [
            ("app", "app", true),
            ("app", "a*", true),
            ("app", "*", true),
            ("app", "*p", true),
            ("team/app", "*", false),
            ("team/app", "team/*", true),
            ("team/app", "*/a*p", true),
            ("app", "b*", false),
            ("app:1", "app:*", true),
        ] {
            assert_eq!(is_like(text, pattern), is, "{text} {pattern}");
        }
    }
}
