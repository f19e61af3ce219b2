//! What the `inspect` commands share: several names, `-f`, `--pretty`, and going on past those that are not there.

use clap::Args;
use serde_json::Value;

use super::Context;
use super::outcomes::Outcomes;
use crate::failure::Failure;
use crate::format::{Format, harmless};
use crate::output;

/// `-f` of the commands that have it in Docker too.
#[derive(Debug, Args)]
pub(crate) struct ShortFormat {
    /// Short for --format
    #[arg(short = 'f', value_name = "FORMAT", conflicts_with = "format")]
    short_format: Option<String>,
}

impl ShortFormat {
    /// How to show the objects.
    pub(crate) fn of(&self, context: &Context) -> Result<Format, Failure> {
        match &self.short_format {
            Some(format) => Format::parse(Some(format), context.reading.age()),
            None => Ok(context.format.clone()),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Inspection {
    #[command(flatten)]
    pub(crate) format: ShortFormat,
    /// Show it for people
    #[arg(long, conflicts_with_all = ["format", "short_format"])]
    pub(crate) pretty: bool,
}

impl Inspection {
    /// Shows objects, of which some may not have been found.
    pub(crate) fn show(&self, format: &Format, objects: &[Value], outcomes: &Outcomes) -> Result<u8, Failure> {
        let text = if self.pretty {
            objects.iter().map(pretty).collect::<Vec<_>>().join("\n")
        } else {
            format.inspect(objects)?
        };
        output::bytes(text.as_bytes())?;
        Ok(outcomes.exit())
    }
}

/// An object as indented lines, without what is empty.
fn pretty(object: &Value) -> String {
    let mut out = String::new();
    write(&mut out, object, 0);
    out
}

fn write(out: &mut String, value: &Value, depth: usize) {
    let Value::Object(map) = value else { return };
    for (key, value) in map {
        let indent = " ".repeat(depth);
        match value {
            Value::Null => {}
            Value::Object(inner) if inner.is_empty() => {}
            Value::Array(items) if items.is_empty() => {}
            Value::String(text) if text.is_empty() => {}
            Value::Object(_) => {
                out.push_str(&format!("{indent}{}:\n", in_line(key)));
                write(out, value, depth + 2);
            }
            Value::Array(items) => {
                out.push_str(&format!("{indent}{}:\n", in_line(key)));
                for item in items {
                    out.push_str(&format!("{indent}  - {}\n", inline(item)));
                }
            }
            Value::String(_) | Value::Bool(_) | Value::Number(_) => {
                out.push_str(&format!("{indent}{}: {}\n", in_line(key), inline(value)))
            }
        }
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => in_line(text),
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null() && value.as_str() != Some(""))
            .map(|(key, value)| format!("{}={}", in_line(key), inline(value)))
            .collect::<Vec<_>>()
            .join(" "),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.to_string(),
    }
}

/// What an operator, or a node, has said, as it may stand in a line.
fn in_line(text: &str) -> String {
    harmless(text).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pretty_has_no_empty_fields() {
        let object = json!({
            "ID": "x", "Spec": { "Name": "app", "Labels": {} , "Args": ["a", "b"], "Mounts": [{ "Target": "/x", "Source": "" }] },
            "None": null, "N": 3, "Labels": { "a\u{1b}[2J": "b\nID: y" }
        });
        expect_test::expect![[r#"
            ID: x
            Spec:
              Name: app
              Args:
                - a
                - b
              Mounts:
                - Target=/x
            N: 3
            Labels:
              a�[2J: b ID: y
        "#]]
        .assert_eq(&pretty(&object));
    }
}
