//! System calls that fail once: strace(1) on a process, so that nothing in the program is there for the test.
//!
//! A place is a kind of call on a file of a directory, and which of them: all the places where a scenario writes, syncs or
//! renames are found by watching it once. A test then has each of them fail in turn.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::node::Node;

/// Calls that change what is on a disk.
const CALLS: &str =
    "write,writev,pwrite64,fsync,fdatasync,rename,renameat,renameat2,ftruncate,fallocate,unlink,unlinkat";
/// How many calls of one kind on one file count as places of their own: the rest are the same lines of the program.
const OF_ONE_KIND: usize = 2;

/// A call that can fail.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The kind of call.
    pub call: String,
    /// The file, below the directory that was watched.
    pub file: String,
    /// The how many-th of its kind on that file.
    pub number: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} number {}", self.call, self.file, self.number)
    }
}

/// strace, attached to a process that runs.
#[derive(Debug)]
pub struct Tracer {
    strace: Child,
    output: PathBuf,
}

impl Tracer {
    /// Watches the daemon of a node.
    pub fn watch(node: &Node) -> Result<Self> {
        Self::attach(node, &["-y", "-e", &format!("trace={CALLS}")])
    }

    /// Has a call of the daemon fail once with `error` (`EIO`, say). Threads are counted by themselves.
    pub fn fail(node: &Node, place: &Place, error: &str) -> Result<Self> {
        let arguments = failing(place, &node.data_dir(), error);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Self::attach(node, &arguments)
    }

    fn attach(node: &Node, arguments: &[&str]) -> Result<Self> {
        let output = node.path("strace.out");
        let pid = node.daemon_pid()?.to_string();
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &pid, "-o"]).arg(&output).args(arguments);
        let mut strace = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().context("strace")?;
        let mut told = BufReader::new(strace.stderr.take().context("stderr")?);
        let mut line = String::new();
        while !line.contains("attached") {
            line.clear();
            ensure!(told.read_line(&mut line)? > 0, "strace has not attached");
        }
        // It says more, as threads come: somebody has to take it.
        let drain = move || std::io::copy(&mut told, &mut std::io::sink());
        std::thread::Builder::new().name("strace".to_owned()).spawn(drain)?;
        Ok(Self { strace, output })
    }

    /// Lets the process go on alone: what was seen.
    pub fn end(mut self) -> Result<Seen> {
        // Asked politely it may wait for a thread of a process that is ending, for ever. Each line is in the file already.
        self.strace.kill()?;
        self.strace.wait()?;
        Ok(Seen(std::fs::read_to_string(&self.output)?))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// Runs a command of which a call on a file in `directory` fails once.
pub fn failing_command(command: &Command, place: &Place, directory: &Path, output: &Path) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-o"]).arg(output).args(failing(place, directory, "EIO"));
    traced.arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        traced.env(name, value.unwrap_or_default());
    }
    traced
}

/// Runs a command and watches it.
pub fn watched_command(command: &Command, output: &Path) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-y", "-o"]).arg(output).args(["-e", &format!("trace={CALLS}")]);
    traced.arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        traced.env(name, value.unwrap_or_default());
    }
    traced
}

fn failing(place: &Place, directory: &Path, error: &str) -> Vec<String> {
    let Place { call, file, number } = place;
    let file = if file.is_empty() { directory.to_owned() } else { directory.join(file) };
    vec![
        "-P".to_owned(),
        file.to_string_lossy().into_owned(),
        "-e".to_owned(),
        format!("trace={call}"),
        "-e".to_owned(),
        format!("inject={call}:error={error}:when={number}"),
    ]
}

/// What strace has written.
#[derive(Debug)]
pub struct Seen(pub String);

impl Seen {
    /// Whether the call has failed.
    pub fn fired(&self) -> bool {
        self.0.contains("(INJECTED)")
    }

    /// Where files in `directory` were changed.
    pub fn places(&self, directory: &Path) -> Vec<Place> {
        let directory = directory.to_string_lossy();
        let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
        for line in self.0.lines() {
            let Some((call, file)) = call_and_file(line, &directory) else { continue };
            *counts.entry((call, file)).or_default() += 1;
        }
        let numbered = counts.into_iter().flat_map(|((call, file), count)| {
            (1..=count.min(OF_ONE_KIND)).map(move |number| Place { call: call.clone(), file: file.clone(), number })
        });
        numbered.collect()
    }
}

/// `123 fsync(9</d/store/acknowledged>) = 0`, or `123 rename("/d/dek.new", "/d/dek") = 0`.
fn call_and_file(line: &str, directory: &str) -> Option<(String, String)> {
    let line = line.trim_start_matches(|letter: char| letter.is_ascii_digit()).trim_start();
    let (call, rest) = line.split_once('(')?;
    // A descriptor with its path comes first, or there are paths alone; what is written tells nothing.
    let paths: Vec<&str> = match rest.split_once('<') {
        Some((fd, rest)) if fd.parse::<u32>().is_ok() => rest.split('>').take(1).collect(),
        Some(_) | None => rest.split('"').skip(1).step_by(2).collect(),
    };
    let file = paths.into_iter().find_map(|path| path.strip_prefix(directory))?;
    let is_below = file.is_empty() || file.starts_with('/');
    let is_call = !call.is_empty() && call.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    (is_call && is_below).then(|| (call.to_owned(), file.trim_start_matches('/').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_in_what_strace_writes() {
        let seen = Seen(
            "12 pwrite64(9</d/store/records.redb>, \"x\"..., 512, 0) = 512\n\
             12 pwrite64(9</d/store/records.redb>, \"</e>\"..., 512, 0) = 512\n\
             12 pwrite64(9</d/store/records.redb>, \"x\"..., 512, 0) = 512\n\
             13 rename(\"/d/membership.new\", \"/d/membership\") = 0\n\
             13 fsync(8</d>) = 0\n\
             13 fsync(8</data>) = 0\n\
             13 write(2</dev/null>, \"/d/x\", 3) = 3\n\
             13 +++ exited with 0 +++\n"
                .to_owned(),
        );
        let places: Vec<String> = seen.places(Path::new("/d")).iter().map(ToString::to_string).collect();
        assert_eq!(
            places,
            [
                "fsync of  number 1",
                "pwrite64 of store/records.redb number 1",
                "pwrite64 of store/records.redb number 2",
                "rename of membership.new number 1",
            ]
        );
    }
}
