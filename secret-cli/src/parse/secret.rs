//! `--secret` and `--secret-add`: `NAME`, or `source=NAME,target=,uid=,gid=,mode=`.

use std::str::FromStr;

use super::csv;

/// A secret that a service asks for, before its name is resolved to an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretRequest {
    /// What the user calls it.
    pub(crate) source: String,
    /// A file name, a path below /run/secrets, or an absolute path.
    pub(crate) target: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Permission bits.
    pub(crate) mode: u32,
}

impl FromStr for SecretRequest {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fields = csv::fields(text)?;
        let mut request = Self { source: String::new(), target: String::new(), uid: 0, gid: 0, mode: 0o444 };
        if let [name] = fields.as_slice()
            && !name.contains('=')
        {
            request.source.clone_from(name);
        } else {
            for field in &fields {
                request.set(field)?;
            }
        }
        if request.source.is_empty() {
            return Err("source is required".to_owned());
        }
        if request.target.is_empty() {
            request.target.clone_from(&request.source);
        }
        Ok(request)
    }
}

impl SecretRequest {
    fn set(&mut self, field: &str) -> Result<(), String> {
        let (key, value) =
            field.split_once('=').ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
        match key.to_lowercase().as_str() {
            "source" | "src" => value.clone_into(&mut self.source),
            "target" => value.clone_into(&mut self.target),
            "uid" => self.uid = id(value).ok_or_else(|| format!("unknown uid {value}: give a number"))?,
            "gid" => self.gid = id(value).ok_or_else(|| format!("unknown gid {value}: give a number"))?,
            "mode" => self.mode = mode(value)?,
            _ => return Err(format!("invalid field in secret request: {key}")),
        }
        Ok(())
    }
}

/// A user or group: their names are the image's, which nobody here knows.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

/// Always octal, with or without `0` or `0o`: a `444` that means something else than `0444` is a trap.
fn mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let bits = if digits.starts_with('+') { None } else { u32::from_str_radix(digits, 8).ok() };
    bits.filter(|bits| *bits <= 0o777)
        .ok_or_else(|| format!("invalid mode specified: {text}: give octal permission bits up to 0777"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_short_or_long() {
        let show = |text: &str| match text.parse::<SecretRequest>() {
            Ok(SecretRequest { source, target, uid, gid, mode }) => {
                format!("{text}: {source} at {target}, {uid}:{gid}, {mode:04o}\n")
            }
            Err(error) => format!("{text}: ! {error}\n"),
        };
        let texts = [
            "pw",
            "source=tls-key,target=alias,uid=33,gid=33,mode=0400",
            "SRC=a,mode=444",
            "source=a,mode=0o640",
            "source=a,target=/etc/app/pw",
            "\"source=a,b\",target=c",
            "",
            "target=x",
            "source=a,uid=www-data",
            "source=a,gid=-1",
            "source=a,mode=9",
            "source=a,mode=1777",
            "source=a,colour=red",
            "source=a,b",
        ];
        expect_test::expect![[r#"
            pw: pw at pw, 0:0, 0444
            source=tls-key,target=alias,uid=33,gid=33,mode=0400: tls-key at alias, 33:33, 0400
            SRC=a,mode=444: a at a, 0:0, 0444
            source=a,mode=0o640: a at a, 0:0, 0640
            source=a,target=/etc/app/pw: a at /etc/app/pw, 0:0, 0444
            "source=a,b",target=c: a,b at c, 0:0, 0444
            : ! source is required
            target=x: ! source is required
            source=a,uid=www-data: ! unknown uid www-data: give a number
            source=a,gid=-1: ! unknown gid -1: give a number
            source=a,mode=9: ! invalid mode specified: 9: give octal permission bits up to 0777
            source=a,mode=1777: ! invalid mode specified: 1777: give octal permission bits up to 0777
            source=a,colour=red: ! invalid field in secret request: colour
            source=a,b: ! invalid field 'b' must be a key=value pair
        "#]]
        .assert_eq(&texts.map(show).concat());
    }
}
