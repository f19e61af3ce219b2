//! Configuration: flags and a TOML file, parsed into typed values once, with every error reported together.
//!
//! A flag wins over the file. Nothing here is a secret, so printing a [`Config`] leaks nothing.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Parser;
use serde::Deserialize;

/// Where the file is looked for when no flag names one; there it may be absent.
const DEFAULT_FILE: &str = "/etc/secretd/secretd.toml";

/// What is logged where nobody says otherwise: the consensus library tells its every step at `info`.
const DEFAULT_LEVEL: &str = "info,openraft=warn";

/// The orchestrator that keeps secrets: control plane and agent of one node.
#[derive(Debug, Parser)]
#[command(name = "secretd", version, about, max_term_width = 120)]
pub(crate) struct Flags {
    /// Configuration file (TOML); /etc/secretd/secretd.toml is read when it exists
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<Utf8PathBuf>,
    /// Directory of all that must outlive a reboot [default: /var/lib/secretd]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<Utf8PathBuf>,
    /// Directory of sockets and of what must not touch a disk; best on a tmpfs [default: /run/secretd]
    #[arg(long, value_name = "DIR")]
    pub(crate) run_dir: Option<Utf8PathBuf>,
    /// The secret-fs binary [default: beside secretd, else in PATH]
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_fs: Option<Utf8PathBuf>,
    /// Control group below which each container has its own [default: /secretd]
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
    /// Group whose members may use the control socket, besides root [default: secretd, where it exists]
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// Engine label of this node (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// error, warn, info, debug, trace, or tracing's filter syntax [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
}

/// The file, as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawFile {
    data_dir: Option<String>,
    run_dir: Option<String>,
    secret_fs: Option<String>,
    cgroup_parent: Option<String>,
    group: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    log_level: Option<String>,
    log_format: Option<String>,
    #[serde(default)]
    images: RawImages,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawImages {
    #[serde(default)]
    extra_ca: Vec<String>,
    #[serde(default)]
    insecure_registries: Vec<String>,
    max_unpacked: Option<u64>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people and journald.
    Text,
    /// One object a line.
    Json,
}

/// What this process does, once and for all.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) data_dir: Utf8PathBuf,
    pub(crate) run_dir: Utf8PathBuf,
    pub(crate) secret_fs: Option<Utf8PathBuf>,
    pub(crate) cgroup_parent: String,
    pub(crate) group: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    pub(crate) extra_ca: Vec<Utf8PathBuf>,
    pub(crate) insecure_registries: Vec<String>,
    pub(crate) max_unpacked: Option<u64>,
    /// Where the service manager listens (NOTIFY_SOCKET).
    pub(crate) notify_socket: Option<String>,
}

/// What is wrong with the configuration: every fault, one a line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub(crate) struct ConfigError(Vec<String>);

impl Config {
    /// The configuration that flags and file make together.
    pub(crate) fn load(flags: Flags) -> Result<Self, ConfigError> {
        let file = match (
            &flags.config,
            std::fs::read_to_string(flags.config.as_deref().unwrap_or_else(|| DEFAULT_FILE.into())),
        ) {
            (_, Ok(text)) => text,
            (None, Err(error)) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            (named, Err(error)) => {
                let path = named.as_deref().unwrap_or_else(|| Utf8Path::new(DEFAULT_FILE));
                return Err(ConfigError(vec![format!("{path}: {error}")]));
            }
        };
        Self::parse(flags, &file)
    }

    fn parse(flags: Flags, file: &str) -> Result<Self, ConfigError> {
        let raw: RawFile = toml::from_str(file).map_err(|error| {
            ConfigError(vec![format!("configuration file: {}", error.to_string().trim_end().replace('\n', " "))])
        })?;
        let mut faults = Vec::new();
        let mut directory = |name: &str, flag: Option<Utf8PathBuf>, file: Option<String>, default: &str| {
            let path = flag.or_else(|| file.map(Utf8PathBuf::from)).unwrap_or_else(|| default.into());
            // A relative directory is one of the caller's: it must not move with a later change of directory.
            match camino::absolute_utf8(&path) {
                Ok(path) => path,
                Err(error) => {
                    faults.push(format!("{name} `{path}`: {error}"));
                    path
                }
            }
        };
        let data_dir = directory("data-dir", flags.data_dir, raw.data_dir, "/var/lib/secretd");
        let run_dir = directory("run-dir", flags.run_dir, raw.run_dir, "/run/secretd");
        let cgroup_parent = flags.cgroup_parent.or(raw.cgroup_parent).unwrap_or_else(|| "/secretd".to_owned());
        if !cgroup_parent.starts_with('/') || cgroup_parent.split('/').any(|part| part == "..") {
            faults.push(format!("cgroup-parent `{cgroup_parent}`: give an absolute path without `..`"));
        }
        let log_format = match flags.log_format.or(raw.log_format).as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => {
                faults.push(format!("log-format `{other}`: give text or json"));
                LogFormat::Text
            }
        };
        let log_level = flags.log_level.or(raw.log_level).unwrap_or_else(|| DEFAULT_LEVEL.to_owned());
        if let Err(error) = log_level.parse::<tracing_subscriber::EnvFilter>() {
            faults.push(format!("log-level `{log_level}`: {error}"));
        }
        let mut labels = raw.labels;
        for label in flags.label {
            match label.split_once('=') {
                Some((key, value)) if !key.is_empty() => drop(labels.insert(key.to_owned(), value.to_owned())),
                _ => faults.push(format!("label `{label}`: give KEY=VALUE")),
            }
        }
        if data_dir == run_dir {
            faults.push(format!("data-dir and run-dir are both `{data_dir}`: give two directories"));
        }
        if !faults.is_empty() {
            return Err(ConfigError(faults));
        }
        Ok(Self {
            data_dir,
            run_dir,
            secret_fs: flags.secret_fs.or_else(|| raw.secret_fs.map(Utf8PathBuf::from)),
            cgroup_parent,
            group: flags.group.or(raw.group),
            labels,
            log_level,
            log_format,
            extra_ca: raw.images.extra_ca.into_iter().map(Utf8PathBuf::from).collect(),
            insecure_registries: raw.images.insecure_registries,
            max_unpacked: raw.images.max_unpacked,
            notify_socket: std::env::var("NOTIFY_SOCKET").ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str], file: &str) -> Result<Config, String> {
        let flags = Flags::try_parse_from(std::iter::once("secretd").chain(flags.iter().copied())).unwrap();
        Config::parse(flags, file).map_err(|error| error.to_string())
    }

    #[test]
    fn flag_wins_over_file_and_file_over_default() {
        let config = parse(&["--data-dir", "/d"], "data-dir = '/x'\nrun-dir = '/r'\n[labels]\nzone = 'a'").unwrap();

        assert_eq!((config.data_dir.as_str(), config.run_dir.as_str()), ("/d", "/r"));
        assert_eq!((config.labels["zone"].as_str(), config.cgroup_parent.as_str()), ("a", "/secretd"));
    }

    #[test]
    fn all_faults_are_reported_together() {
        let faults = parse(&["--label", "x", "--log-format", "xml", "--cgroup-parent", "a", "--log-level", "=="], "")
            .unwrap_err();

        for part in ["label `x`", "log-format `xml`", "cgroup-parent `a`", "log-level `==`"] {
            assert!(faults.contains(part), "{faults}");
        }
    }

    #[test]
    fn unknown_key_in_the_file_is_refused() {
        assert!(parse(&[], "data-dri = '/x'").unwrap_err().contains("data-dri"));
    }
}
