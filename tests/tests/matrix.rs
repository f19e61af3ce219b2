//! Every call that there is, over TLS, by everybody who may not make it: nobody is let in whom the table of
//! `secretd_manager::authorize` does not let in.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use secretd_proto::code::Code;
use secretd_tests::lab::{Lab, until};
use secretd_tests::laptop::Laptop;
use secretd_tests::stranger::{Badge, Stranger, call, code, in_network_of};
use tonic::Status;
use tonic::transport::Channel;

/// Each call, and who may make it.
const TABLE: &str = include_str!("../../secretd/manager/src/authorize/table.txt");

/// Somebody who calls, by the name that the table has for it.
type Caller = (&'static str, Badge);

fn table() -> Result<Vec<(&'static str, Vec<&'static str>)>> {
    let row = |row: &'static str| {
        let (call, callers) = row.split_once(": ")?;
        Some((call, callers.split("; ").collect()))
    };
    TABLE.lines().map(|line| row(line).with_context(|| line.to_owned())).collect()
}

/// What must be the same after all those calls.
fn state(lab: &Lab) -> Result<String> {
    let commands: [&[&str]; 6] = [
        &["node", "ls", "--format", "{{.ID}} {{.Availability}}"],
        &["secret", "ls", "-q"],
        &["service", "ls", "-q"],
        &["operator", "ls", "--format", "{{.Name}} {{.Status}}"],
        &["cluster", "ca"],
        &["cluster", "join-token", "-q", "manager"],
    ];
    commands.iter().map(|command| lab.node(1).ok(command)).collect()
}

async fn stranger(lab: &Lab, role: &str) -> Result<Stranger> {
    Stranger::join(&lab.token(role)?, lab.address(1), "stranger").await
}

