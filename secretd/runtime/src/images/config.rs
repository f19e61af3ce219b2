//! What an image says of its containers: the part of the OCI image configuration that matters here.

use std::collections::BTreeMap;

use serde::Deserialize;

/// An image's defaults for its containers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerDefaults {
    /// `K=V`.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// Before the command.
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    /// The command, or the entrypoint's arguments.
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    /// Absolute; empty for the root.
    pub working_dir: String,
    /// Name or uid, optionally `:group`; empty for root.
    pub user: String,
    /// Name or number; empty for SIGTERM.
    pub stop_signal: String,
    /// Paths that get a volume of their own.
    #[serde(deserialize_with = "or_default")]
    pub volumes: BTreeMap<String, serde_json::Value>,
}

/// The OCI image configuration, as far as it is read.
#[derive(Debug, Deserialize)]
pub(super) struct ImageConfig {
    pub(super) architecture: String,
    pub(super) os: String,
    #[serde(default)]
    pub(super) created: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) config: ContainerDefaults,
    pub(super) rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
pub(super) struct RootFs {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) diff_ids: Vec<String>,
}

/// Images in the wild write `null` for what is empty.
fn or_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// This node's platform in the words of images: `linux/amd64`.
pub(super) fn platform() -> (&'static str, &'static str) {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    ("linux", architecture)
}
