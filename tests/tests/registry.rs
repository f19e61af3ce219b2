//! Images from a real registry: with and without credentials, down, and lying.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use secretd_tests::node::Node;
use secretd_tests::oci::{layout, nothing_left, run, skopeo};

/// Debian's docker-registry on a port of its own.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    fn start(directory: &Path, login: Option<(&str, &str)>) -> Result<Self> {
        Self::start_on(directory, login, "")
    }

    /// `http` are further lines of the configuration's section on HTTP.
    fn start_on(directory: &Path, login: Option<(&str, &str)>, http: &str) -> Result<Self> {
        for _ in 0..10 {
            if let Some(registry) = Self::start_once(directory, login, http)? {
                return Ok(registry);
            }
        }
        bail!("every port that was free is taken")
    }

    /// Nothing where somebody else has taken the port that was free.
    fn start_once(directory: &Path, login: Option<(&str, &str)>, http: &str) -> Result<Option<Self>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let storage = directory.join("registry");
        let mut config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{http}",
            storage.display()
        );
        if let Some((user, password)) = login {
            let entry = Command::new("htpasswd").args(["-Bbn", user, password]).output().context("htpasswd")?;
            std::fs::write(directory.join("htpasswd"), entry.stdout)?;
            config +=
                &format!("auth:\n  htpasswd:\n    realm: lab\n    path: {}\n", directory.join("htpasswd").display());
        }
        let file = directory.join("registry.yml");
        std::fs::write(&file, config)?;
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("docker-registry")?;
        let log = process.stderr.take().context("stderr")?;
        let this = Self { process, address };
        let mut log = BufReader::new(log).lines();
        loop {
            let line = log.next().context("the registry has ended")??;
            if line.contains("address already in use") {
                return Ok(None);
            }
            if line.contains("listening on") {
                break;
            }
        }
        std::thread::Builder::new().name("registry log".to_owned()).spawn(move || log.for_each(drop))?;
        Ok(Some(this))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn runs(node: &Node, image: &str) -> Result<()> {
    node.create_service(&["--name", "app", "--restart-condition", "none", "--detach", image])?;
    let mut logs = node.sctl_command(&["service", "logs", "--raw", "-f", "app"]).stdout(Stdio::piped()).spawn()?;
    let line = BufReader::new(logs.stdout.take().context("stdout")?).lines().next();
    logs.kill()?;
    logs.wait()?;
    ensure!(line.context("no output")?? == "from afar");
    Ok(())
}

#[test]
fn registry_gives_an_image_to_who_has_the_credentials() -> Result<()> {
    let node = Node::start()?;
    node.found()?;
    let registry = Registry::start(&node.path("."), Some(("lab", "s3cret")))?;
    let remote = format!("{}/team/app:1", registry.address);
    let image = layout(&node)?;
    skopeo(&[
        "--dest-tls-verify=false",
        "--dest-creds=lab:s3cret",
        &format!("oci:{image}"),
        &format!("docker://{remote}"),
    ])?;

    let anonymous = node.refused(1, &["image", "pull", &remote], b"")?;
    let wrong = node.refused(1, &["image", "pull", "--username", "lab", "--password-stdin", &remote], b"wrong")?;
    ensure!(anonymous.contains("denies access") && wrong.contains("denies access"), "{anonymous}\n{wrong}");
    nothing_left(&node)?;
    node.ok_with(&["image", "pull", "--username", "lab", "--password-stdin", &remote], b"s3cret\n")?;

    runs(&node, &remote)
}

/// An authority `ca.pem`, and `server.pem` with `server.key` that it has signed for a name.
fn certificates(directory: &Path, name: &str) -> Result<()> {
    let script = "
        set -e
        cd \"$0\"
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=lab -keyout ca.key -out ca.pem
        openssl req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:%s' \"$1\" >san
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.pem";
    run("sh", &["-c", script, &directory.to_string_lossy(), name])
}

