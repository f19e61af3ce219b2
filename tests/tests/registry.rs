//! Images from archives and from a real registry: with and without credentials, down, and lying.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use secretd_tests::node::Node;
use secretd_tests::rootfs;

/// Debian's docker-registry on a port of its own.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    fn start(directory: &Path, login: Option<(&str, &str)>) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let storage = directory.join("registry");
        let mut config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
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
        let mut log = BufReader::new(process.stderr.take().context("stderr")?).lines();
        while !log.next().context("the registry has ended")??.contains("listening on") {}
        std::thread::Builder::new().name("registry log".to_owned()).spawn(move || log.for_each(drop))?;
        Ok(Self { process, address })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An OCI layout with the image `busybox:1`, made by other people's tools.
fn layout(node: &Node) -> Result<String> {
    let tar = node.path("rootfs.tar");
    rootfs::write(&tar, &rootfs::busybox(&[("etc/mark", 0o644, b"from afar\n")])?)?;
    let root = node.path("root");
    std::fs::create_dir(&root)?;
    let run = |program: &str, arguments: &[&str]| -> Result<()> {
        let output = Command::new(program).args(arguments).output().context(program.to_owned())?;
        ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    let layout = node.path("layout").display().to_string();
    run("umoci", &["init", "--layout", &layout])?;
    let image = format!("{layout}:1");
    run("umoci", &["new", "--image", &image])?;
    run("umoci", &["raw", "add-layer", "--image", &image, &tar.to_string_lossy()])?;
    run("umoci", &["config", "--image", &image, "--config.cmd", "cat", "--config.cmd", "/etc/mark"])?;
    Ok(image)
}

fn skopeo(arguments: &[&str]) -> Result<()> {
    let output =
        Command::new("skopeo").args(["--insecure-policy", "copy"]).args(arguments).output().context("skopeo")?;
    ensure!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Nothing is left of an image that did not come in.
fn nothing_left(node: &Node) -> Result<()> {
    ensure!(node.ok(&["image", "ls", "-q"])?.is_empty());
    for directory in ["layers", "tmp", "configs"] {
        let left = std::fs::read_dir(node.data_dir().join("images").join(directory))?.count();
        ensure!(left == 0, "{left} entries in images/{directory}");
    }
    Ok(())
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
fn archives_of_other_tools_load_and_run() -> Result<()> {
    let node = Node::start()?;
    node.ok(&["cluster", "init"])?;
    let image = layout(&node)?;
    let (docker, oci) = (node.path("docker.tar"), node.path("oci.tar"));
    skopeo(&[&format!("oci:{image}"), &format!("docker-archive:{}:saved:1", docker.display())])?;
    skopeo(&[&format!("oci:{image}"), &format!("oci-archive:{}:layout:1", oci.display())])?;

    node.ok(&["image", "load", "-i", &docker.to_string_lossy()])?;
    node.ok(&["image", "load", "-i", &oci.to_string_lossy()])?;

    let mut tags: Vec<String> =
        node.ok(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"])?.lines().map(str::to_owned).collect();
    tags.sort();
    ensure!(tags == ["layout:1", "saved:1"], "{tags:?}");
    runs(&node, "saved:1")
}

#[test]
fn registry_gives_an_image_to_who_has_the_credentials() -> Result<()> {
    let node = Node::start()?;
    node.ok(&["cluster", "init"])?;
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

#[test]
fn registry_that_is_down_or_has_no_such_image_says_so() -> Result<()> {
    let node = Node::start()?;
    node.ok(&["cluster", "init"])?;
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
    node.ok(&["cluster", "init"])?;
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
