//! Who a container's process runs as: names looked up in the container's own /etc/passwd and /etc/group. Pure.

use crate::spec::Identity;

/// Why a user or group is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdentityError {
    /// No such user in the image.
    #[error("unable to find user {0}: no matching entries in the image's passwd file; give a uid")]
    User(String),
    /// No such group in the image.
    #[error("unable to find group {0}: no matching entries in the image's group file; give a gid")]
    Group(String),
}

/// A line of passwd(5).
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// A line of group(5).
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// The identity of `user` (`name` or uid, optionally `:group`; empty for root) with the supplementary `groups`.
///
/// Without a group, a known user has their own group and those that name them; a uid that is not known has group 0, as
/// in Docker.
pub(crate) fn resolve(user: &str, groups: &[String], passwd: &str, group: &str) -> Result<Identity, IdentityError> {
    let (user, named_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let known = users(passwd).find(|one| one.name == user || Ok(one.uid) == user.parse());
    let (uid, own_gid, home) = match (&known, user.parse::<u32>()) {
        (Some(one), _) => (one.uid, one.gid, one.home),
        (None, Ok(uid)) => (uid, 0, "/"),
        (None, Err(_)) => return Err(IdentityError::User(user.to_owned())),
    };
    let gid = match named_group {
        Some(name) => gid_of(name, group)?,
        None => own_gid,
    };
    let mut supplementary = Vec::new();
    if named_group.is_none()
        && let Some(known) = &known
    {
        let mine = self::groups(group).filter(|one| one.members.split(',').any(|member| member == known.name));
        supplementary.extend(mine.map(|one| one.gid));
    }
    for name in groups {
        supplementary.push(gid_of(name, group)?);
    }
    supplementary.sort_unstable();
    supplementary.dedup();
    let home = if home.is_empty() { "/" } else { home };
    Ok(Identity { uid, gid, groups: supplementary, home: home.to_owned() })
}

fn gid_of(name: &str, group: &str) -> Result<u32, IdentityError> {
    let known = groups(group).find(|one| one.name == name).map(|one| one.gid);
    known.or_else(|| name.parse().ok()).ok_or_else(|| IdentityError::Group(name.to_owned()))
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let _comment = fields.next()?;
        Some(User { name, uid, gid, home: fields.next().unwrap_or_default() })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let gid = fields.next()?.parse().ok()?;
        Some(Group { name, gid, members: fields.next().unwrap_or_default() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/var/www:/bin/false\n\nbroken\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:\naudio:x:63:games,www\nvideo:x:44:www\n";

    fn of(user: &str, groups: &[&str]) -> Result<(u32, u32, Vec<u32>, String), IdentityError> {
        let groups: Vec<String> = groups.iter().map(|&name| name.to_owned()).collect();
        resolve(user, &groups, PASSWD, GROUP).map(|one| (one.uid, one.gid, one.groups, one.home))
    }

    #[test]
    fn names_and_numbers_mean_what_they_mean_in_docker() {
        assert_eq!(of("", &[]), Ok((0, 0, vec![], "/root".into())));
        assert_eq!(of("www", &[]), Ok((33, 33, vec![44, 63], "/var/www".into())));
        assert_eq!(of("33", &[]), Ok((33, 33, vec![44, 63], "/var/www".into())));
        assert_eq!(of("www:root", &["audio"]), Ok((33, 0, vec![63], "/var/www".into())));
        assert_eq!(of("1234", &[]), Ok((1234, 0, vec![], "/".into())));
        assert_eq!(of("1234:5678", &["99"]), Ok((1234, 5678, vec![99], "/".into())));
    }

    #[test]
    fn unknown_names_are_refused() {
        assert_eq!(of("nobody", &[]), Err(IdentityError::User("nobody".into())));
        assert_eq!(of("www:nogroup", &[]), Err(IdentityError::Group("nogroup".into())));
        assert_eq!(of("www", &["nogroup"]), Err(IdentityError::Group("nogroup".into())));
    }
}
