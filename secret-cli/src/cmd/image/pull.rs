//! `sctl image pull`

use std::io::Read;

use clap::Args;
use secretd_proto::v1::PullRequest;
use zeroize::Zeroizing;

use super::progress::{Detail, follow};
use crate::cmd::Context;
use crate::failure::Failure;
use crate::output;
use crate::view::image;

/// Far more than any password or token has.
const MAX_PASSWORD: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// User of the registry; the password comes on standard input
    #[arg(short, long, requires = "password_stdin", default_value = "", hide_default_value = true)]
    username: String,
    /// Read the registry's password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Speak HTTP without TLS to the registry
    #[arg(long)]
    plain_http: bool,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "NAME", help = "Name of the image, as [HOST/]REPOSITORY[:TAG|@DIGEST]")]
    reference: String,
}

pub(crate) async fn run(context: &Context, args: Pull) -> Result<u8, Failure> {
    let password = if args.password_stdin { password()? } else { Zeroizing::default() };
    let mut images = context.host.images().await?;
    let request = PullRequest {
        reference: args.reference,
        username: args.username,
        password: password.to_string(),
        plain_http: args.plain_http,
    };
    let stream = images.pull(request).await?.into_inner();
    for image in follow(stream, Detail::new(args.quiet)).await? {
        let plain = image.tags.first().or_else(|| image.digests.first()).unwrap_or(&image.id);
        output::bytes(context.format.object(plain, &image::object(&image))?.as_bytes())?;
    }
    Ok(0)
}

fn password() -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    std::io::stdin()
        .take(MAX_PASSWORD)
        .read_to_string(&mut text)
        .map_err(|error| Failure::failed(format!("cannot read the password from standard input: {error}")))?;
    let trimmed = text.trim_end_matches(['\r', '\n']);
    if trimmed.is_empty() {
        return Err(Failure::invalid("the password on standard input is empty"));
    }
    Ok(Zeroizing::new(trimmed.to_owned()))
}
