//! Rules of the house that a compiler does not know.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Lines of a production file, and of a test file.
const PRODUCTION_LINES: usize = 600;
const TEST_LINES: usize = 900;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// The files that git tracks, or would.
fn files(ending: &str) -> Result<Vec<(String, String)>> {
    let listed = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .context("git")?;
    ensure!(listed.status.success(), "git ls-files failed");
    let mut files = Vec::new();
    for name in String::from_utf8(listed.stdout)?.lines().filter(|name| name.ends_with(ending)) {
        if let Ok(text) = std::fs::read_to_string(root().join(name)) {
            files.push((name.to_owned(), text));
        }
    }
    ensure!(!files.is_empty(), "no files that end with {ending:?}");
    Ok(files)
}

fn is_test(name: &str) -> bool {
    name.starts_with("tests/") || name.contains("/tests/") || name.contains("/examples/") || name.ends_with("/tests.rs")
}

/// The text without its inline tests.
fn production(text: &str) -> &str {
    text.split("\n#[cfg(test)]\n").next().unwrap_or(text)
}

#[test]
fn unsafe_code_is_in_sys_alone() -> Result<()> {
    for (name, text) in files(".rs")? {
        let word = ["un", "safe "].concat();
        let found = text
            .lines()
            .any(|line| !line.trim_start().starts_with("//") && line.contains(&word) && !line.contains('"'));
        ensure!(!found || name.starts_with("secretd/sys/"), "{name} has {word}code");
    }
    Ok(())
}

#[test]
fn plaintext_type_is_named_by_sctl_and_secret_fs_alone() -> Result<()> {
    let word = ["Secret", "Bytes"].concat();
    for (name, text) in files(".rs")? {
        let allowed = name.starts_with("secretd/sealing/") || name.starts_with("secret-cli/") || is_test(&name);
        ensure!(allowed || !name.starts_with("secretd/") || !text.contains(&word), "{name} names {word}");
    }
    Ok(())
}

#[test]
fn nothing_is_unfinished_ignored_or_slept_over() -> Result<()> {
    let words = [["to", "do!("], ["unimple", "mented!("], ["FIX", "ME"], ["#[ig", "nore"], ["should_", "panic"]]
        .map(|parts| parts.concat());
    for (name, text) in files(".rs")? {
        for word in &words {
            ensure!(!text.contains(word), "{name} has {word}");
        }
        let sleep = ["thread::", "sleep"].concat();
        ensure!(!is_test(&name) || !text.contains(&sleep), "{name}: a test sleeps");
    }
    Ok(())
}

#[test]
fn files_are_short_enough_to_be_read() -> Result<()> {
    for (name, text) in files(".rs")? {
        let (lines, limit) = if is_test(&name) {
            (text.lines().count(), TEST_LINES)
        } else {
            (production(&text).lines().count(), PRODUCTION_LINES)
        };
        ensure!(lines <= limit, "{name} has {lines} lines, at most {limit} may be");
    }
    Ok(())
}

#[test]
fn every_file_says_why_it_exists() -> Result<()> {
    for (name, text) in files(".rs")? {
        ensure!(text.trim_start().starts_with("//!"), "{name} begins without a module comment");
    }
    for (name, _) in files(".rs")? {
        ensure!(!name.ends_with("/mod.rs"), "{name}: use foo.rs beside foo/");
    }
    Ok(())
}

#[test]
fn links_between_documents_lead_somewhere() -> Result<()> {
    for (name, text) in files(".md")? {
        let directory = root().join(&name).parent().map(Path::to_owned).unwrap_or_default();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            ensure!(directory.join(path).exists(), "{name} links to {link}, which does not exist");
        }
    }
    Ok(())
}

#[test]
fn way_of_a_secret_names_files_that_are_there() -> Result<()> {
    let text = std::fs::read_to_string(root().join("docs/flow-secret.md"))?;
    let paths = text.split('`').filter_map(|word| word.split(" :: ").next()).filter(|word| word.ends_with(".rs"));
    let mut count = 0;
    for path in paths {
        ensure!(root().join(path).is_file(), "docs/flow-secret.md names {path}, which does not exist");
        count += 1;
    }
    ensure!(count > 10, "docs/flow-secret.md names {count} files");
    Ok(())
}

#[test]
fn decision_records_are_numbered_without_a_gap() -> Result<()> {
    let mut names: Vec<String> =
        files(".md")?.into_iter().map(|(name, _)| name).filter(|name| name.starts_with("docs/adr/")).collect();
    names.sort();
    for (number, name) in names.iter().enumerate() {
        ensure!(name.starts_with(&format!("docs/adr/{:04}-", number + 1)), "{name} is out of order");
    }
    Ok(())
}
