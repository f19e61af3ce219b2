//! New certificates, before the old ones expire and after: with them come roots and the role.

use std::time::Duration;

use anyhow::Context;
use secretd_agent::Managers;
use secretd_ca::NodeKey;
use secretd_ca::identity::Validity;
use secretd_manager::admission::{Reissued, reissue};
use secretd_proto::code::Code;
use secretd_proto::v1;
use secretd_proto::v1::admission_client::AdmissionClient;
use tokio::time::timeout;

use super::credentials::Own;
use super::due::Due;
use super::lifecycle::Lifecycle;
use super::membership::Membership;
use super::part::Part;
use super::refusals;

/// How long a manager may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Until the next attempt when one has failed.
const RETRY: Duration = Duration::from_secs(5);
/// How long a manager may take that is asked for its majority: longer than it waits for an election itself.
const MAJORITY: Duration = Duration::from_secs(8);

impl Lifecycle {
    /// The certificate is due. A manager makes its own: it has the authority's key, and must be able to when no other is
    /// there, or when all certificates have expired while the cluster was off.
    pub(super) async fn renew(&mut self) {
        match self.renew_by_own() {
            Ok(true) => {}
            Ok(false) => self.ask_for_role().await,
            Err(error) => self.put_off(&error),
        }
    }

    /// At the start, before anybody is spoken to.
    pub(super) fn renew_after_absence(&mut self) {
        let now = self.node.clock.now();
        if self.part.as_ref().is_some_and(|part| part.due.is_due(now))
            && let Err(error) = self.renew_by_own()
        {
            self.put_off(&error);
        }
    }

    /// Asks the leader for a certificate in the role that this node is to have, and takes the role.
    pub(super) async fn ask_for_role(&mut self) {
        let Some(part) = &self.part else { return };
        // What the leader answers is newer than that.
        let had_vote = part.had_vote();
        let outcome = match ask(part).await {
            Ok(Answer { renewed, takes_part }) => self.take(renewed).map(|()| had_vote && !takes_part),
            Err(error) => Err(error),
        };
        let outcome = match outcome {
            Ok(is_taken_out) => self.switch_role(is_taken_out).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            self.put_off(&error);
        }
    }

    fn renew_by_own(&mut self) -> anyhow::Result<bool> {
        match &self.part {
            Some(part) if !part.is_behind() => self.reissue(),
            Some(_) | None => Ok(false),
        }
    }

    /// A certificate by the authority's key in this manager's own state, however old that is: whether there is such a state.
    pub(super) fn reissue(&mut self) -> anyhow::Result<bool> {
        let Some(part) = &self.part else { return Ok(false) };
        let Some(manager) = &part.manager else { return Ok(false) };
        let key = NodeKey::generate()?;
        let now = self.node.clock.now();
        let issued = reissue(&manager.store, &key.request()?, part.membership.node, now)?;
        let Some(Reissued { certificate, roots }) = issued else { return Ok(false) };
        let membership =
            Membership { certificate: certificate.to_vec(), key: key.expose_pkcs8(), roots, ..part.membership.clone() };
        self.take(membership)?;
        Ok(true)
    }

    /// The membership counts from now on.
    fn take(&mut self, membership: Membership) -> anyhow::Result<()> {
        let file = self.file()?;
        let now = self.node.clock.now();
        let Some(part) = &mut self.part else { return Ok(()) };
        let own = Own::of(&membership, &part.remembered(), &self.node.clock)?;
        let Validity { not_before, not_after } = own.validity;
        // It would be refused everywhere, and the present one would be lost.
        anyhow::ensure!(
            (not_before..=not_after).contains(&now),
            "the certificate does not count by this node's clock: set its clock, or the manager's"
        );
        file.save(&membership)?;
        part.due = Due::of_new(own.validity);
        part.mesh.renew(own);
        part.membership = membership;
        tracing::info!("this node has a new certificate");
        Ok(())
    }

    fn put_off(&mut self, error: &anyhow::Error) {
        tracing::warn!(error = format!("{error:#}"), "the node's certificate or role cannot be changed yet");
        self.status.send_modify(|status| {
            status.error = format!("{error:#}");
            status.hindrance.clone_from(&status.error);
        });
        let Some(part) = &mut self.part else { return };
        let is_what_it_is_to_be = part.fault.is_some() || part.manager.is_some() == part.membership.manager;
        part.due = match is_what_it_is_to_be {
            true => part.due.put_off(RETRY),
            false => part.due.again_after(RETRY),
        };
    }
}

/// What the leader says of this node.
struct Answer {
    renewed: Membership,
    /// Whether raft counts it among its members.
    takes_part: bool,
}

async fn ask(part: &Part) -> anyhow::Result<Answer> {
    let key = NodeKey::generate()?;
    let request = v1::RenewRequest { request: key.request()? };
    let mut client = AdmissionClient::new(part.managers.channel(None));
    let answer = timeout(ANSWER, client.renew(request)).await.context("no manager answers")?;
    let renewed = answer.map_err(|status| anyhow::anyhow!("{}", status.message()))?.into_inner();
    let takes_part = renewed.takes_part;
    let renewed = Membership {
        manager: renewed.manager,
        certificate: renewed.certificate,
        roots: renewed.roots,
        key: key.expose_pkcs8(),
        ..part.membership.clone()
    };
    Ok(Answer { renewed, takes_part })
}

/// Whether any other manager is there that a majority stands behind, or that may know of one: a node that goes on alone
/// beside it would make two clusters of one.
pub(super) async fn others_answer(part: &Part) -> anyhow::Result<bool> {
    let own = part.membership.address.to_string();
    let request = v1::RenewRequest { request: NodeKey::generate()?.request()? };
    let others = part.membership.managers.iter().filter(|address| **address != own);
    let asked = others.map(|address| {
        let mut client = AdmissionClient::new(part.managers.other(Some(address)));
        let request = request.clone();
        async move {
            match timeout(MAJORITY, client.renew(request)).await {
                Ok(Ok(_)) => true,
                Ok(Err(status)) => {
                    // Those that say so have no majority either, or are not asked as managers.
                    let code = refusals::of_status(&status).code;
                    ![Code::RemoteUnreachable, Code::NoQuorum, Code::RolledBack, Code::NotInitialized].contains(&code)
                }
                Err(_) => false,
            }
        }
    });
    Ok(futures::future::join_all(asked).await.contains(&true))
}
