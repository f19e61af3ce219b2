//! The table of `docs/from-swarm.md`: what is said instead of Docker Swarm's errors, held against what the binaries print.
//!
//! Every command that a test runs leaves the lines that it printed here, thread by thread, as tests have a thread each. A
//! story that the table names ends with [`rows_hold`].

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::command::Answer;

thread_local! {
    static PRINTED: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

/// An error of Swarm's, and its counterpart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Those of the feature list.
    pub numbers: Vec<String>,
    /// What is printed instead: a line, or a part of one. `…` stands for what differs from case to case.
    pub words: String,
    /// The test that has it printed.
    pub file: String,
    /// Its function.
    pub story: String,
}

impl Row {
    /// Whether a line that was printed has the row's words.
    pub fn is_in(&self, line: &str) -> bool {
        let mut rest = Some(line);
        for part in self.words.split('…') {
            rest = rest.and_then(|rest| rest.split_once(part)).map(|(_, after)| after);
        }
        rest.is_some()
    }
}

/// A file of the repository.
pub fn read(path: &str) -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("root")?;
    std::fs::read_to_string(root.join(path)).with_context(|| path.to_owned())
}

/// The rows of the table.
pub fn rows() -> Result<Vec<Row>> {
    let page = read("docs/from-swarm.md")?;
    let (_, table) = page.split_once("\n| no. | Swarm | secretd | story |\n|---|---|---|---|\n").context("no table")?;
    table.lines().take_while(|line| line.starts_with("| ")).map(row).collect()
}

fn row(line: &str) -> Result<Row> {
    let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
    let [numbers, _, words, named] = cells[..] else { anyhow::bail!("not four cells: {line}") };
    let names: Vec<&str> = named.split('`').filter(|part| !part.trim().is_empty()).collect();
    let [file, story] = names[..] else { anyhow::bail!("no file and story: {line}") };
    let numbers = numbers.split(", ").map(str::to_owned).collect();
    Ok(Row { numbers, words: words.to_owned(), file: file.to_owned(), story: story.to_owned() })
}

/// Keeps what a command printed.
pub(crate) fn note(answer: &Answer) {
    PRINTED.with_borrow_mut(|printed| {
        printed.extend(answer.stdout.lines().chain(answer.stderr.lines()).map(str::to_owned));
    });
}

/// Whether the words of every row that names `story` were printed since the last call, by commands of this thread.
pub fn rows_hold(story: &str) -> Result<()> {
    let printed = PRINTED.take();
    let own: Vec<Row> = rows()?.into_iter().filter(|row| row.story == story).collect();
    ensure!(!own.is_empty(), "docs/from-swarm.md has no row of {story}");
    for row in own {
        ensure!(
            printed.iter().any(|line| row.is_in(line)),
            "docs/from-swarm.md says, and nothing has printed: {}",
            row.words
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_is_in_a_line_with_its_parts_in_order() {
        let row = row("| CL1, N2 | a lost node | node … is lost: … again | `x.rs` `y` |").unwrap();
        assert_eq!(row.numbers, ["CL1", "N2"]);
        assert_eq!((row.file.as_str(), row.story.as_str()), ("x.rs", "y"));
        for line in ["node n1 is lost: start it again", "sctl: node n1 is lost: ask again."] {
            assert!(row.is_in(line), "{line}");
        }
        for line in ["", "node n1 is lost", "again: node n1 is lost: ", "node … is lost"] {
            assert!(!row.is_in(line), "{line}");
        }
        assert!(super::row("| CL1 | a | b |").is_err());
    }

    #[test]
    fn row_that_nothing_printed_is_found() {
        let row = rows().unwrap().into_iter().next().unwrap();
        let said = |stderr: &str| {
            note(&Answer {
                stdout: String::new(),
                stderr: stderr.to_owned(),
                status: std::process::ExitStatus::default(),
            });
        };
        for other in rows().unwrap().into_iter().filter(|other| other.story == row.story) {
            said(&other.words);
        }
        rows_hold(&row.story).unwrap();
        assert!(rows_hold(&row.story).is_err(), "it was printed before");
        assert!(rows_hold("no_story").is_err());
    }
}
