//! The one formatter of all lists and objects: `--format table|json|TEMPLATE|"table TEMPLATE"`. Pure.
//!
//! Everything that is shown is a JSON value first, with Docker's names of fields: a table, a template and `json` are
//! three views of it.

mod table;
mod template;

use serde_json::{Map, Value};

use crate::failure::Failure;
use template::Template;

/// How something is shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Format {
    /// The usual columns, or fields.
    Table,
    /// Columns of a template, with a head.
    TableTemplate(Template),
    /// One JSON object in a line.
    Json(Age),
    /// One line by a template.
    Template(Template),
}

/// How old what is shown may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// Everything that was acknowledged before is in it.
    Newest,
    /// It was asked for with `--stale`: objects that are read say so.
    MayBeOld,
}

/// A column of a list: the field of a row's value, and the head.
pub(crate) type Column = (&'static str, &'static str);

impl Format {
    /// What `--format` says.
    pub(crate) fn parse(text: Option<&str>, age: Age) -> Result<Self, Failure> {
        let template = |text: &str| Template::parse(text).map_err(Failure::usage);
        match text {
            None | Some("" | "table") => Ok(Self::Table),
            Some("json") => Ok(Self::Json(age)),
            Some(text) => match text.strip_prefix("table ") {
                Some(columns) => template(columns.trim_start()).map(Self::TableTemplate),
                None => template(text).map(Self::Template),
            },
        }
    }

    /// A list as text. `shown` are the columns of a plain table; `more` are fields that templates may name besides.
    pub(crate) fn list(&self, shown: &[Column], more: &[Column], rows: &[Value]) -> Result<String, Failure> {
        let heads: Map<String, Value> =
            shown.iter().chain(more).map(|(field, head)| ((*field).to_owned(), Value::from(*head))).collect();
        let heads = Value::Object(heads);
        match self {
            Self::Table => {
                let head = shown.iter().map(|(_, head)| *head).collect::<Vec<_>>().join("\t");
                let cells = |row| shown.iter().map(|(field, _)| cell(row, field)).collect::<Vec<_>>().join("\t");
                Ok(table::align(&std::iter::once(head).chain(rows.iter().map(cells)).collect::<Vec<_>>()))
            }
            Self::TableTemplate(template) => {
                let mut table = vec![template.evaluate(&heads).map_err(Failure::invalid)?];
                table.extend(lines(template, rows)?);
                Ok(table::align(&table))
            }
            Self::Json(age) => Ok(rows.iter().map(|row| format!("{}\n", age.mark(row))).collect()),
            Self::Template(template) => {
                if rows.is_empty() {
                    template.evaluate(&heads).map_err(Failure::invalid)?; // a wrong name shows without rows too
                }
                Ok(lines(template, rows)?.iter().map(|line| format!("{line}\n")).collect())
            }
        }
    }

    /// One object as a line: what a command that makes or changes something says. Plain is `plain`.
    pub(crate) fn object(&self, plain: &str, value: &Value) -> Result<String, Failure> {
        match self {
            Self::Table => Ok(format!("{}\n", harmless(plain))),
            Self::Json(_) => Ok(format!("{value}\n")),
            Self::Template(template) | Self::TableTemplate(template) => {
                Ok(format!("{}\n", template.evaluate(value).map_err(Failure::invalid)?))
            }
        }
    }

    /// Whether a template fits what [`Self::object`] will be given: asked before a call that cannot be taken back.
    /// `example` has the same fields.
    pub(crate) fn check(&self, example: &Value) -> Result<(), Failure> {
        match self {
            Self::Table | Self::Json(_) => Ok(()),
            Self::Template(template) | Self::TableTemplate(template) => {
                template.check(example).map_err(Failure::invalid)
            }
        }
    }

    /// Objects in full, as `inspect` shows them.
    pub(crate) fn inspect(&self, objects: &[Value]) -> Result<String, Failure> {
        match self {
            Self::Table => {
                let array = Value::from(objects.to_vec()); // a note on standard error says how old it may be
                serde_json::to_string_pretty(&array).map(|text| format!("{text}\n")).map_err(Failure::failed)
            }
            Self::Json(age) => {
                let objects: Vec<Value> = objects.iter().map(|object| age.mark(object)).collect();
                Ok(format!("{}\n", Value::from(objects)))
            }
            Self::Template(template) | Self::TableTemplate(template) => {
                Ok(lines(template, objects)?.iter().map(|line| format!("{line}\n")).collect())
            }
        }
    }
}

