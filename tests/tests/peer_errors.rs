//! Every error of the peer's has its counterpart: the table of `docs/from-swarm.md` names the story that drives it, and
//! what the table says is what that story looks for.

use std::path::Path;

use anyhow::{Context, Result, ensure};

fn read(path: &str) -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("root")?;
    std::fs::read_to_string(root.join(path)).with_context(|| path.to_owned())
}

/// The function of a test, with string literals as they are printed.
fn story(source: &str, name: &str) -> Option<String> {
    let (_, rest) = source.split_once(&format!("\nfn {name}() -> Result<()> {{\n"))?;
    let (body, _) = rest.split_once("\n}\n")?;
    Some(body.replace("\\\"", "\""))
}

#[test]
fn every_row_of_the_table_names_a_story_that_looks_for_its_words() -> Result<()> {
    let page = read("docs/from-swarm.md")?;
    let (_, table) = page.split_once("\n| no. | Swarm | secretd | story |\n|---|---|---|---|\n").context("no table")?;
    let mut numbers = Vec::new();
    for row in table.lines().take_while(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [number, _, words, named] = cells[..] else { anyhow::bail!("not four cells: {row}") };
        let names: Vec<&str> = named.split('`').filter(|part| !part.trim().is_empty()).collect();
        let [file, name] = names[..] else { anyhow::bail!("no file and story: {row}") };
        let source = read(&format!("tests/tests/{file}"))?;
        let body = story(&source, name).with_context(|| format!("{file} has no story {name}"))?;
        ensure!(body.contains(words), "{name} does not look for: {words}");
        numbers.extend(number.split(", ").map(str::to_owned));
    }

    // Those of the feature list that have an error, but for the ones that the page itself names as missing.
    let all = (1..=32).map(|number| format!("CL{number}")).chain((1..=14).map(|number| format!("N{number}")));
    let without = "CL16 CL18 CL26 CL27 CL29 CL30 CL31 N1 N8 N9 N10 N12 N13 N14";
    let without: Vec<&str> = without.split(' ').collect();
    for number in all.filter(|number| !without.contains(&number.as_str())) {
        ensure!(numbers.contains(&number), "{number} has no row");
    }
    Ok(())
}
