//! What `service update` makes of a specification. Pure, but for variables that are taken from the environment.

use secretd_proto::v1::{ContainerSpec, Placement, SecretGrant, ServiceSpec};

use super::super::options::apply::{container, task};
use super::{Lists, Update};
use crate::failure::Failure;
use crate::parse::environment;

impl Update {
    /// The specification after the change; `grants` are those of `--secret-add`.
    pub(super) fn changed(self, mut spec: ServiceSpec, grants: Vec<SecretGrant>) -> Result<ServiceSpec, Failure> {
        if self.force {
            task(&mut spec).force_update += 1;
        }
        let container = container(&mut spec);
        container.image = self.image.unwrap_or_else(|| std::mem::take(&mut container.image));
        container.args = self.args.map_or_else(|| std::mem::take(&mut container.args), |words| words.0);
        self.lists.labels(&mut spec);
        self.lists.placement(task(&mut spec).placement.get_or_insert_default());
        self.lists.apply(self::container(&mut spec), grants)?;
        self.scalars.apply(&mut spec)?;
        self.limits.apply(&mut spec);
        self.policies.apply(&mut spec);
        Ok(spec)
    }
}

impl Lists {
    fn labels(&self, spec: &mut ServiceSpec) {
        spec.labels.retain(|key, _| !self.label_rm.contains(key));
        spec.labels.extend(self.label_add.iter().cloned());
    }

    fn placement(&self, placement: &mut Placement) {
        placement.constraints.retain(|rule| !self.constraint_rm.iter().any(|removed| is_same_rule(rule, removed)));
        for rule in &self.constraint_add {
            replace(&mut placement.constraints, rule.clone(), |a, b| is_same_rule(a, b));
        }
        placement.spread.retain(|key| !self.placement_pref_rm.contains(key));
        for key in &self.placement_pref_add {
            replace(&mut placement.spread, key.clone(), |a, b| a == b);
        }
    }

    /// Removals come before additions: a pair of both replaces.
    fn apply(self, container: &mut ContainerSpec, grants: Vec<SecretGrant>) -> Result<(), Failure> {
        container.labels.retain(|key, _| !self.container_label_rm.contains(key));
        container.labels.extend(self.container_label_add);
        container.sysctls.retain(|key, _| !self.sysctl_rm.contains(key));
        container.sysctls.extend(self.sysctl_add);

        container.env.retain(|variable| !self.env_rm.iter().any(|name| environment::name(variable) == name));
        for text in &self.env_add {
            let variable = environment::variable(text, |name| std::env::var(name).ok()).map_err(Failure::usage)?;
            environment::merge(&mut container.env, variable);
        }

        let removed = |grant: &SecretGrant| {
            self.secret_rm.iter().any(|name| *name == grant.secret_name || *name == grant.secret_id)
        };
        container.secrets.retain(|grant| !removed(grant));
        for grant in grants {
            replace(&mut container.secrets, grant, |a, b| a.target == b.target);
        }

        container.mounts.retain(|mount| !self.mount_rm.contains(&mount.target));
        for mount in self.mount_add {
            replace(&mut container.mounts, mount, |a, b| a.target == b.target);
        }
        container.ulimits.retain(|limit| !self.ulimit_rm.contains(&limit.name));
        for limit in self.ulimit_add {
            replace(&mut container.ulimits, limit, |a, b| a.name == b.name);
        }
        container.groups.retain(|group| !self.group_rm.contains(group));
        for group in self.group_add {
            replace(&mut container.groups, group, |a, b| a == b);
        }
        container.hosts.retain(|line| !self.host_rm.iter().any(|removed| is_host(line, removed)));
        for line in self.host_add {
            replace(&mut container.hosts, line, |a, b| a == b);
        }
        Ok(())
    }
}

/// Puts an item in place of its like, or at the end.
fn replace<T>(list: &mut Vec<T>, item: T, like: impl Fn(&T, &T) -> bool) {
    match list.iter_mut().find(|have| like(have, &item)) {
        Some(have) => *have = item,
        None => list.push(item),
    }
}

/// Rules are written with spaces, or without.
fn is_same_rule(a: &str, b: &str) -> bool {
    let bare = |rule: &str| rule.split_whitespace().collect::<String>();
    bare(a) == bare(b)
}

/// Whether `NAME` or `NAME:ADDRESS` means a line `ADDRESS NAME`.
fn is_host(line: &str, removed: &str) -> bool {
    let Some((address, name)) = line.split_once(' ') else { return false };
    match removed.split_once(':') {
        Some((wanted, at)) => wanted == name && at == address,
        None => removed == name,
    }
}

#[cfg(test)]
mod tests;