impl Age {
    /// A JSON object that was read, marked when it may be old.
    fn mark(self, object: &Value) -> Value {
        let mut object = object.clone();
        if let (Self::MayBeOld, Value::Object(map)) = (self, &mut object) {
            map.insert("Stale".to_owned(), Value::Bool(true));
        }
        object
    }
}

/// Text in which nothing steers the terminal: names, labels and messages are what their makers liked.
pub(crate) fn harmless(text: &str) -> String {
    text.replace(|character: char| character.is_control() && character != '\n', "\u{fffd}")
}

fn lines(template: &Template, values: &[Value]) -> Result<Vec<String>, Failure> {
    values.iter().map(|value| template.evaluate(value).map_err(Failure::invalid)).collect()
}

fn cell(row: &Value, field: &str) -> String {
    match row.get(field) {
        Some(Value::String(text)) => text.replace(char::is_control, " "),
        Some(other) if !other.is_null() => other.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn show(format: &str, rows: &[Value]) -> String {
        let columns = [("ID", "ID"), ("Name", "NAME")];
        let text =
            Format::parse(Some(format), Age::Newest).and_then(|format| format.list(&columns, &[("N", "NUMBER")], rows));
        text.unwrap_or_else(|failure| format!("! {} {failure}\n", failure.exit))
    }

    #[test]
    fn formats_are_views_of_the_same_rows() {
        let rows = [json!({ "ID": "x1", "Name": "app", "N": 3 }), json!({ "ID": "y2", "Name": "database", "N": 12 })];
        let formats = ["table", "json", "{{.Name}}", "table {{.Name}}\\t{{.N}}", "{{.X}}", "{{", "x"];
        expect_test::expect![[r#"
            --- table
            ID   NAME
            x1   app
            y2   database
            --- json
            {"ID":"x1","Name":"app","N":3}
            {"ID":"y2","Name":"database","N":12}
            --- {{.Name}}
            app
            database
            --- table {{.Name}}\t{{.N}}
            NAME       NUMBER
            app        3
            database   12
            --- {{.X}}
            ! 1 template: there is no field .X: there are ID, Name, N
            --- {{
            ! 2 template parsing error: {{ without }} in `{{`
            --- x
            x
            x
        "#]]
        .assert_eq(&formats.map(|format| format!("--- {format}\n{}", show(format, &rows))).concat());
    }

    #[test]
    fn what_may_be_old_says_so_in_json() {
        let rows = [json!({ "ID": "x1" })];
        let format = Format::parse(Some("json"), Age::MayBeOld).unwrap();
        assert_eq!(format.list(&[("ID", "ID")], &[], &rows).unwrap(), "{\"ID\":\"x1\",\"Stale\":true}\n");
        assert_eq!(format.inspect(&rows).unwrap(), "[{\"ID\":\"x1\",\"Stale\":true}]\n");
        assert_eq!(format.object("", &rows[0]).unwrap(), "{\"ID\":\"x1\"}\n", "what was changed is not old");
    }

    #[test]
    fn wrong_field_shows_on_an_example_and_what_depends_on_values_does_not() {
        let example = json!({ "Key": "", "Managers": [] });
        let check = |text: &str| Format::parse(Some(text), Age::Newest).unwrap().check(&example);
        for fits in ["table", "json", "{{.Key}}", "table {{.Key}}", "{{index .Managers 0}} {{len .Key}}"] {
            assert_eq!(check(fits), Ok(()), "{fits}");
        }
        for (text, field) in [("{{.Nope}}", "Nope"), ("{{index .Managers 0}} {{.nope}}", "nope"), ("table {{.X}}", "X")]
        {
            let refused = check(text).unwrap_err();
            let wanted = format!("template: there is no field .{field}: there are Key, Managers");
            assert_eq!((refused.exit, refused.message), (1, wanted), "{text}");
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let format = Format::parse(None, Age::Newest).unwrap();
        assert_eq!(format.object("a\u{1b}[2J\nb", &json!({})).unwrap(), "a\u{fffd}[2J\nb\n");
    }

    #[test]
    fn wrong_field_shows_without_rows_too() {
        assert_eq!(show("{{.X}}", &[]), "! 1 template: there is no field .X: there are ID, Name, N\n");
        assert_eq!((show("{{.N}}", &[]).as_str(), show("table", &[]).as_str()), ("", "ID   NAME\n"));
    }
}