#[test]
fn registry_with_tls_is_believed_when_its_authority_is() -> Result<()> {
    // A name that is not loopback's, or TLS would not be asked for.
    const NAME: &str = "registry.test";
    let files = tempfile::tempdir()?;
    let at = |name: &str| files.path().join(name).display().to_string();
    certificates(files.path(), NAME)?;
    let tls = format!("  tls:\n    certificate: {}\n    key: {}\n", at("server.pem"), at("server.key"));
    let registry = Registry::start_on(files.path(), None, &tls)?;
    let port = registry.address.rsplit_once(':').context("port")?.1;
    let remote = format!("{NAME}:{port}/app:1");
    let config = at("secretd.toml");
    std::fs::write(&config, format!("[images]\nextra-ca = [\"{}\"]\n", at("ca.pem")))?;
    let start = |flags: &[&str]| -> Result<Node> {
        let mut node = Node::stopped_with(flags)?;
        let hosts =
            node.in_sandbox(&format!("echo 127.0.0.1 {NAME} >\"$T/hosts\" && mount --bind \"$T/hosts\" /etc/hosts"))?;
        ensure!(hosts.status.success(), "{hosts:?}");
        node.start_daemon()?;
        node.found()?;
        Ok(node)
    };

    let stranger = start(&[])?;
    let image = layout(&stranger)?;
    skopeo(&["--dest-tls-verify=false", &format!("oci:{image}"), &format!("docker://{}/app:1", registry.address)])?;
    let refused = stranger.refused(1, &["image", "pull", &remote], b"")?;
    ensure!(refused.contains("certificate"), "{refused}");
    nothing_left(&stranger)?;

    let node = start(&["--config", &config])?;
    node.ok(&["image", "pull", &remote])?;
    runs(&node, &remote)
}

#[test]
fn registry_that_is_down_or_has_no_such_image_says_so() -> Result<()> {
    let node = Node::start()?;
    node.found()?;
    let registry = Registry::start(&node.path("."), None)?;
    let missing = node.refused(5, &["image", "pull", &format!("{}/no/such:1", registry.address)], b"")?;
    let address = registry.address.clone();
    drop(registry);

    let down = node.refused(1, &["image", "pull", &format!("{address}/app:1")], b"")?;

    ensure!(missing.contains("no such image"), "{missing}");
    ensure!(down.contains(&format!("registry {address} is not reachable")), "{down}");
    nothing_left(&node)
}

#[test]
fn registry_that_lies_about_a_digest_is_caught() -> Result<()> {
    let node = Node::start()?;
    node.found()?;
    let registry = Registry::start(&node.path("."), None)?;
    let image = layout(&node)?;
    skopeo(&["--dest-tls-verify=false", &format!("oci:{image}"), &format!("docker://{}/app:1", registry.address)])?;
    let liar = lie(&registry.address)?;

    let caught = node.sctl(&["image", "pull", &format!("{liar}/app:1")], b"")?;

    let line = caught.stderr.lines().last().context("no error")?;
    ensure!(caught.code() == 1 && line.contains("has digest sha256:") && line.contains("lies"), "{caught:?}");
    nothing_left(&node)
}

/// A registry that passes everything on, and changes one byte of each large answer.
fn lie(address: &str) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let here = listener.local_addr()?.to_string();
    let there = address.to_owned();
    std::thread::Builder::new().name("liar".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = pass_on(stream, &there); // a client that is gone needs no lie
        }
    })?;
    Ok(here)
}

fn pass_on(mut client: TcpStream, there: &str) -> Result<()> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && client.read(&mut byte)? == 1 {
        request.extend_from_slice(&byte);
    }
    let text = String::from_utf8_lossy(&request).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let mut server = TcpStream::connect(there)?;
    server.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    if answer.len() > 100_000
        && let Some(last) = answer.last_mut()
    {
        *last ^= 1;
    }
    client.write_all(&answer)?;
    Ok(())
}
