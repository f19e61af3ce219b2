//! Configuration: flags and a TOML file, parsed into typed values once, with every error reported together.
//!
//! A flag wins over the file. Nothing here is a secret, so printing a [`Config`] leaks nothing.

mod check;
mod file;

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use clap::Parser;

use self::file::ConfigFile;

/// Where the file is looked for when no flag names one; there it may be absent.
const DEFAULT_FILE: &str = "/etc/secretd/secretd.toml";

/// What is logged where nobody says otherwise: the consensus library tells its every step at `info`.
const DEFAULT_LEVEL: &str = "info,openraft=off";

/// Bytes of the audit log's current file, and files that are kept: with some 250 bytes a read, the last four million.
const AUDIT_MAX_SIZE: u64 = 64 * 1024 * 1024;
const AUDIT_MAX_FILES: usize = 16;

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
    pub(crate) audit_max_size: u64,
    pub(crate) audit_max_files: usize,
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
        let path = flags.config.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if flags.config.is_none() && error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(ConfigError(vec![format!("{path}: {error}")])),
        };
        let file = ConfigFile::parse(&path, &text).map_err(|fault| ConfigError(vec![fault]))?;
        Self::parse(flags, file)
    }

    fn parse(flags: Flags, file: ConfigFile) -> Result<Self, ConfigError> {
        let mut file = file;
        let data_dir = file.directory("data-dir", flags.data_dir, "/var/lib/secretd");
        let run_dir = file.directory("run-dir", flags.run_dir, "/run/secretd");
        let secret_fs = file.unless_flag(flags.secret_fs, "secret-fs");
        let cgroup_parent =
            file.unless_flag(flags.cgroup_parent, "cgroup-parent").unwrap_or_else(|| "/secretd".to_owned());
        let group = file.unless_flag(flags.group, "group");
        let log_level = file.unless_flag(flags.log_level, "log-level").unwrap_or_else(|| DEFAULT_LEVEL.to_owned());
        let log_format = file.unless_flag(flags.log_format, "log-format");
        let mut labels: BTreeMap<String, String> = file.take("labels").unwrap_or_default();
        let mut images = file.section("images");
        let extra_ca = images.take("extra-ca").unwrap_or_default();
        let insecure_registries = images.take("insecure-registries").unwrap_or_default();
        let max_unpacked = images.take("max-unpacked");
        let mut audit = file.section("audit");
        let audit_max_size = audit.take("max-size").unwrap_or(AUDIT_MAX_SIZE);
        let audit_max_files = audit.take("max-files").unwrap_or(AUDIT_MAX_FILES);
        let mut faults = file.end();
        faults.extend(images.end());
        faults.extend(audit.end());

        let format = check::log_format(log_format.as_deref());
        faults.extend(check::cgroup_parent(&cgroup_parent));
        faults.extend(check::log_level(&log_level));
        faults.extend(check::audit(audit_max_size, audit_max_files));
        faults.extend(format.as_ref().err().cloned());
        faults.extend(group.as_deref().and_then(check::group));
        faults.extend(secret_fs.as_deref().and_then(check::program));
        faults.extend(flags.label.iter().filter_map(|label| check::label(label, &mut labels)));
        if data_dir == run_dir {
            faults.push(format!("data-dir and run-dir are both `{data_dir}`: give two directories"));
        }
        match format {
            Ok(log_format) if faults.is_empty() => Ok(Self {
                data_dir,
                run_dir,
                secret_fs,
                cgroup_parent,
                group,
                labels,
                log_level,
                log_format,
                extra_ca,
                insecure_registries,
                max_unpacked,
                audit_max_size,
                audit_max_files,
                notify_socket: std::env::var("NOTIFY_SOCKET").ok(),
            }),
            Ok(_) | Err(_) => Err(ConfigError(faults)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str], file: &str) -> Result<Config, String> {
        let flags = Flags::try_parse_from(std::iter::once("secretd").chain(flags.iter().copied())).unwrap();
        let file = ConfigFile::parse("/etc/x.toml".into(), file)?;
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
        let flags = [
            ["--label", "x"],
            ["--log-format", "xml"],
            ["--cgroup-parent", "a"],
            ["--log-level", "foo"],
            ["--group", "nobody-has-this-group"],
            ["--secret-fs", "/nosuch"],
        ];
        let file = "data-dri = '/x'\nlabels = 3\n[images]\nmax-unpacked = 'much'\ncolour = 1\n[audit]\nmax-size = 10\nmax-files = 0";

        let faults = parse(flags.as_flattened(), file).unwrap_err();

        let parts =
            ["label `x`", "log-format `xml`", "cgroup-parent `a`", "log-level `foo`", "nobody-has", "`/nosuch`"];
        for part in parts.into_iter().chain([
            "/etc/x.toml: unknown key `data-dri`",
            "/etc/x.toml: `labels`: invalid type: integer `3`",
            "/etc/x.toml: `images.max-unpacked`",
            "/etc/x.toml: unknown key `images.colour`",
            "audit.max-size `10`",
            "audit.max-files `0`",
        ]) {
            assert!(faults.contains(part), "no {part} in: {faults}");
        }
    }

    #[test]
    fn log_filter_is_a_level_or_names_one_for_a_target() {
        for good in ["info", "WARN", "off", "info,openraft=off", "secretd_agent=trace"] {
            assert!(parse(&["--log-level", good], "").is_ok(), "{good}");
        }
        for bad in ["foo", "info,foo", "=="] {
            assert!(parse(&["--log-level", bad], "").is_err(), "{bad}");
        }
    }

    #[test]
    fn file_that_is_no_toml_is_refused_with_the_line() {
        let fault = parse(&[], "data-dir = '/x'\nrun-dir").unwrap_err();

        assert!(fault.starts_with("/etc/x.toml, line 2: ") && !fault.contains('\n'), "{fault}");
    }
}
