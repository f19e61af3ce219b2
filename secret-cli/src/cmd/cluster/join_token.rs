//! `sctl cluster join-token`

use std::time::Duration;

use clap::Args;
use prost_types::Timestamp;
use secretd_proto::v1::{GetJoinTokenRequest, GetJoinTokenResponse};
use serde_json::{Value, json};

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
    if args.rotate && !args.quiet {
        let expires_at = args.ttl.map(|_| Timestamp::default());
        let example = GetJoinTokenResponse { expires_at, uses_left: args.uses, ..GetJoinTokenResponse::default() };
        context.format.check(&object(role, &example))?;
    }
    let request = GetJoinTokenRequest {
        manager: args.role.is_manager(),
        rotate: args.rotate,
        ttl: args.ttl.and_then(|ttl| prost_types::Duration::try_from(ttl).ok()),
        uses: args.uses.unwrap_or(0),
    };
    let mut control = context.control().await?;
    let token = control.get_join_token(request).await?.into_inner();
    let fault = fault(&token, clock::now());
    if args.quiet {
        if let Some(fault) = fault {
            output::note(&fault);
        }
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
    match fault {
        Some(fault) => plain += &format!("\n{fault}"),
        None => plain += &limits(&token),
    }
    output::bytes(context.format.object(plain.trim_end(), &object(role, &token))?.as_bytes())?;
    Ok(0)
}

fn object(role: &str, token: &GetJoinTokenResponse) -> Value {
    json!({
        "Role": role,
        "Token": token.token,
        "Address": token.address,
        "ExpiresAt": token.expires_at.as_ref().map(|at| timestamp::rfc3339(Some(at))),
        "UsesLeft": token.uses_left,
    })
}

/// Why nobody comes in with the token any more, if it is so. `now` counts from 1970.
fn fault(token: &GetJoinTokenResponse, now: Duration) -> Option<String> {
    if let Some(at) = token.expires_at.as_ref().filter(|at| timestamp::is_past(at, now)) {
        let at = timestamp::rfc3339(Some(at));
        return Some(format!("The token has expired ({at}): make a new one with --rotate."));
    }
    let is_used_up = token.uses_left == Some(0);
    is_used_up.then(|| "The token has been used as often as it may: make a new one with --rotate.".to_owned())
}

/// Until when a token counts, and for how many nodes: a line for each.
fn limits(token: &GetJoinTokenResponse) -> String {
    let until =
        token.expires_at.as_ref().map(|at| format!("\nThe token counts until {}.", timestamp::rfc3339(Some(at))));
    let uses = token.uses_left.map(|uses| format!("\nNodes that may still come in with it: {uses}."));
    until.into_iter().chain(uses).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_that_does_not_count_says_why_and_nothing_else() {
        let now = Duration::from_secs(1000);
        let token = |seconds: Option<i64>, uses_left: Option<u32>| {
            let expires_at = seconds.map(|seconds| Timestamp { seconds, nanos: 0 });
            GetJoinTokenResponse { expires_at, uses_left, ..GetJoinTokenResponse::default() }
        };
        let expired = "The token has expired (1970-01-01T00:16:39Z): make a new one with --rotate.";
        let used_up = "The token has been used as often as it may: make a new one with --rotate.";
        let table = [
            (token(None, None), None),
            (token(Some(1001), Some(1)), None),
            (token(Some(999), Some(3)), Some(expired)),
            (token(Some(999), Some(0)), Some(expired)),
            (token(Some(1001), Some(0)), Some(used_up)),
        ];
        for (token, wanted) in table {
            assert_eq!(fault(&token, now).as_deref(), wanted);
        }
        let limits = limits(&token(Some(1001), Some(2)));
        assert_eq!(limits, "\nThe token counts until 1970-01-01T00:16:41Z.\nNodes that may still come in with it: 2.");
    }
}
