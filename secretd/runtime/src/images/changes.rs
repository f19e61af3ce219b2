//! Dockerfile instructions that an import applies to the image it makes. Pure.

use serde_json::{Map, Value, json};

/// An instruction that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid change `{line}`: {reason}")]
pub(super) struct ChangeError {
    line: String,
    reason: &'static str,
}

/// The `config` object that the instructions make, in their order.
pub(super) fn apply(lines: &[String]) -> Result<Value, ChangeError> {
    let mut config = Map::new();
    for line in lines {
        let refused = |reason| ChangeError { line: line.clone(), reason };
        let (instruction, rest) =
            line.trim().split_once(char::is_whitespace).ok_or_else(|| refused("it has no argument"))?;
        let rest = rest.trim();
        match instruction.to_uppercase().as_str() {
            "CMD" => drop(config.insert("Cmd".into(), command(rest).map_err(refused)?)),
            "ENTRYPOINT" => drop(config.insert("Entrypoint".into(), command(rest).map_err(refused)?)),
            "ENV" => environment(&mut config, rest).map_err(refused)?,
            "LABEL" => {
                for (key, value) in pairs(rest).map_err(refused)? {
                    set(&mut config, "Labels", key, json!(value));
                }
            }
            "EXPOSE" => {
                for port in rest.split_whitespace() {
                    let port = if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") };
                    set(&mut config, "ExposedPorts", port, json!({}));
                }
            }
            "VOLUME" => {
                let list = if rest.starts_with('[') { list(rest).map_err(refused)? } else { words(rest) };
                for path in list {
                    set(&mut config, "Volumes", path, json!({}));
                }
            }
            "USER" => drop(config.insert("User".into(), json!(rest))),
            "STOPSIGNAL" => drop(config.insert("StopSignal".into(), json!(rest))),
            "WORKDIR" if rest.starts_with('/') => drop(config.insert("WorkingDir".into(), json!(rest))),
            "WORKDIR" => return Err(refused("give an absolute path")),
            _ => {
                return Err(refused(
                    "known are CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR",
                ));
            }
        }
    }
    Ok(Value::Object(config))
}

/// Sets a name in one of the configuration's objects.
fn set(config: &mut Map<String, Value>, object: &str, name: String, value: Value) {
    let entry = config.entry(object.to_owned()).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(map) = entry {
        map.insert(name, value);
    }
}

/// The exec form is a JSON list; anything else is a line for the shell.
fn command(text: &str) -> Result<Value, &'static str> {
    if text.starts_with('[') { Ok(json!(list(text)?)) } else { Ok(json!(["/bin/sh", "-c", text])) }
}

fn list(text: &str) -> Result<Vec<String>, &'static str> {
    serde_json::from_str(text).map_err(|_| "it begins like a JSON list of strings and is none")
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// `K=V L="W X"`, or the old form `K the rest`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let (key, value) = text.split_once(char::is_whitespace).ok_or("give KEY=VALUE")?;
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    let mut pairs = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or("give KEY=VALUE")?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("a quotation mark is missing")?,
            None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
        };
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err("give KEY=VALUE");
        }
        pairs.push((key.to_owned(), value.to_owned()));
        rest = after.trim_start();
    }
    Ok(pairs)
}

fn environment(config: &mut Map<String, Value>, text: &str) -> Result<(), &'static str> {
    let mut env: Vec<String> =
        config.get("Env").and_then(|env| serde_json::from_value(env.clone()).ok()).unwrap_or_default();
    for (key, value) in pairs(text)? {
        env.retain(|entry| entry.split('=').next() != Some(&key));
        env.push(format!("{key}={value}"));
    }
    config.insert("Env".into(), json!(env));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Result<Value, ChangeError> {
        apply(&lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn instructions_make_the_configuration() {
        let config = of(&[
            "CMD [\"postgres\", \"-c\"]",
            "entrypoint run me",
            "ENV A=1 B=\"two words\"",
            "ENV A=3",
            "ENV C the rest",
            "EXPOSE 80 53/udp",
            "VOLUME /data",
            "VOLUME [\"/more\"]",
            "WORKDIR /w",
            "USER app",
            "LABEL k=v",
            "STOPSIGNAL SIGINT",
        ]);

        let expected = json!({
            "Cmd": ["postgres", "-c"], "Entrypoint": ["/bin/sh", "-c", "run me"],
            "Env": ["B=two words", "A=3", "C=the rest"], "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
            "Volumes": {"/data": {}, "/more": {}}, "WorkingDir": "/w", "User": "app", "Labels": {"k": "v"},
            "StopSignal": "SIGINT",
        });
        assert_eq!(config, Ok(expected));
    }

    #[test]
    fn what_cannot_be_applied_is_refused() {
        for line in ["RUN ls", "CMD", "CMD [1]", "WORKDIR w", "ENV A", "LABEL k=\"v"] {
            assert!(of(&[line]).is_err(), "{line}");
        }
    }
}
