//! Environment variables of a container: from flags, and from files.

use std::fmt::Display;
use std::path::PathBuf;

use crate::failure::Failure;

/// The variables of `--env-file`, then those of `--env`, which win.
pub(crate) fn variables(files: &[PathBuf], flags: &[String]) -> Result<Vec<String>, Failure> {
    let lookup = |name: &str| std::env::var(name).ok();
    let mut env = Vec::new();
    for path in files {
        let read = |error: &dyn Display| Failure::failed(format!("--env-file {}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| read(&error))?;
        merge(&mut env, file(&text, lookup).map_err(|error| read(&error))?);
    }
    for text in flags {
        merge(&mut env, variable(text, lookup).map_err(Failure::usage)?);
    }
    Ok(env)
}

/// One `--env`: `K=V`, or `K` with the value that `lookup` has; without one it is left out, as in Docker.
pub(crate) fn variable(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Option<String>, String> {
    match text.split_once('=') {
        Some(("", _)) => Err(format!("invalid environment variable: {text}")),
        Some(_) => Ok(Some(text.to_owned())),
        None if text.is_empty() => Err("invalid environment variable: it has no name".to_owned()),
        None => Ok(lookup(text).map(|value| format!("{text}={value}"))),
    }
}

/// The variables of a file: a line each; empty lines and those that begin with # are comments.
pub(crate) fn file(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, String> {
    let mut variables = Vec::new();
    for (idx, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(format!("line {}: a variable's name is empty or has blanks", idx + 1));
        }
        variables.extend(variable(line, &lookup)?);
    }
    Ok(variables)
}

/// Adds variables; one of the same name is replaced where it stands.
pub(crate) fn merge(env: &mut Vec<String>, added: impl IntoIterator<Item = String>) {
    for variable in added {
        match env.iter_mut().find(|have| name(have) == name(&variable)) {
            Some(have) => *have = variable,
            None => env.push(variable),
        }
    }
}

/// What stands before the first `=`.
pub(crate) fn name(variable: &str) -> &str {
    variable.split('=').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn names_alone_are_taken_from_the_environment_or_left_out() {
        assert_eq!(variable("A=b=c", lookup), Ok(Some("A=b=c".to_owned())));
        assert_eq!(variable("HOME", lookup), Ok(Some("HOME=/root".to_owned())));
        assert_eq!(variable("NOPE", lookup), Ok(None));
        assert!(variable("=x", lookup).is_err());
    }

    #[test]
    fn files_have_a_variable_in_a_line() {
        let text = "# comment\n\nA=1\n  B= two \nHOME\nNOPE\nC=#x\n";
        assert_eq!(file(text, lookup).unwrap(), ["A=1", "B= two ", "HOME=/root", "C=#x"]);
        assert_eq!(file("A B=1", lookup).unwrap_err(), "line 1: a variable's name is empty or has blanks");
    }

    #[test]
    fn later_variables_replace_earlier_ones_of_their_name() {
        let mut env = vec!["A=1".to_owned(), "B=2".to_owned()];
        merge(&mut env, ["A=3".to_owned(), "C=4".to_owned()]);
        assert_eq!(env, ["A=3", "B=2", "C=4"]);
    }
}
