//! `sctl cluster ca`

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use secretd_ca::{CertificateDer, pem};
use secretd_proto::v1::{GetAuthorityRequest, GetAuthorityResponse, RotateAuthorityRequest, WatchAuthorityRequest};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::absent::AbsentAuthority;
use crate::cmd::Context;
use crate::connection::Control;
use crate::failure::Failure;
use crate::parse::duration;
use crate::view::operator;
use crate::{output, timestamp, view};

/// Between attempts to go on watching after a manager was lost.
const AGAIN: Duration = Duration::from_millis(200);
/// How often that is tried.
const ATTEMPTS: u32 = 100;

#[derive(Debug, Args)]
pub(crate) struct Ca {
    /// Replace the root certificate: every node gets a new certificate, both join tokens change, and operators' certificates end
    #[arg(long)]
    rotate: bool,
    /// Return at once, and let the replacement go on
    #[arg(short, long)]
    detach: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// The root certificate to use from now on (PEM); one is made unless given
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// Its key (PEM, PKCS #8, ECDSA on P-256)
    #[arg(long, value_name = "FILE")]
    ca_key: Option<PathBuf>,
    /// How long certificates of nodes count from now on
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    cert_expiry: Option<Duration>,
    #[command(flatten)]
    absent: AbsentAuthority,
}

pub(crate) async fn run(context: &Context, args: &Ca) -> Result<u8, Failure> {
    args.check()?;
    args.check_format(context)?;
    let request = args.request()?;
    let mut control = context.control().await?;
    if !args.rotate {
        let authority = control.get_authority(GetAuthorityRequest {}).await?.into_inner();
        return show(context, &authority);
    }
    let digest = control.rotate_authority(request).await?.into_inner().digest;
    if args.detach {
        let plain = format!("The replacement of the root certificate has begun. New root digest: {digest}");
        output::bytes(context.format.object(&plain, &begun(&digest))?.as_bytes())?;
        return Ok(0);
    }
    let authority = follow(context, control, &digest, args.quiet).await?;
    tell_of_others(&authority);
    if args.quiet {
        return Ok(0);
    }
    output::bytes(context.format.object(&roots(&authority), &object(&authority))?.as_bytes())?;
    Ok(0)
}

impl Ca {
    /// Docker's rules.
    fn check(&self) -> Result<(), Failure> {
        let given = [
            ("ca-cert", self.ca_cert.is_some()),
            ("ca-key", self.ca_key.is_some()),
            ("cert-expiry", self.cert_expiry.is_some()),
            ("detach", self.detach),
            ("quiet", self.quiet),
        ];
        if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given && !self.rotate) {
            return Err(Failure::usage(format!("`--{flag}` flag requires the `--rotate` flag to update the CA")));
        }
        match (&self.ca_cert, &self.ca_key) {
            (Some(_), None) => {
                Err(Failure::usage("the --ca-cert flag requires that the --ca-key flag is provided also"))
            }
            (None, Some(_)) => {
                Err(Failure::usage("the --ca-key flag requires that the --ca-cert flag is provided also"))
            }
            (Some(_), Some(_)) | (None, None) => Ok(()),
        }
    }

    /// Whether what a replacement shows in the end can be shown.
    fn check_format(&self, context: &Context) -> Result<(), Failure> {
        match (self.rotate, self.detach) {
            (true, true) => context.format.check(&begun("")),
            (true, false) if !self.quiet => context.format.check(&object(&GetAuthorityResponse::default())),
            _ => Ok(()),
        }
    }

    fn request(&self) -> Result<RotateAuthorityRequest, Failure> {
        let cert_expiry = self.cert_expiry.and_then(|expiry| prost_types::Duration::try_from(expiry).ok());
        let mut request = RotateAuthorityRequest { cert_expiry, ..RotateAuthorityRequest::default() };
        if let (Some(certificate), Some(key)) = (&self.ca_cert, &self.ca_key) {
            request.root = read_certificate(certificate)?;
            request.key = read_key(key)?;
        }
        Ok(request)
    }
}

fn read_certificate(path: &Path) -> Result<Vec<u8>, Failure> {
    let refused = |why: &dyn std::fmt::Display| Failure::invalid(format!("{}: {why} (--ca-cert)", path.display()));
    let text = std::fs::read(path).map_err(|error| refused(&error))?;
    let found = pem::certificates_of_pem(&text).map_err(|error| refused(&error))?;
    match found.as_slice() {
        [one] => Ok(one.to_vec()),
        _ => Err(refused(&"there must be one certificate in it: the root itself")),
    }
}

fn read_key(path: &Path) -> Result<Vec<u8>, Failure> {
    let refused = |why: &dyn std::fmt::Display| Failure::invalid(format!("{}: {why} (--ca-key)", path.display()));
    let text = std::fs::read(path).map(Zeroizing::new).map_err(|error| refused(&error))?;
    let key = pem::key_of_pem(&text).map_err(|error| {
        refused(&format!("{error}: it must be ECDSA on P-256 in PKCS #8, as \"openssl genpkey\" writes it"))
    })?;
    Ok(key.expose_pkcs8().to_vec())
}

