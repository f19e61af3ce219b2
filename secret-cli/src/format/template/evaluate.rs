//! A template on a value.

use serde_json::Value;

use super::{Command, EvaluateError, Function, Operand, Piece, Pipeline};

/// The text of all pieces.
pub(super) fn pieces(pieces: &[Piece], value: &Value) -> Result<String, EvaluateError> {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Action(action) => out.push_str(&show(&pipeline(action, value)?)),
        }
    }
    Ok(out)
}

/// A value as text stands in a line.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn pipeline(Pipeline(commands): &Pipeline, value: &Value) -> Result<Value, EvaluateError> {
    let mut result = None;
    for command in commands {
        result = Some(match command {
            Command::Operand(operand) => self::operand(operand, value)?,
            Command::Call { function, arguments } => {
                let mut values = arguments.iter().map(|of| operand(of, value)).collect::<Result<Vec<_>, _>>()?;
                values.extend(result);
                call(*function, &values)?
            }
        });
    }
    Ok(result.unwrap_or_default())
}

fn operand(operand: &Operand, value: &Value) -> Result<Value, EvaluateError> {
    match operand {
        Operand::Literal(literal) => Ok(literal.clone()),
        Operand::Parenthesized(inner) => pipeline(inner, value),
        Operand::Field(path) => path.iter().try_fold(value, field).cloned(),
    }
}

fn field<'a>(value: &'a Value, name: &String) -> Result<&'a Value, EvaluateError> {
    let within = match value {
        Value::Object(map) => {
            return map.get(name).ok_or_else(|| EvaluateError::NoField {
                field: name.clone(),
                known: map.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
            });
        }
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
    };
    Err(EvaluateError::NoFields { field: name.clone(), within })
}

fn call(function: Function, arguments: &[Value]) -> Result<Value, EvaluateError> {
    let wrong = |wanted| EvaluateError::Arguments { function: function.name(), wanted };
    let text = || match arguments {
        [value] => Ok(show(value)),
        _ => Err(wrong("one text")),
    };
    Ok(match function {
        Function::Json => match arguments {
            [value] => value.to_string().into(),
            _ => return Err(wrong("one value")),
        },
        Function::Println => arguments.iter().map(show).collect::<Vec<_>>().join(" ").into(),
        Function::Lower => text()?.to_lowercase().into(),
        Function::Upper => text()?.to_uppercase().into(),
        Function::Title => title(&text()?).into(),
        Function::Split => match arguments {
            [Value::String(text), Value::String(separator)] => {
                text.split(separator.as_str()).collect::<Vec<_>>().into()
            }
            _ => return Err(wrong("a text and a separator")),
        },
        Function::Join => match arguments {
            [Value::Array(items), Value::String(separator)] => {
                items.iter().map(show).collect::<Vec<_>>().join(separator).into()
            }
            _ => return Err(wrong("a list and a separator")),
        },
        Function::Pad => match arguments {
            [text, before, after] => {
                let width = |count: &Value| count.as_u64().and_then(|count| usize::try_from(count).ok());
                let (Some(before), Some(after)) = (width(before), width(after)) else {
                    return Err(wrong("a text and two numbers of blanks"));
                };
                format!("{}{}{}", " ".repeat(before.min(999)), show(text), " ".repeat(after.min(999))).into()
            }
            _ => return Err(wrong("a text and two numbers of blanks")),
        },
        Function::Truncate => match arguments {
            [text, Value::Number(length)] => {
                let length = length.as_u64().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
                show(text).chars().take(length).collect::<String>().into()
            }
            _ => return Err(wrong("a text and a length")),
        },
        Function::Len => match arguments {
            [Value::Array(items)] => items.len().into(),
            [Value::Object(map)] => map.len().into(),
            [Value::String(text)] => text.len().into(),
            _ => return Err(wrong("one list, map or text")),
        },
        Function::Index => return index(arguments),
    })
}

fn index(arguments: &[Value]) -> Result<Value, EvaluateError> {
    let [value, keys @ ..] = arguments else {
        return Err(EvaluateError::Arguments { function: "index", wanted: "a list or map and its keys" });
    };
    let mut at = value;
    for key in keys {
        let found = match (at, key) {
            (Value::Object(map), Value::String(key)) => map.get(key),
            (Value::Array(items), Value::Number(number)) => {
                number.as_u64().and_then(|number| items.get(usize::try_from(number).ok()?))
            }
            (
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_),
                _,
            ) => None,
        };
        at = found.ok_or_else(|| EvaluateError::Index(show(key)))?;
    }
    Ok(at.clone())
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut begins = true;
    for character in text.chars() {
        if begins {
            out.extend(character.to_uppercase());
        } else {
            out.push(character);
        }
        begins = character.is_whitespace();
    }
    out
}