/// Makes a call, and makes it again while managers elect a leader.
async fn settled(channel: &Channel, what: &str) -> Result<Result<(), Status>> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = call(channel, what).await?;
        let refusal = answer.as_ref().err().and_then(code);
        let is_electing = matches!(refusal, Some(Code::NotLeader | Code::NoQuorum)) && !what.starts_with("Dispatcher.");
        if !is_electing || Instant::now() > end {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Makes every call at a manager: those that the table does not have for the caller must be refused, those that it has for
/// a viewer must not.
async fn try_all(lab: &Lab, manager: usize, (name, badge): &Caller) -> Result<()> {
    let channel = badge.connect(lab.address(manager)).await?;
    for (what, callers) in table()? {
        let may = callers.contains(name);
        if may && *name != "viewer" {
            continue; // what it may do with this, other stories show
        }
        let answer = settled(&channel, what).await?;
        let refusal = answer.as_ref().err().and_then(code);
        let is_refused = match refusal {
            Some(Code::PermissionDenied | Code::NodeRemoved | Code::NotOnRecord | Code::RootReplaced) => true,
            // Who is a node, the leader knows: whoever does not lead has nothing for any of them.
            Some(Code::NotLeader) => what.starts_with("Dispatcher."),
            _ => false,
        };
        ensure!(is_refused != may, "{name} calls {what} at n{manager}: {answer:?}");
    }
    Ok(())
}

/// Operators of the cluster, by the names that the table has for them: their files.
fn operators(lab: &Lab, laptop: &Laptop<'_>) -> Result<Vec<(&'static str, PathBuf)>> {
    let brief = |role: &str| -> Result<PathBuf> {
        let file = laptop.path(format!("brief-{role}.pem"));
        let (name, path) = (format!("brief-{role}"), file.display().to_string());
        lab.node(1).ok(&["operator", "create", "--role", role, "--expiry", "1s", &name, &path])?;
        Ok(file)
    };
    let taken_back = laptop.certificate("eve", "admin")?;
    lab.node(1).ok(&["operator", "rm", "eve"])?;
    Ok(vec![
        ("admin", laptop.certificate("mia", "admin")?.into()),
        ("admin, expired", brief("admin")?),
        ("admin that was taken back", taken_back.into()),
        ("viewer", laptop.certificate("leo", "viewer")?.into()),
        ("viewer, expired", brief("viewer")?),
    ])
}

/// Nodes of the cluster, and nobody.
async fn nodes(lab: &Lab) -> Result<Vec<Caller>> {
    let (worker, manager) = (stranger(lab, "worker").await?, stranger(lab, "manager").await?);
    let (gone, gone_manager) = (stranger(lab, "worker").await?, stranger(lab, "manager").await?);
    lab.node(1).ok(&["node", "demote", &gone_manager.id])?;
    lab.node(1).ok(&["node", "rm", "--force", &gone.id, &gone_manager.id])?;
    lab.node(1).ok(&["cluster", "update", "--cert-expiry", "10s"])?;
    let (old, old_manager) = (stranger(lab, "worker").await?, stranger(lab, "manager").await?);
    lab.node(1).ok(&["cluster", "update", "--cert-expiry", "2160h"])?;
    Ok(vec![
        ("nobody", Badge::none(&lab.token("worker")?)?),
        ("worker", worker.badge()?),
        ("worker, expired", old.badge()?),
        ("removed node", gone.badge()?),
        ("manager", manager.badge()?),
        ("manager, expired", old_manager.badge()?),
        ("removed manager", gone_manager.badge()?),
    ])
}

fn until_they_have_expired(lab: &Lab, callers: &[Caller]) -> Result<()> {
    until("certificates have expired", || {
        let briefly = callers.iter().filter(|(name, _)| name.ends_with(", expired"));
        let have = in_network_of(lab, 4, async || {
            let mut all = true;
            for (_, badge) in briefly {
                let answer = call(&badge.connect(lab.address(1)).await?, "Control.ListNodes").await?;
                all &= answer.is_err_and(|status| status.message().contains("its certificate has expired"));
            }
            Ok(all)
        })?;
        Ok(have.then_some(()))
    })
}

/// Makes every call at a manager with a certificate of another cluster.
async fn try_all_from_elsewhere(lab: &Lab, manager: usize, (name, badge): &Caller) -> Result<()> {
    // The certificate is looked at after the client's part of the handshake (RFC 8446, 4.4.2).
    let Ok(channel) = badge.connect(lab.address(manager)).await else { return Ok(()) };
    for (what, _) in table()? {
        let answer = call(&channel, what).await?;
        let is_cut_off = answer.as_ref().is_err_and(|status| code(status).is_none());
        ensure!(is_cut_off, "{name} calls {what} at n{manager}: {answer:?}");
    }
    Ok(())
}

#[test]
fn nobody_makes_a_call_over_tls_that_is_not_theirs() -> Result<()> {
    let lab = Lab::start(4)?;
    lab.node(1).ok(&["cluster", "init"])?;
    lab.node(3).ok(&["cluster", "init"])?; // a cluster of its own
    lab.join(2, "manager")?;
    lab.node(1).ok_with(&["secret", "create", "key", "-"], b"x")?;
    let laptop = Laptop::of(&lab)?;
    let foreign = laptop.path("foreign.pem");
    lab.node(3).ok(&["operator", "create", "--role", "admin", "mia", &foreign.display().to_string()])?;
    let operators = operators(&lab, &laptop)?;

    let (callers, foreigners) = in_network_of(&lab, 4, async || {
        let mut callers = nodes(&lab).await?;
        for (name, file) in &operators {
            callers.push((name, Badge::of_operator(file, None)?));
        }
        let roots = stranger(&lab, "worker").await?.roots;
        let token = lab.node(3).ok(&["cluster", "join-token", "-q", "manager"])?;
        let elsewhere = Stranger::join(&token, lab.address(3), "stranger").await?;
        let foreigners: Vec<Caller> = vec![
            ("manager of another cluster", Badge::new(&elsewhere.credentials, &roots)?),
            ("admin of another cluster", Badge::of_operator(&foreign, Some(&roots))?),
        ];
        Ok((callers, foreigners))
    })?;
    until_they_have_expired(&lab, &callers)?;
    let before = state(&lab)?;

    in_network_of(&lab, 4, async || {
        for manager in [1, 2] {
            for caller in &callers {
                try_all(&lab, manager, caller).await?;
            }
            for foreigner in &foreigners {
                try_all_from_elsewhere(&lab, manager, foreigner).await?;
            }
        }
        Ok(())
    })?;

    ensure!(state(&lab)? == before, "{before}\nis now\n{}", state(&lab)?);
    Ok(())
}
