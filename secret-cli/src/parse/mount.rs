//! `--mount` and `--mount-add`: `type=volume|bind|tmpfs,source=,target=,...`.

use secretd_proto::v1::Mount;
use secretd_proto::v1::mount::Kind;

use super::{csv, key_value, number};

/// What `--help` says of it.
pub(crate) const HELP: &str = "\
Mount, as keys and values with commas between them:
  type=volume|bind|tmpfs  [default: volume]
  source=SOURCE           name of a volume, or a path of the node; a volume without a name goes with its task (or: src)
  target=PATH             path in the container (or: dst, destination)
  readonly                (or: ro)
  volume-nocopy           leave a new volume empty, without the image's files
  volume-label=KEY=VALUE  label of a new volume
  bind-propagation=MODE   rprivate, private, rslave, slave, rshared, shared
  tmpfs-size=BYTES        with k, m or g
  tmpfs-mode=MODE         octal";

/// A mount from its long form.
pub(crate) fn parse(text: &str) -> Result<Mount, String> {
    let mut mount = Mount { kind: Kind::Volume.into(), ..Mount::default() };
    let mut options = Vec::new();
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("readonly" | "ro", value) => mount.read_only = boolean(&key, value.unwrap_or("true"))?,
            ("volume-nocopy", value) => {
                mount.volume_nocopy = boolean(&key, value.unwrap_or("true"))?;
                options.push(("volume", key));
            }
            (_, None) => return Err(format!("invalid field '{field}' must be a key=value pair")),
            (key, Some(value)) => {
                set(&mut mount, &field, key, value)?;
                let prefix = ["volume", "bind", "tmpfs"].into_iter().find(|kind| key.starts_with(&format!("{kind}-")));
                options.extend(prefix.map(|prefix| (prefix, key.to_owned())));
            }
        }
    }
    check(&mount, &options)?;
    Ok(mount)
}

fn set(mount: &mut Mount, field: &str, key: &str, value: &str) -> Result<(), String> {
    match key {
        "type" => {
            let kind = match value.to_lowercase().as_str() {
                "volume" => Kind::Volume,
                "bind" => Kind::Bind,
                "tmpfs" => Kind::Tmpfs,
                _ => return Err(format!("invalid mount type: {value}: there are volume, bind and tmpfs")),
            };
            mount.kind = kind.into();
        }
        "source" | "src" => value.clone_into(&mut mount.source),
        "target" | "dst" | "destination" => value.clone_into(&mut mount.target),
        "bind-propagation" => mount.bind_propagation = value.to_lowercase(),
        "volume-label" => {
            let (key, value) = key_value::label(value)?;
            mount.volume_labels.insert(key, value);
        }
        "tmpfs-size" => {
            mount.tmpfs_size =
                u64::try_from(number::bytes(value).map_err(|error| format!("tmpfs-size: {error}"))?).unwrap_or(0);
        }
        "tmpfs-mode" => {
            mount.tmpfs_mode = u32::from_str_radix(value.trim_start_matches("0o"), 8)
                .map_err(|_| format!("invalid value for tmpfs-mode: {value}: give an octal number"))?;
        }
        _ => return Err(format!("unknown option '{key}' in '{field}'")),
    }
    Ok(())
}

fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(format!("invalid value for {key}: {value}: give true or false")),
    }
}

fn check(mount: &Mount, options: &[(&str, String)]) -> Result<(), String> {
    let kind = match mount.kind() {
        Kind::Volume => "volume",
        Kind::Bind => "bind",
        Kind::Tmpfs => "tmpfs",
    };
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    if kind == "bind" && mount.source.is_empty() {
        return Err("source is required when specifying bind mounts".to_owned());
    }
    if kind == "tmpfs" && !mount.source.is_empty() {
        return Err("cannot use source with mount type 'tmpfs'".to_owned());
    }
    match options.iter().find(|(prefix, _)| *prefix != kind) {
        Some((prefix, _)) => Err(format!("cannot mix '{prefix}-*' options with mount type '{kind}'")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_have_dockers_keys() {
        let show = |text: &str| match parse(text) {
            Ok(mount) => {
                let Mount {
                    source, target, read_only, tmpfs_size, tmpfs_mode, bind_propagation, volume_nocopy, ..
                } = &mount;
                let labels = &mount.volume_labels;
                let kind = mount.kind();
                format!(
                    "{text}: {kind:?} {source:?} {target} ro={read_only} {tmpfs_size} {tmpfs_mode:o} {bind_propagation:?} {volume_nocopy} {labels:?}\n"
                )
            }
            Err(error) => format!("{text}: ! {error}\n"),
        };
        let texts = [
            "source=data,target=/var/lib/x",
            "type=bind,src=/srv,dst=/srv,readonly,bind-propagation=rslave",
            "type=tmpfs,destination=/tmp,tmpfs-size=64m,tmpfs-mode=1770",
            "src=v,target=/v,volume-nocopy,volume-label=a=b,ro=false",
            "type=bind,target=/x",
            "source=x",
            "type=npipe,target=/x",
            "target=/x,bind-propagation=slave",
            "target=/x,colour=red",
            "target",
        ];
        expect_test::expect![[r#"
            source=data,target=/var/lib/x: Volume "data" /var/lib/x ro=false 0 0 "" false {}
            type=bind,src=/srv,dst=/srv,readonly,bind-propagation=rslave: Bind "/srv" /srv ro=true 0 0 "rslave" false {}
            type=tmpfs,destination=/tmp,tmpfs-size=64m,tmpfs-mode=1770: Tmpfs "" /tmp ro=false 67108864 1770 "" false {}
            src=v,target=/v,volume-nocopy,volume-label=a=b,ro=false: Volume "v" /v ro=false 0 0 "" true {"a": "b"}
            type=bind,target=/x: ! source is required when specifying bind mounts
            source=x: ! target is required
            type=npipe,target=/x: ! invalid mount type: npipe: there are volume, bind and tmpfs
            target=/x,bind-propagation=slave: ! cannot mix 'bind-*' options with mount type 'volume'
            target=/x,colour=red: ! unknown option 'colour' in 'colour=red'
            target: ! invalid field 'target' must be a key=value pair
        "#]]
        .assert_eq(&texts.map(show).concat());
    }
}
