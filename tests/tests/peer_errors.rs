//! Every error of the peer's has its counterpart: the table of `docs/from-swarm.md` names the story that has it printed by
//! the real binaries, and each of these stories ends with a look at what was printed ([`secretd_tests::peer`]).

use anyhow::{Context, Result, ensure};
use secretd_tests::peer::{read, rows};

/// The function of a test.
fn story(source: &str, name: &str) -> Option<String> {
    let (_, rest) = source.split_once(&format!("\n#[test]\nfn {name}() -> Result<()> {{\n"))?;
    Some(rest.split_once("\n}\n")?.0.to_owned())
}

#[test]
fn every_row_of_the_table_names_a_story_that_looks_for_its_words_in_what_was_printed() -> Result<()> {
    for row in rows()? {
        let (file, name) = (&row.file, &row.story);
        let source = read(&format!("tests/tests/{file}"))?;
        let body = story(&source, name).with_context(|| format!("{file} has no story {name}"))?;
        let last = body.trim_end().lines().last().unwrap_or_default().trim();
        ensure!(last == format!("rows_hold(\"{name}\")"), "{name} does not end with a look at the table: {last}");
        ensure!(row.words.contains(' '), "{name}: one word is not what is said: {}", row.words);
    }
    Ok(())
}

#[test]
fn every_error_of_the_feature_list_has_a_row() -> Result<()> {
    let rows = rows()?;
    // But for those of the feature list that have no error, or are named below the table as missing.
    let all = (1..=32).map(|number| format!("CL{number}")).chain((1..=14).map(|number| format!("N{number}")));
    let without = "CL26 CL27 CL29 CL30 CL31 N1 N8 N9 N10 N12 N13 N14";
    let without: Vec<&str> = without.split(' ').collect();
    for number in all.filter(|number| !without.contains(&number.as_str())) {
        ensure!(rows.iter().any(|row| row.numbers.contains(&number)), "{number} has no row");
    }
    Ok(())
}
