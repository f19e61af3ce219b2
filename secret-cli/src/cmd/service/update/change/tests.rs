//! What each flag of `service update` makes of a specification.

use clap::Parser;
use secretd_proto::v1::{ContainerSpec, Mount, TaskSpec, Ulimit};

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    update: Update,
}

fn grant(name: &str, target: &str) -> SecretGrant {
    SecretGrant { secret_name: name.to_owned(), target: target.to_owned(), ..SecretGrant::default() }
}

fn before() -> ServiceSpec {
    let text = |text: &str| text.to_owned();
    let container = ContainerSpec {
        image: text("app:1"),
        args: vec![text("old")],
        env: vec![text("A=1"), text("B=2")],
        labels: [(text("k"), text("v"))].into(),
        secrets: vec![grant("pw", "pw"), grant("tls", "alias")],
        mounts: vec![Mount { target: text("/data"), ..Mount::default() }],
        ulimits: vec![Ulimit { name: text("nofile"), soft: 1, hard: 1 }],
        groups: vec![text("audio")],
        hosts: vec![text("10.0.0.1 db")],
        sysctls: [(text("net.a"), text("1"))].into(),
        cap_add: vec![text("CAP_NET_ADMIN")],
        ..ContainerSpec::default()
    };
    let task = TaskSpec { container: Some(container), ..TaskSpec::default() };
    ServiceSpec { labels: [(text("tier"), text("web"))].into(), task: Some(task), ..ServiceSpec::default() }
}

fn update(flags: &str, grants: Vec<SecretGrant>) -> (ServiceSpec, ContainerSpec) {
    let words = ["update"].into_iter().chain(flags.split_whitespace()).chain(["app"]);
    let mut spec = Line::try_parse_from(words).unwrap().update.changed(before(), grants).unwrap();
    let container = container(&mut spec).clone();
    (spec, container)
}

#[test]
fn secrets_are_removed_by_name_and_replaced_by_target() {
    let (_, container) = update("--secret-rm tls --secret-add new", vec![grant("new", "pw"), grant("more", "more")]);

    let shown: Vec<_> =
        container.secrets.iter().map(|grant| format!("{}:{}", grant.secret_name, grant.target)).collect();
    assert_eq!(shown, ["new:pw", "more:more"]);
}

#[test]
fn lists_lose_and_gain() {
    let (spec, container) = update(
        "--env-rm A --env-add B=3 --env-add C=4 --label-rm tier --label-add a=b --container-label-rm k \
         --container-label-add c=d --mount-rm /data --mount-add source=v,target=/v --ulimit-rm nofile --ulimit-add core=0 \
         --group-rm audio --group-add video --host-rm db --host-add web:10.0.0.2 --sysctl-rm net.a --sysctl-add net.b=2",
        vec![],
    );

    assert_eq!(container.env, ["B=3", "C=4"]);
    assert_eq!(spec.labels, [("a".to_owned(), "b".to_owned())].into());
    assert_eq!(container.labels, [("c".to_owned(), "d".to_owned())].into());
    assert_eq!(container.mounts.iter().map(|mount| mount.target.as_str()).collect::<Vec<_>>(), ["/v"]);
    assert_eq!(container.ulimits.iter().map(|limit| limit.name.as_str()).collect::<Vec<_>>(), ["core"]);
    assert_eq!((container.groups, container.hosts), (vec!["video".to_owned()], vec!["10.0.0.2 web".to_owned()]));
    assert_eq!(container.sysctls, [("net.b".to_owned(), "2".to_owned())].into());
}

#[test]
fn values_replace_what_was_there() {
    let flags =
        "--image app:2 --args a --entrypoint sh --read-only --init=false --force --cap-drop net_admin --limit-memory 0";
    let (spec, container) = update(flags, vec![]);

    assert_eq!(
        (container.image.as_str(), container.args, container.entrypoint),
        ("app:2", vec!["a".to_owned()], vec!["sh".to_owned()])
    );
    assert!(container.read_only && !container.init);
    assert!(container.cap_add.is_empty() && container.cap_drop.is_empty(), "a drop takes an addition back");
    assert_eq!(spec.task.unwrap().force_update, 1);
}

#[test]
fn what_is_not_named_stays() {
    let (spec, container) = update("--replicas 4", vec![]);
    let mut unchanged = before();

    assert_eq!(container, *self::container(&mut unchanged));
    assert_eq!(
        (spec.labels, crate::view::service::replicas(&ServiceSpec { mode: spec.mode, ..ServiceSpec::default() })),
        (unchanged.labels, Some(4))
    );
}
