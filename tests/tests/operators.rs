//! Operators who use sctl from afar: with a certificate, over TLS, under a context; and everybody who may not.

use anyhow::{Result, ensure};
use secretd_tests::lab::Lab;
use secretd_tests::laptop::Laptop;

#[test]
fn operators_work_from_afar_as_far_as_their_role_goes() -> Result<()> {
    let lab = Lab::cluster(2, 0)?;
    let laptop = Laptop::of(&lab)?;
    let admin = laptop.certificate("mia", "admin")?;
    let viewer = laptop.certificate("leo", "viewer")?;
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&admin)?);
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    let hosts = [1, 2].map(|number| format!("tcp://{}", lab.address(number)));
    laptop.ok(&["context", "create", "prod", "--host", &hosts[0], "--cert", &admin])?;
    laptop.ok(&["context", "create", "look", "--host", &hosts[1], "--cert", &viewer, "--description", "Read"])?;

    // One through a manager that leads, one through one that does not.
    laptop.ok(&["--context", "prod", "secret", "ls"])?;
    let created = laptop.sctl(&["--context", "prod", "secret", "create", "key", "-"], b"from afar")?;
    ensure!(created.status.success(), "{created:?}");
    laptop.ok(&["context", "use", "look"])?;
    ensure!(laptop.ok(&["secret", "ls", "--format", "{{.Name}}"])? == "key");
    ensure!(laptop.ok(&["node", "ls", "--format", "{{.Hostname}}"])? == "n1\nn2");
    laptop.refused(1, &["secret", "create", "other", "-"], "operator leo is refused: it may read metadata alone")?;
    laptop.refused(1, &["secret", "rm", "key"], "it may read metadata alone")?;
    laptop.refused(1, &["cluster", "join-token", "worker"], "it may read metadata alone")?;
    laptop.refused(1, &["operator", "create", "eve", "/tmp/never"], "it may read metadata alone")?;
    for (expiry, words) in [("0s", "must count for some time"), ("200000h", "no longer than the cluster's root")] {
        let path = laptop.path("never.pem").display().to_string();
        let line = lab.node(1).refused(1, &["operator", "create", "--expiry", expiry, "eve", &path], b"")?;
        ensure!(line.contains(words), "{line}");
    }
    // What cannot be written down is not made.
    let names = ["operator", "ls", "--format", "{{.Name}}"];
    let before = lab.node(1).ok(&names)?;
    let nowhere = lab.node(1).refused(1, &["operator", "create", "eve", "/nowhere/eve.pem"], b"")?;
    ensure!(nowhere.contains("/nowhere/eve.pem: No such file or directory"), "{nowhere}");
    ensure!(lab.node(1).ok(&names)? == before, "a certificate was made");
    laptop.refused(1, &["cluster", "ca", "--rotate"], "it may read metadata alone")?;
    ensure!(laptop.ok(&["cluster", "ca"])?.contains("BEGIN CERTIFICATE"));
    laptop.refused(1, &["info"], "what is of one node is asked for on that node")?;
    let log = lab.node(1).log() + &lab.node(2).log();
    ensure!(log.contains("caller=operator leo") && log.contains("caller=operator mia"), "{log}");

    // What is inside of a container, or comes out of it, is for administrators.
    lab.node(1).create_service(&["--name", "app", "--stop-signal", "KILL", "busybox:1", "sleep", "10000"])?;
    laptop.refused(1, &["exec", "app.1", "true"], "it may read metadata alone")?;
    laptop.refused(1, &["service", "logs", "app"], "it may read metadata alone")?;
    laptop.ok(&["-c", "prod", "exec", "app.1", "true"])?;
    Ok(())
}

#[test]
fn without_a_certificate_of_the_cluster_nothing_is_served() -> Result<()> {
    let lab = Lab::start(2)?;
    lab.node(1).ok(&["cluster", "init"])?;
    lab.node(2).ok(&["cluster", "init"])?;
    let laptop = Laptop::of(&lab)?;
    let foreign = laptop.path("foreign.pem").display().to_string();
    lab.node(2).ok(&["operator", "create", "--role", "admin", "eve", &foreign])?;
    let host = format!("tcp://{}", lab.address(1));

    laptop.refused(2, &["--host", &host, "secret", "ls"], "tcp:// needs a certificate")?;
    laptop.refused(3, &["--host", &host, "--cert", &foreign, "secret", "ls"], "is it a manager of this cluster?")?;
    laptop.refused(1, &["--host", &host, "--cert", "/etc/passwd", "secret", "ls"], "there is no certificate in it")?;
    laptop.refused(2, &["--host", "ftp://x", "secret", "ls"], "a host is unix://")?;

    // One that has expired, and the roots of the right cluster with a key of another.
    let brief = laptop.path("brief.pem").display().to_string();
    lab.node(1).ok(&["operator", "create", "--role", "admin", "--expiry", "1s", "mia", &brief])?;
    secretd_tests::lab::until("it expires", || {
        let answer = laptop.sctl(&["--host", &host, "--cert", &brief, "secret", "ls"], b"")?;
        Ok(answer.stderr.contains("operator mia is refused: its certificate has expired").then_some(()))
    })?;
    let (ours, theirs) = (std::fs::read_to_string(&brief)?, std::fs::read_to_string(&foreign)?);
    let root = ours.rsplit_once("-----BEGIN CERTIFICATE-----").map(|(_, root)| root.to_owned()).unwrap_or_default();
    let own = theirs.rsplit_once("-----BEGIN CERTIFICATE-----").map(|(own, _)| own.to_owned()).unwrap_or_default();
    let mixed = laptop.path("mixed.pem").display().to_string();
    std::fs::write(&mixed, format!("{own}-----BEGIN CERTIFICATE-----{root}"))?;
    laptop.refused(
        3,
        &["--host", &host, "--cert", &mixed, "secret", "ls"],
        "the certificate is not one of this cluster",
    )?;
    Ok(())
}

#[test]
fn contexts_are_made_used_and_removed() -> Result<()> {
    let lab = Lab::start(1)?;
    lab.node(1).ok(&["cluster", "init"])?;
    let laptop = Laptop::of(&lab)?;
    let certificate = laptop.certificate("mia", "viewer")?;
    let host = format!("tcp://{}", lab.address(1));
    laptop.ok(&["context", "create", "prod", "--host", &host, "--cert", &certificate])?;
    laptop.refused(4, &["context", "create", "prod", "--host", &host, "--cert", &certificate], "already exists")?;
    laptop.refused(1, &["context", "create", "a b", "--host", &host, "--cert", &certificate], "is invalid")?;
    laptop.refused(2, &["context", "create", "bare", "--host", &host], "tcp:// needs a certificate: give --cert")?;
    laptop.refused(5, &["context", "use", "nowhere"], "context \"nowhere\" not found")?;
    laptop.refused(5, &["--context", "nowhere", "secret", "ls"], "context \"nowhere\" not found")?;

    laptop.ok(&["context", "use", "prod"])?;
    ensure!(laptop.ok(&["context", "ls", "--format", "{{.Name}} {{.Current}}"])? == "default false\nprod true");
    laptop.ok(&["secret", "ls"])?;
    laptop.refused(4, &["context", "rm", "prod"], "is in use")?;
    laptop.ok(&["context", "rm", "--force", "prod"])?;
    ensure!(laptop.ok(&["context", "ls", "-q"])? == "default");
    laptop.refused(4, &["operator", "create", "x", &certificate], "already exists")
}
