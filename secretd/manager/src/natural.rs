//! The order of names in lists, as people count: `n2` before `n10`. Pure.

use std::cmp::Ordering;

/// Compares two names, taking runs of digits as numbers.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        match (part(&mut left), part(&mut right)) {
            (None, None) => return a.cmp(b), // they differ in leading zeros at the most
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(first), Some(second)) => {
                let order = compare_parts(first, second);
                if order != Ordering::Equal {
                    return order;
                }
            }
        }
    }
}

fn compare_parts(a: &str, b: &str) -> Ordering {
    if !is_number(a) || !is_number(b) {
        return a.cmp(b);
    }
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    (a.len(), a).cmp(&(b.len(), b)) // of any length
}

fn is_number(part: &str) -> bool {
    part.starts_with(|first: char| first.is_ascii_digit())
}

/// Takes the digits, or the other characters, that a text begins with.
fn part<'a>(text: &mut &'a str) -> Option<&'a str> {
    let digits = is_number(text);
    let end = text.find(|character: char| character.is_ascii_digit() != digits).unwrap_or(text.len());
    let (part, rest) = text.split_at(end);
    *text = rest;
    (!part.is_empty()).then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count() {
        let mut names = ["n10", "n2", "n", "n1-b10", "n1-b9", "n02", "a", "10", "9", "n99999999999999999999999", "n1x"];
        names.sort_by(|a, b| compare(a, b));
        let sorted = ["9", "10", "a", "n", "n1-b9", "n1-b10", "n1x", "n02", "n2", "n10", "n99999999999999999999999"];
        assert_eq!(names, sorted);
    }
}