/// Watches until the root with `digest` is the only one.
async fn follow(
    context: &Context,
    mut control: Control,
    digest: &str,
    quiet: bool,
) -> Result<GetAuthorityResponse, Failure> {
    let mut last = String::new();
    let mut lost = Failure::unreachable("the managers say nothing of the root certificate");
    for _ in 0..ATTEMPTS {
        match watch(&mut control, digest, quiet, &mut last).await {
            Ok(Some(authority)) => return Ok(authority),
            Ok(None) => {}
            Err(failure) if failure.exit == Failure::unreachable("").exit => lost = failure,
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(AGAIN).await;
        if let Ok(again) = context.control().await {
            control = again;
        }
    }
    Err(lost)
}

/// One stream: the end of the replacement, or `None` when the stream has ended before.
async fn watch(
    control: &mut Control,
    digest: &str,
    quiet: bool,
    last: &mut String,
) -> Result<Option<GetAuthorityResponse>, Failure> {
    let mut messages = control.watch_authority(WatchAuthorityRequest {}).await?.into_inner();
    while let Some(authority) = messages.message().await? {
        if authority.digest != digest && authority.rotation_started_at.is_none() {
            return Ok(None); // a manager that has not heard of it yet
        }
        let progress = format!(
            "desired root digest: {}\n  rotated TLS certificates: {}/{} nodes\n  rotated CA certificates: {}/{} nodes",
            authority.digest, authority.rotated, authority.nodes, authority.rotated, authority.nodes
        );
        if !quiet && progress != *last {
            output::note(&progress);
            *last = progress;
        }
        if authority.rotation_started_at.is_none() {
            return Ok(Some(authority));
        }
    }
    Ok(None)
}

/// The root certificates as text.
fn roots(authority: &GetAuthorityResponse) -> String {
    let roots = authority.roots.iter().map(|root| pem::certificate_to_pem(&CertificateDer::from(root.as_slice())));
    roots.collect::<String>().trim_end().to_owned()
}

fn show(context: &Context, authority: &GetAuthorityResponse) -> Result<u8, Failure> {
    if let Some(since) = &authority.rotation_started_at {
        output::note(&format!(
            "The root certificate is being replaced since {}: {} of {} nodes have a certificate of the new one.",
            timestamp::rfc3339(Some(since)),
            authority.rotated,
            authority.nodes
        ));
    }
    tell_of_others(authority);
    output::bytes(context.format.object(&roots(authority), &object(authority))?.as_bytes())?;
    Ok(0)
}

/// Whom the replacement leaves behind.
fn tell_of_others(authority: &GetAuthorityResponse) {
    for node in &authority.behind {
        let name = node.description.as_ref().map(|description| description.hostname.as_str()).unwrap_or_default();
        let state = view::node::state(node);
        let what = match authority.rotation_started_at.is_some() {
            true => "has not renewed its certificate yet",
            false => "was left behind: it renews its certificate when it comes back, or must leave and join again",
        };
        output::note(&format!("WARNING: node {name} ({}, {state}) {what}", node.id));
    }
    for replaced in &authority.replaced {
        let what = match authority.rotation_started_at.is_some() {
            true => "counts until the root certificate is replaced",
            false => "counts no more",
        };
        let role = operator::role(replaced);
        output::note(&format!(
            "WARNING: the certificate {} of operator {} ({role}) {what}: make a new one with \"sctl operator create\"",
            replaced.serial, replaced.name
        ));
    }
}

/// What there is to say of a replacement that nobody waits for.
fn begun(digest: &str) -> Value {
    json!({ "Digest": digest, "Finished": false })
}

fn object(authority: &GetAuthorityResponse) -> Value {
    let node = |node: &secretd_proto::v1::Node| {
        let description = node.description.clone().unwrap_or_default();
        json!({ "ID": node.id, "Hostname": description.hostname, "State": view::node::state(node) })
    };
    let started = authority.rotation_started_at.as_ref().map(|at| timestamp::rfc3339(Some(at)));
    json!({
        "Digest": authority.digest,
        "Roots": authority.roots.iter().map(|root| pem::certificate_to_pem(&CertificateDer::from(root.as_slice()))).collect::<Vec<_>>(),
        "Finished": authority.rotation_started_at.is_none(),
        "RotationStartedAt": started,
        "Nodes": authority.nodes,
        "Rotated": authority.rotated,
        "Behind": authority.behind.iter().map(node).collect::<Vec<_>>(),
        "ReplacedOperators": authority.replaced.iter().map(operator::certificate).collect::<Vec<_>>(),
        "RetiredRoots": authority.retired,
    })
}
