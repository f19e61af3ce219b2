//! `sctl operator create`

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use secretd_ca::{CertificateDer, NodeKey, pem};
use secretd_proto::v1::{IssueOperatorRequest, IssueOperatorResponse};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cmd::Context;
use crate::failure::Failure;
use crate::parse::duration;
use crate::{new_file, output};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Everything that the control socket allows
    Admin,
    /// Read what there is: no values, no logs, no commands, no changes
    Viewer,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What the certificate allows
    #[arg(long, value_name = "ROLE", default_value = "viewer")]
    role: Role,
    /// How long it counts
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "2160h")]
    expiry: Duration,
    /// Who it is for: letters, digits, dots, dashes and underscores
    #[arg(value_name = "NAME")]
    name: String,
    /// Where certificate, key and roots are written, for 'sctl context create --cert'
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) async fn run(context: &Context, args: Create) -> Result<u8, Failure> {
    let role = args.role.word();
    context.format.check(&object(&args.name, role, &args.file, &IssueOperatorResponse::default()))?;
    // A certificate that could not be written down would count all the same.
    new_file::check_place(&args.file)?;
    // The key is made here, and never sent.
    let key = NodeKey::generate().map_err(Failure::failed)?;
    let request = IssueOperatorRequest {
        name: args.name.clone(),
        admin: args.role == Role::Admin,
        request: key.request().map_err(Failure::failed)?,
        validity: prost_types::Duration::try_from(args.expiry).ok(),
    };
    let issued = context.control().await?.issue_operator(request).await?.into_inner();
    let mut text = Zeroizing::new(pem::certificate_to_pem(&CertificateDer::from(issued.certificate.as_slice())));
    text.push_str(&pem::key_to_pem(&key));
    for root in &issued.roots {
        text.push_str(&pem::certificate_to_pem(&CertificateDer::from(root.as_slice())));
    }
    new_file::write(&args.file, text.as_bytes()).map_err(|failure| lost(&args.name, failure))?;
    let host = issued.managers.first().cloned().unwrap_or_default();
    let plain = format!(
        "Certificate of {} ({role}) written to {}. To use it:\n\n    sctl context create NAME --host tcp://{host} --cert {}",
        args.name,
        args.file.display(),
        args.file.display()
    );
    let value = object(&args.name, role, &args.file, &issued);
    output::bytes(context.format.object(&plain, &value)?.as_bytes())?;
    Ok(0)
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Viewer => "viewer",
        }
    }
}

fn object(name: &str, role: &str, file: &Path, issued: &IssueOperatorResponse) -> Value {
    json!({ "Name": name, "Role": role, "File": file.display().to_string(), "Managers": issued.managers })
}

/// Why a certificate that was made is not written down, and what is left of it.
fn lost(name: &str, failure: Failure) -> Failure {
    let message = format!(
        "{}; the certificate was made and its key is lost: take it back with \"sctl operator rm\", see \"sctl operator ls\" for the newest of {name}",
        failure.message
    );
    Failure { message, ..failure }
}
