//! `sctl cluster join-token`

use std::time::Duration;

use clap::Args;
use secretd_proto::v1::GetJoinTokenRequest;
use serde_json::json;

use crate::cmd::Context;
use crate::failure::Failure;
use crate::parse::duration;
use crate::parse::role::{self, Role};
use crate::{clock, output, timestamp};

#[derive(Debug, Args)]
pub(crate) struct JoinToken {
    /// As what nodes come in with it: worker or manager
    #[arg(value_name = "worker|manager", value_parser = role::parse)]
    role: Role,
    /// Make a new token; the old one counts no more, nodes that came in with it stay
    #[arg(long)]
    rotate: bool,
    /// Only the token
    #[arg(short, long)]
    quiet: bool,
    /// How long the new token counts; for ever unless given
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, requires = "rotate")]
    ttl: Option<Duration>,
    /// How many nodes may come in with the new token; any number unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), requires = "rotate")]
    uses: Option<u32>,
}

pub(crate) async fn run(context: &Context, args: &JoinToken) -> Result<u8, Failure> {
    let role = args.role.word();
    let request = GetJoinTokenRequest {
        manager: args.role.is_manager(),
        rotate: args.rotate,
        ttl: args.ttl.and_then(|ttl| prost_types::Duration::try_from(ttl).ok()),
        uses: args.uses.unwrap_or(0),
    };
    let mut control = context.control().await?;
    let token = control.get_join_token(request).await?.into_inner();
    if args.quiet {
        output::bytes(format!("{}\n", token.token).as_bytes())?;
        return Ok(0);
    }
    let mut plain = String::new();
    if args.rotate {
        plain = format!("Successfully rotated {role} join token.\n\n");
    }
    plain += &format!(
        "To add a {role} to this cluster, run the following command:\n\n    sctl cluster join --token {} {}\n",
        token.token, token.address
    );
    let expires = token.expires_at.as_ref().map(|at| timestamp::rfc3339(Some(at)));
    let has_expired = token.expires_at.as_ref().is_some_and(|at| timestamp::is_past(at, clock::now()));
    match &expires {
        Some(at) if has_expired => plain += &format!("\nThe token has expired ({at}): make a new one with --rotate."),
        Some(at) => plain += &format!("\nThe token counts until {at}."),
        None => {}
    }
    match token.uses_left {
        Some(0) => plain += "\nThe token has been used as often as it may: make a new one with --rotate.",
        Some(uses) => plain += &format!("\nNodes that may still come in with it: {uses}."),
        None => {}
    }
    let value = json!({
        "Role": role,
        "Token": token.token,
        "Address": token.address,
        "ExpiresAt": expires,
        "UsesLeft": token.uses_left,
    });
    output::bytes(context.format.object(plain.trim_end(), &value)?.as_bytes())?;
    Ok(0)
}
