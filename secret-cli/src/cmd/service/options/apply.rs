//! What shared flags set. Pure.

use std::time::Duration;

use secretd_proto::v1::restart_policy::Condition;
use secretd_proto::v1::service_spec::Mode;
use secretd_proto::v1::update_config::{FailureAction, Order};
use secretd_proto::v1::{
    ContainerSpec, LogConfig, NetworkMode, ReplicatedMode, Resources, RestartPolicy, ServiceSpec, TaskSpec,
    UpdateConfig,
};

use super::{Limits, Policies, Scalars};
use crate::failure::Failure;

/// A duration on the wire.
fn wire(duration: Duration) -> Option<prost_types::Duration> {
    Some(prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    })
}

fn set<T>(to: &mut T, from: Option<T>) {
    if let Some(from) = from {
        *to = from;
    }
}

/// The task of a specification.
pub(in crate::cmd::service) fn task(spec: &mut ServiceSpec) -> &mut TaskSpec {
    spec.task.get_or_insert_default()
}

/// The container of a specification.
pub(in crate::cmd::service) fn container(spec: &mut ServiceSpec) -> &mut ContainerSpec {
    task(spec).container.get_or_insert_default()
}

impl Scalars {
    pub(in crate::cmd::service) fn apply(self, spec: &mut ServiceSpec) -> Result<(), Failure> {
        match (self.replicas, spec.mode) {
            (Some(_), Some(Mode::Global(_))) => {
                return Err(Failure::usage("replicas can only be used with replicated mode (--replicas)"));
            }
            (Some(replicas), _) => spec.mode = Some(Mode::Replicated(ReplicatedMode { replicas })),
            (None, _) => {}
        }
        let task = task(spec);
        set(&mut task.placement.get_or_insert_default().max_replicas_per_node, self.replicas_max_per_node);
        set(&mut task.network, self.network.map(|network| NetworkMode::from(network).into()));
        if self.log_driver.is_some() || !self.log_opts.is_empty() {
            let log = task.log.get_or_insert_default();
            log_config(log, self.log_driver, self.log_opts);
        }
        let container = task.container.get_or_insert_default();
        set(&mut container.user, self.user);
        set(&mut container.workdir, self.workdir);
        set(&mut container.hostname, self.hostname);
        set(&mut container.entrypoint, self.entrypoint.map(|words| words.0));
        set(&mut container.read_only, self.read_only);
        set(&mut container.init, self.init);
        set(&mut container.tty, self.tty);
        set(&mut container.no_new_privileges, self.no_new_privileges);
        set(&mut container.stop_signal, self.stop_signal);
        set(&mut container.oom_score_adj, self.oom_score_adj);
        if let Some(grace) = self.stop_grace_period {
            container.stop_grace_period = wire(grace);
        }
        for name in self.cap_add {
            toggle(&mut container.cap_add, &mut container.cap_drop, &name);
        }
        for name in self.cap_drop {
            toggle(&mut container.cap_drop, &mut container.cap_add, &name);
        }
        Ok(())
    }
}

/// Another driver starts without the options of the old one.
fn log_config(log: &mut LogConfig, driver: Option<String>, options: Vec<(String, String)>) {
    if let Some(driver) = driver {
        if driver != log.driver {
            log.options.clear();
        }
        log.driver = driver;
    }
    log.options.extend(options);
}

/// Puts a capability into `list`, or only takes it out of `opposite` when it is there, as Docker does.
fn toggle(list: &mut Vec<String>, opposite: &mut Vec<String>, name: &str) {
    let upper = name.to_uppercase();
    let name = if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    let before = opposite.len();
    opposite.retain(|other| *other != name);
    if opposite.len() == before && !list.contains(&name) {
        list.push(name);
    }
}

impl Limits {
    pub(in crate::cmd::service) fn apply(&self, spec: &mut ServiceSpec) {
        let resources: &mut Resources = task(spec).resources.get_or_insert_default();
        set(&mut resources.nano_cpus, self.limit_cpu);
        set(&mut resources.memory_bytes, self.limit_memory);
        set(&mut resources.pids, self.limit_pids);
        set(&mut resources.reserve_nano_cpus, self.reserve_cpu);
        set(&mut resources.reserve_memory_bytes, self.reserve_memory);
    }
}

impl Policies {
    pub(in crate::cmd::service) fn apply(&self, spec: &mut ServiceSpec) {
        let restart: &mut RestartPolicy = task(spec).restart.get_or_insert_default();
        set(&mut restart.condition, self.restart_condition.map(|condition| Condition::from(condition).into()));
        set(&mut restart.max_attempts, self.restart_max_attempts);
        set(&mut restart.delay, self.restart_delay.map(wire));
        set(&mut restart.window, self.restart_window.map(wire));
        // An absent configuration has Docker's defaults, of which zero is not the parallelism.
        let update = spec.update.get_or_insert_with(|| UpdateConfig { parallelism: 1, ..UpdateConfig::default() });
        set(&mut update.parallelism, self.update_parallelism);
        set(&mut update.order, self.update_order.map(|order| Order::from(order).into()));
        set(&mut update.failure_action, self.update_failure_action.map(|action| FailureAction::from(action).into()));
        set(&mut update.delay, self.update_delay.map(wire));
        set(&mut update.monitor, self.update_monitor.map(wire));
    }
}
