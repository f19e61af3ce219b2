//! Where nodes are, under names: a directory with two files for each context, and one that says which is in use.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use secretd_proto::code::Code;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::new_file::NewFile;

/// The context that is there without being made: the control socket of this node.
pub(crate) const DEFAULT: &str = "default";

/// One context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) description: String,
    /// The file with certificate, key and roots.
    pub(crate) cert: Option<PathBuf>,
}

/// The directory with all of them.
#[derive(Debug, Clone)]
pub(crate) struct Contexts(PathBuf);

impl Contexts {
    /// `$SCTL_CONFIG`, else `sctl` in `$XDG_CONFIG_HOME`, else in `~/.config` (XDG base directories).
    pub(crate) fn of_user() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let below_home = || variable("HOME").unwrap_or_else(|| "/".into()).join(".config");
        let config = || variable("XDG_CONFIG_HOME").unwrap_or_else(below_home).join("sctl");
        Self(variable("SCTL_CONFIG").unwrap_or_else(config))
    }

    /// The context of this name.
    pub(crate) fn get(&self, name: &str) -> Result<Saved, Failure> {
        check_name(name)?;
        let path = self.file(name, "json");
        let text = fs::read(&path).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                Failure::new(Code::NotFound, format!("context \"{name}\" not found: see \"sctl context ls\""))
            } else {
                failed(&path, &error)
            }
        })?;
        let value: Value = serde_json::from_slice(&text).map_err(|error| failed(&path, &error.into()))?;
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let cert = Some(self.file(name, "pem")).filter(|path| path.exists());
        Ok(Saved { name: name.to_owned(), host: text("Host"), description: text("Description"), cert })
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> Result<Vec<Saved>, Failure> {
        let entries = match fs::read_dir(self.directory()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&self.directory(), &error)),
        };
        let names = entries.flatten().filter_map(|entry| {
            let name = entry.file_name();
            name.to_str()?.strip_suffix(".json").map(str::to_owned)
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names.iter().map(|name| self.get(name)).collect()
    }

    /// Makes a context; `cert` is a file that is copied.
    pub(crate) fn create(&self, saved: &Saved) -> Result<(), Failure> {
        check_name(&saved.name)?;
        if saved.name == DEFAULT || self.file(&saved.name, "json").exists() {
            let message = format!("context \"{}\" already exists", saved.name);
            return Err(Failure::new(Code::NameConflict, message));
        }
        let directory = self.directory();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|error| failed(&directory, &error))?;
        if let Some(from) = &saved.cert {
            let bytes = fs::read(from).map(zeroize::Zeroizing::new).map_err(|error| failed(from, &error))?;
            write(&self.file(&saved.name, "pem"), &bytes)?;
        }
        let value = json!({ "Name": saved.name, "Host": saved.host, "Description": saved.description });
        write(&self.file(&saved.name, "json"), value.to_string().as_bytes())
    }

    /// Removes a context.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Failure> {
        self.get(name)?;
        for kind in ["json", "pem"] {
            let path = self.file(name, kind);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&path, &error)),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The name of the one in use.
    pub(crate) fn current(&self) -> String {
        let name = fs::read_to_string(self.0.join("current")).unwrap_or_default();
        if name.trim().is_empty() { DEFAULT.to_owned() } else { name.trim().to_owned() }
    }

    /// From now on this one is in use.
    pub(crate) fn make_current(&self, name: &str) -> Result<(), Failure> {
        let path = self.0.join("current");
        if name == DEFAULT {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, &error)),
                Ok(()) | Err(_) => Ok(()),
            };
        }
        self.get(name)?;
        write(&path, name.as_bytes())
    }

    fn directory(&self) -> PathBuf {
        self.0.join("contexts")
    }

    fn file(&self, name: &str, kind: &str) -> PathBuf {
        self.directory().join(format!("{name}.{kind}"))
    }
}

/// Writes a file that its owner alone can read: all of it or nothing.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = NewFile::begin_replacing(path).and_then(|new| {
        let mut file = new.file();
        file.write_all(bytes)?;
        new.replace()
    });
    written.map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}

fn check_name(name: &str) -> Result<(), Failure> {
    let good = name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|character| character.is_ascii_alphanumeric() || "_.+-".contains(character));
    let rule = format!("context name \"{name}\" is invalid: letters, digits and _.+- alone, a letter or digit first");
    if good { Ok(()) } else { Err(Failure::invalid(rule)) }
}
