//! A command in one argument, split as a shell splits words; nothing is expanded.

/// The words of `--entrypoint` and `--args`.
pub(crate) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('\'') => break,
                        Some(other) => word.push(other),
                        None => return Err(unclosed(text)),
                    }
                }
            }
            '"' => quoted(&mut characters, word.get_or_insert_default()).ok_or_else(|| unclosed(text))?,
            '\\' => word.get_or_insert_default().push(characters.next().ok_or_else(|| unclosed(text))?),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(characters: &mut std::str::Chars<'_>, word: &mut String) -> Option<()> {
    loop {
        match characters.next()? {
            '"' => return Some(()),
            '\\' => match characters.next()? {
                escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                '\n' => {}
                other => word.extend(['\\', other]),
            },
            other => word.push(other),
        }
    }
}

fn unclosed(text: &str) -> String {
    format!("a quote or backslash at the end of `{text}` has nothing after it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_a_shells() {
        let table: [(&str, &[&str]); 6] = [
            ("sh -c 'echo a b'", &["sh", "-c", "echo a b"]),
            (r#"a "b \"c\" $d" e\ f"#, &["a", "b \"c\" $d", "e f"]),
            ("  a   ''  b ", &["a", "", "b"]),
            (r#""\n""#, &["\\n"]),
            ("a'b'c", &["abc"]),
            ("", &[]),
        ];
        for (text, wanted) in table {
            assert_eq!(split(text).unwrap(), wanted, "{text}");
        }
        assert!(split("'a").is_err() && split("\"a").is_err() && split("a\\").is_err());
    }
}
