//! The configuration file, taken apart key by key, so that every fault in it is found and not the first alone.

use camino::{Utf8Path, Utf8PathBuf};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// A table of the file. What is not taken from it when it ends is unknown.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: Utf8PathBuf,
    /// What stands before its keys: empty, or the section and a dot.
    prefix: String,
    table: Table,
    faults: Vec<String>,
}

impl ConfigFile {
    /// # Errors
    /// Text that is not TOML: one line that says where.
    pub(super) fn parse(path: &Utf8Path, text: &str) -> Result<Self, String> {
        let table = text.parse::<Table>().map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            format!("{path}, line {line}: {}", error.message().replace('\n', " "))
        })?;
        Ok(Self { path: path.to_owned(), prefix: String::new(), table, faults: Vec::new() })
    }

    /// The value of a key, when it is there and of the right type.
    pub(super) fn take<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        match self.table.remove(key)?.try_into() {
            Ok(value) => Some(value),
            Err(error) => {
                let Self { path, prefix, .. } = self;
                let reason = error.message().replace('\n', " ");
                self.faults.push(format!("{path}: `{prefix}{key}`: {reason}"));
                None
            }
        }
    }

    /// The value of a flag, else that of the key. The key is checked in any case.
    pub(super) fn unless_flag<T: DeserializeOwned>(&mut self, flag: Option<T>, key: &str) -> Option<T> {
        let value = self.take(key);
        flag.or(value)
    }

    /// The directory that a flag, this file or the default names. A relative one is the caller's: it must not move when
    /// this process changes its own.
    pub(super) fn directory(&mut self, key: &str, flag: Option<Utf8PathBuf>, default: &str) -> Utf8PathBuf {
        let path = self.unless_flag(flag, key).unwrap_or_else(|| default.into());
        camino::absolute_utf8(&path).unwrap_or_else(|error| {
            self.faults.push(format!("{key} `{path}`: {error}"));
            path
        })
    }

    /// The table of a section; an empty one where there is none.
    pub(super) fn section(&mut self, key: &str) -> Self {
        let table = match self.table.remove(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                let Self { path, .. } = self;
                self.faults.push(format!("{path}: `{key}`: must be a section, not {}", other.type_str()));
                Table::new()
            }
        };
        Self { path: self.path.clone(), prefix: format!("{key}."), table, faults: Vec::new() }
    }

    /// All that was wrong.
    pub(super) fn end(self) -> Vec<String> {
        let Self { path, prefix, table, mut faults } = self;
        faults.extend(table.keys().map(|key| format!("{path}: unknown key `{prefix}{key}`")));
        faults
    }
}
