//! Templates as Docker has them: text with `{{...}}` in between, evaluated on a JSON value. Pure.
//!
//! An action is a pipeline of commands: `.Field.Sub`, a function with arguments, a literal, or a pipeline in
//! parentheses. Deliberately absent: variables, ranges and conditions, for which `--format json` and a JSON tool serve.

mod evaluate;
mod parse;

use serde_json::Value;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Action(Pipeline),
}

/// Commands, each of which gets the result of the one before as its last argument.
#[derive(Debug, Clone, PartialEq)]
struct Pipeline(Vec<Command>);

#[derive(Debug, Clone, PartialEq)]
enum Command {
    Operand(Operand),
    Call { function: Function, arguments: Vec<Operand> },
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    /// Empty for the whole value.
    Field(Vec<String>),
    Literal(Value),
    Parenthesized(Pipeline),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Index,
    Join,
    Json,
    Len,
    Lower,
    Pad,
    Println,
    Split,
    Title,
    Truncate,
    Upper,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseTemplateError {
    #[error("template parsing error: {{{{ without }}}} in `{0}`")]
    Unclosed(String),
    #[error("template parsing error: a value is missing")]
    Missing,
    #[error("template parsing error: unexpected `{0}`")]
    Unexpected(String),
    #[error("template parsing error: a text without its closing quote: {0}")]
    Quote(String),
    #[error("template parsing error: function \"{0}\" not defined: there are {known}", known = known())]
    Function(String),
}

/// Why a template does not fit a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EvaluateError {
    #[error("template: there is no field .{field}: there are {known}")]
    NoField { field: String, known: String },
    #[error("template: .{field} is looked for in {within}, which has no fields")]
    NoFields { field: String, within: &'static str },
    #[error("template: {function} takes {wanted}")]
    Arguments { function: &'static str, wanted: &'static str },
    #[error("template: index {0} is not there")]
    Index(String),
}

impl Template {
    /// Parses a template; `\t` and `\n` in the text are a tab and a new line, as in Docker.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseTemplateError> {
        parse::template(text).map(Self)
    }

    /// The text for a value.
    pub(crate) fn evaluate(&self, value: &Value) -> Result<String, EvaluateError> {
        evaluate::pieces(&self.0, value)
    }

    /// Whether it fits values with the fields of `example`, however long their lists are.
    pub(crate) fn check(&self, example: &Value) -> Result<(), EvaluateError> {
        let checked = self.0.iter().map(|piece| evaluate::pieces(std::slice::from_ref(piece), example));
        let mut faults = checked.filter_map(Result::err);
        faults.find(|fault| !matches!(fault, EvaluateError::Index(_))).map_or(Ok(()), Err)
    }
}

impl Function {
    const ALL: [(&'static str, Self); 11] = [
        ("index", Self::Index),
        ("join", Self::Join),
        ("json", Self::Json),
        ("len", Self::Len),
        ("lower", Self::Lower),
        ("pad", Self::Pad),
        ("println", Self::Println),
        ("split", Self::Split),
        ("title", Self::Title),
        ("truncate", Self::Truncate),
        ("upper", Self::Upper),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }
}

fn known() -> String {
    Function::ALL.map(|(name, _)| name).join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn show(template: &str) -> String {
        let value = json!({
            "ID": "abc", "Name": "my app", "N": 2, "Spec": { "Labels": { "env": "prod", "a.b": "c" } },
            "List": ["x", "y"], "None": null, "Yes": true
        });
        match Template::parse(template) {
            Ok(template) => template.evaluate(&value).unwrap_or_else(|error| format!("! {error}")),
            Err(error) => format!("! {error}"),
        }
    }

    #[test]
    fn templates_give_what_docker_gives() {
        let table = [
            ("plain", "plain"),
            ("{{.ID}}: {{ .Name }}", "abc: my app"),
            ("{{.N}} {{.Yes}}", "2 true"),
            ("{{.Spec.Labels.env}}", "prod"),
            ("{{index .Spec.Labels \"a.b\"}}", "c"),
            ("{{index .List 1}}", "y"),
            ("{{json .Spec.Labels}}", r#"{"env":"prod","a.b":"c"}"#),
            ("{{upper .Name}} {{.ID | upper | lower}}", "MY APP abc"),
            ("{{title .Name}}", "My App"),
            ("{{join .List \", \"}}", "x, y"),
            ("{{join (split .Name \" \") \"-\"}}", "my-app"),
            ("{{pad .ID 1 2}}|", " abc  |"),
            ("{{truncate .Name 4}}", "my a"),
            ("{{len .List}}", "2"),
            ("{{.ID}}\\t{{.N}}", "abc\t2"),
            ("{{.ID -}}   x", "abcx"),
            ("{{.None}}", "<no value>"),
        ];
        for (template, wanted) in table {
            assert_eq!(show(template), wanted, "{template}");
        }
    }

    #[test]
    fn faults_name_what_is_wrong() {
        let templates = [
            "{{.ID",
            "{{}}",
            "{{nope .ID}}",
            "{{.ID | }}",
            "{{\"x}}",
            "{{.Nope}}",
            "{{.ID.x}}",
            "{{upper}}",
            "{{index .List 7}}",
        ];
        let shown = templates.map(|template| format!("{template}: {}\n", show(template))).concat();

        expect_test::expect![[r#"
            {{.ID: ! template parsing error: {{ without }} in `{{.ID`
            {{}}: ! template parsing error: a value is missing
            {{nope .ID}}: ! template parsing error: function "nope" not defined: there are index, join, json, len, lower, pad, println, split, title, truncate, upper
            {{.ID | }}: ! template parsing error: a value is missing
            {{"x}}: ! template parsing error: a text without its closing quote: "x
            {{.Nope}}: ! template: there is no field .Nope: there are ID, Name, N, Spec, List, None, Yes
            {{.ID.x}}: ! template: .x is looked for in a text, which has no fields
            {{upper}}: ! template: upper takes one text
            {{index .List 7}}: ! template: index 7 is not there
        "#]]
        .assert_eq(&shown);
    }
}
