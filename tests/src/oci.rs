//! Images as other people's tools make them.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::node::Node;
use crate::rootfs;

/// An OCI layout with the image `busybox:1`, made by other people's tools.
pub fn layout(node: &Node) -> Result<String> {
    let tar = node.path("rootfs.tar");
    rootfs::write(&tar, &rootfs::busybox(&[("etc/mark", 0o644, b"from afar\n")])?)?;
    let root = node.path("root");
    std::fs::create_dir(&root)?;
    let layout = node.path("layout").display().to_string();
    run("umoci", &["init", "--layout", &layout])?;
    let image = format!("{layout}:1");
    run("umoci", &["new", "--image", &image])?;
    run("umoci", &["raw", "add-layer", "--image", &image, &tar.to_string_lossy()])?;
    run("umoci", &["config", "--image", &image, "--config.cmd", "cat", "--config.cmd", "/etc/mark"])?;
    Ok(image)
}

/// Copies an image with skopeo.
pub fn skopeo(arguments: &[&str]) -> Result<()> {
    run("skopeo", &[&["--insecure-policy", "copy"], arguments].concat())
}

/// Runs a tool that must succeed.
pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().context(program.to_owned())?;
    ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Nothing is left of an image that did not come in.
pub fn nothing_left(node: &Node) -> Result<()> {
    ensure!(node.ok(&["image", "ls", "-q"])?.is_empty());
    for directory in ["layers", "tmp", "configs"] {
        let left = std::fs::read_dir(node.data_dir().join("images").join(directory))?.count();
        ensure!(left == 0, "{left} entries in images/{directory}");
    }
    Ok(())
}
