//! One line of comma-separated values (RFC 4180): the long form of `--secret` and `--mount`.

/// The fields; a field in double quotes may have commas, and two double quotes for one.
pub(super) fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![];
    let mut characters = text.chars().peekable();
    loop {
        let mut field = String::new();
        if characters.next_if_eq(&'"').is_some() {
            loop {
                match characters.next() {
                    Some('"') if characters.next_if_eq(&'"').is_some() => field.push('"'),
                    Some('"') => break,
                    Some(other) => field.push(other),
                    None => return Err(format!("a double quote is not closed in `{text}`")),
                }
            }
            if characters.peek().is_some_and(|next| *next != ',') {
                return Err(format!("a closing double quote must end a field in `{text}`"));
            }
        }
        while let Some(other) = characters.next_if(|next| *next != ',') {
            field.push(other);
        }
        fields.push(field);
        if characters.next().is_none() {
            return Ok(fields);
        }
    }
}
