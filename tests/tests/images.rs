//! Images from archives: those of other tools, and what is none.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use secretd_tests::node::Node;
use secretd_tests::oci::{layout, nothing_left, run, skopeo};
use serde_json::{Value, json};

/// This machine's architecture, and another one, as images name them.
const ARCHITECTURES: (&str, &str) = if cfg!(target_arch = "aarch64") { ("arm64", "amd64") } else { ("amd64", "arm64") };

fn cluster() -> Result<Node> {
    let node = Node::start()?;
    node.found()?;
    Ok(node)
}

/// What `image ls` shows, in the order of names.
fn list(node: &Node, template: &str) -> Result<Vec<String>> {
    let mut lines: Vec<String> = node.ok(&["image", "ls", "--format", template])?.lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

fn tar(directory: &Path, archive: &Path) -> Result<()> {
    run("tar", &["-C", &directory.to_string_lossy(), "-cf", &archive.to_string_lossy(), "."])
}

#[test]
fn archives_of_other_tools_load_and_run() -> Result<()> {
    let node = cluster()?;
    let image = layout(&node)?;
    let (docker, oci) = (node.path("docker.tar"), node.path("oci.tar"));
    let docker_archive = format!("docker-archive:{}:saved:1", docker.display());
    skopeo(&["--additional-tag", "saved:2", &format!("oci:{image}"), &docker_archive])?;
    skopeo(&[&format!("oci:{image}"), &format!("oci-archive:{}:layout:1", oci.display())])?;

    let first = node.ok(&["image", "load", "-i", &docker.to_string_lossy()])?;
    let second = node.ok(&["image", "load", "-i", &oci.to_string_lossy()])?;

    ensure!(first == "Loaded image: saved:1\nLoaded image: saved:2", "{first}");
    ensure!(second == "Loaded image: layout:1", "{second}");
    ensure!(list(&node, "{{.Repository}}:{{.Tag}}")? == ["layout:1", "saved:1", "saved:2"]);
    let create = ["service", "create", "--quiet", "--name", "app", "--restart-condition", "none", "saved:2"];
    node.ok(&create)?;
    ensure!(node.ok(&["service", "logs", "--raw", "app"])? == "from afar");
    Ok(())
}

#[test]
fn image_whose_layer_is_there_already_has_its_size() -> Result<()> {
    let node = Node::cluster()?;
    let archive = node.path("again.tar");
    std::fs::write(&archive, secretd_tests::rootfs::busybox(&[])?)?;

    node.ok(&["image", "import", "--tag", "again:1", &archive.to_string_lossy()])?;

    let sizes = list(&node, "{{.Size}}")?;
    ensure!(sizes.len() == 2 && sizes[0] == sizes[1] && !sizes[0].starts_with("0"), "{sizes:?}");
    node.ok(&["image", "rm", "busybox:1"])?;
    node.create_service(&["--name", "app", "again:1", "sleep", "1000"])?;
    Ok(())
}

#[test]
fn what_is_no_archive_is_refused_in_readable_words_and_leaves_nothing() -> Result<()> {
    let node = cluster()?;
    let noise: Vec<u8> = (0..100_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    let files: [(&str, &[u8], &str); 5] = [
        ("text", &[b'x'; 5000], "tar"),
        ("noise", &noise, "tar"),
        ("empty", b"", "archive"),
        ("xz", b"\xfd7zXZ\0rest of it", "compressed with xz"),
        ("cut.gz", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0], "archive"),
    ];
    for (name, bytes, word) in files {
        let file = node.path(name);
        std::fs::write(&file, bytes)?;
        let file = file.to_string_lossy();
        for arguments in [&["image", "import", "--tag", "a:1", &file][..], &["image", "load", "-i", &file]] {
            let line = node.refused(1, arguments, b"")?;
            ensure!(line.contains(word) && line.is_ascii(), "{name}: {line}");
        }
    }
    let missing = node.refused(1, &["image", "import", "--tag", "a:1", "/nonexistent.tar"], b"")?;
    ensure!(missing.contains("/nonexistent.tar"), "{missing}");
    let nameless = node.refused(2, &["image", "import", &node.path("text").to_string_lossy()], b"")?;
    ensure!(nameless.contains("--tag"), "{nameless}");
    nothing_left(&node)
}

#[test]
fn image_for_another_architecture_is_refused_and_of_several_the_right_one_is_taken() -> Result<()> {
    let node = cluster()?;
    let image = layout(&node)?;
    let directory = node.path("layout");
    let foreign = format!("{}:foreign", directory.display());
    run("umoci", &["tag", "--image", &image, "foreign"])?;
    run("umoci", &["config", "--image", &foreign, "--architecture", ARCHITECTURES.1])?;
    let archive = node.path("foreign.tar");
    let path = archive.to_string_lossy();
    skopeo(&[&format!("oci:{foreign}"), &format!("oci-archive:{path}:app:1")])?;

    let line = node.refused(1, &["image", "load", "-i", &path], b"")?;
    ensure!(line.contains(&format!("linux/{}", ARCHITECTURES.1)), "{line}");
    ensure!(line.contains(&format!("linux/{}", ARCHITECTURES.0)), "{line}");
    nothing_left(&node)?;

    // An index of both, as a build for several platforms makes it.
    let index = directory.join("index.json");
    let mut root: Value = serde_json::from_slice(&std::fs::read(&index)?)?;
    let manifests = root["manifests"].as_array().context("manifests")?.clone();
    let of = |name: &str, architecture: &str| -> Result<Value> {
        let named = |one: &&Value| one["annotations"]["org.opencontainers.image.ref.name"] == name;
        let mut one = manifests.iter().find(named).context(name.to_owned())?.clone();
        one["platform"] = json!({ "os": "linux", "architecture": architecture });
        Ok(one)
    };
    let both = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [of("foreign", ARCHITECTURES.1)?, of("1", ARCHITECTURES.0)?],
    });
    let text = both.to_string();
    let blob = node.path("index");
    std::fs::write(&blob, &text)?;
    let output = Command::new("sha256sum").arg(&blob).output()?;
    let digest = String::from_utf8(output.stdout)?.split_whitespace().next().context("sha256sum")?.to_owned();
    std::fs::copy(&blob, directory.join("blobs/sha256").join(&digest))?;
    root["manifests"] = json!([{
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": format!("sha256:{digest}"),
        "size": text.len(),
        "annotations": { "org.opencontainers.image.ref.name": "both:1" },
    }]);
    std::fs::write(&index, root.to_string())?;
    tar(&directory, &archive)?;

    ensure!(node.ok(&["image", "load", "-i", &path])? == "Loaded image: both:1");
    let architecture = node.ok(&["image", "inspect", "--format", "{{.Architecture}}", "both:1"])?;
    ensure!(architecture == ARCHITECTURES.0, "{architecture}");
    Ok(())
}
