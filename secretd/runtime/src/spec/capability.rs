//! Which capabilities a container has (capabilities(7)): Docker's default set, with what a service adds and drops.

use std::collections::BTreeSet;
use std::str::FromStr;

use caps::Capability;

/// Docker's default set.
const DEFAULT: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// What the executor needs to install the filter and take the wanted identity, and then gives up.
const FINISHING: &[&str] = &["CAP_SYS_ADMIN", "CAP_SETPCAP", "CAP_SETUID", "CAP_SETGID"];

/// A name that is no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability `{0}`: see capabilities(7), for example CAP_NET_ADMIN, or ALL")]
pub struct UnknownCapability(pub String);

/// The container's set: an added `ALL` is every one, a dropped `ALL` leaves what is added; dropping wins over adding
/// for a single one only where it is not added by name.
///
/// # Errors
/// When a name is no capability.
pub fn effective(add: &[String], drop: &[String]) -> Result<BTreeSet<String>, UnknownCapability> {
    let (add, drop) = (normalized(add)?, normalized(drop)?);
    let mut set: BTreeSet<String> = DEFAULT.iter().map(|&name| name.to_owned()).collect();
    if add.contains("ALL") {
        set = caps::all().into_iter().map(|capability| capability.to_string()).collect();
    }
    if drop.contains("ALL") {
        set.clear();
    }
    set.retain(|name| !drop.contains(name));
    set.extend(add.into_iter().filter(|name| name != "ALL"));
    Ok(set)
}

/// The set that libcontainer leaves to the executor.
pub fn with_finishing(wanted: &BTreeSet<String>) -> BTreeSet<String> {
    wanted.iter().cloned().chain(FINISHING.iter().map(|&name| name.to_owned())).collect()
}

/// The set as the caps crate has it.
///
/// # Errors
/// When a name is no capability.
pub fn parse(names: &BTreeSet<String>) -> Result<caps::CapsHashSet, UnknownCapability> {
    names.iter().map(|name| Capability::from_str(name).map_err(|_| UnknownCapability(name.clone()))).collect()
}

fn normalized(names: &[String]) -> Result<BTreeSet<String>, UnknownCapability> {
    let one = |name: &String| {
        let upper = name.to_uppercase();
        if upper == "ALL" {
            return Ok(upper);
        }
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        Capability::from_str(&full).map(|_| full).map_err(|_| UnknownCapability(name.clone()))
    };
    names.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> Result<BTreeSet<String>, UnknownCapability> {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        effective(&owned(add), &owned(drop))
    }

    #[test]
    fn default_set_is_dockers() {
        assert_eq!(set(&[], &[]).unwrap().len(), 14);
        assert!(!set(&[], &[]).unwrap().contains("CAP_SYS_ADMIN"));
    }

    #[test]
    fn names_are_added_and_dropped_with_and_without_prefix() {
        assert!(set(&["net_admin"], &[]).unwrap().contains("CAP_NET_ADMIN"));
        assert!(!set(&[], &["CAP_CHOWN"]).unwrap().contains("CAP_CHOWN"));
        assert_eq!(set(&["CHOWN"], &["ALL"]).unwrap(), BTreeSet::from(["CAP_CHOWN".to_owned()]));
        assert!(set(&["ALL"], &["CHOWN"]).unwrap().contains("CAP_SYS_ADMIN"));
        assert!(!set(&["ALL"], &["CHOWN"]).unwrap().contains("CAP_CHOWN"));
    }

    #[test]
    fn unknown_name_is_refused() {
        assert_eq!(set(&["FLY"], &[]), Err(UnknownCapability("FLY".into())));
    }
}
