//! `sctl info`

use clap::Args;
use secretd_proto::v1::{ClusterSpec, GetInfoRequest, GetInfoResponse, ListImagesRequest, SecretsStatus};
use serde_json::{Value, json};

use super::Context;
use super::inspection::ShortFormat;
use crate::failure::Failure;
use crate::parse::duration;
use crate::{human, output};

#[derive(Debug, Args)]
pub(crate) struct Info {
    #[command(flatten)]
    format: ShortFormat,
}

pub(crate) async fn run(context: &Context, args: &Info) -> Result<u8, Failure> {
    let mut local = context.host.local().await?;
    let info = local.get_info(GetInfoRequest {}).await?.into_inner();
    let images = context.host.images().await?.list(ListImagesRequest {}).await?.into_inner().images.len();
    let format = args.format.of(context)?;
    output::bytes(format.object(&plain(&info, images), &object(&info, images))?.as_bytes())?;
    for warning in &info.warnings {
        output::note(&format!("WARNING: {warning}"));
    }
    Ok(0)
}

fn object(info: &GetInfoResponse, images: usize) -> Value {
    let node = info.node.clone().unwrap_or_default();
    let secrets = node.secrets.unwrap_or_default();
    json!({
        "ServerVersion": info.server_version,
        "Name": node.hostname,
        "OSType": node.os,
        "Architecture": node.architecture,
        "KernelVersion": node.kernel,
        "CgroupVersion": node.cgroup,
        "NCPU": node.nano_cpus / 1_000_000_000,
        "MemTotal": node.memory_bytes,
        "DataDir": info.data_dir,
        "RunDir": info.run_dir,
        "Images": images,
        "Cluster": {
            "LocalNodeState": info.cluster_state,
            "Error": info.error,
            "NodeID": info.node_id,
            "ControlAvailable": info.manager,
            "Managers": info.managers,
            "Nodes": info.nodes,
            "Services": info.services,
            "Secrets": info.secrets,
            "TasksRunning": info.tasks_running,
            "Stale": info.stale,
            "NodeAddr": info.address,
            "RemoteManagers": info.manager_addresses,
            "Cluster": { "ID": info.cluster_id, "Spec": info.spec.as_ref().map(settings) },
        },
        "Secrets": {
            "Backend": secrets.backend,
            "Memory": secrets.memory,
            "Weaknesses": secrets.weaknesses,
            "KEK": secrets.kek,
            "KEKSecure": secrets.kek_secure,
        },
        "Warnings": info.warnings,
    })
}

/// What operators can change of the cluster.
fn settings(spec: &ClusterSpec) -> Value {
    json!({
        "TaskHistoryRetentionLimit": history(spec),
        "HeartbeatPeriod": duration::show(spec.heartbeat.as_ref()),
        "NodeCertExpiry": duration::show(spec.cert_expiry.as_ref()),
        "AutoLockManagers": spec.autolock,
    })
}

/// As it is given: -1 is no limit.
fn history(spec: &ClusterSpec) -> i64 {
    spec.task_history_limit.filter(|limit| *limit != u32::MAX).map_or(-1, i64::from)
}

fn plain(info: &GetInfoResponse, images: usize) -> String {
    let node = info.node.clone().unwrap_or_default();
    let secrets = node.secrets.clone().unwrap_or_default();
    let mut lines =
        vec![format!("Server Version: {}", info.server_version), format!("Cluster: {}", info.cluster_state)];
    if !info.error.is_empty() {
        lines.push(format!(" Error: {}", info.error));
    }
    if !info.cluster_id.is_empty() {
        lines.extend([
            format!(" NodeID: {}", info.node_id),
            format!(" Is Manager: {}", info.manager),
            format!(" ClusterID: {}", info.cluster_id),
        ]);
        // A worker does not know the rest.
        if let Some(spec) = &info.spec {
            lines.extend([
                format!(" Managers: {}", info.managers),
                format!(" Nodes: {}", info.nodes),
                format!(" Services: {}", info.services),
                format!(" Secrets: {}", info.secrets),
                format!(" Running Tasks: {}", info.tasks_running),
                format!(" Task History Retention Limit: {}", history(spec)),
                format!(" Dispatcher Heartbeat Period: {}", duration::show(spec.heartbeat.as_ref())),
                format!(" CA Expiry Duration: {}", duration::show(spec.cert_expiry.as_ref())),
                format!(" Autolock Managers: {}", spec.autolock),
            ]);
            if info.stale {
                lines.push(
                    " Stale: no leader has confirmed these numbers and settings: they may be out of date".to_owned(),
                );
            }
        }
        lines.push(format!(" Node Address: {}", info.address));
        lines.push(format!(" Manager Addresses: {}", info.manager_addresses.join(", ")));
    }
    lines.push(format!("Images: {images}"));
    lines.extend(protection(&secrets));
    lines.extend([
        format!("Kernel Version: {}", node.kernel),
        format!("Cgroup Version: {}", node.cgroup),
        format!("OSType: {}", node.os),
        format!("Architecture: {}", node.architecture),
        format!("CPUs: {}", node.nano_cpus / 1_000_000_000),
        format!("Total Memory: {}", human::memory(node.memory_bytes)),
        format!("Name: {}", node.hostname),
        format!("Data Directory: {}", info.data_dir),
        format!("Run Directory: {}", info.run_dir),
    ]);
    lines.join("\n")
}

/// How the node protects secrets, a line for each weakness.
fn protection(secrets: &SecretsStatus) -> Vec<String> {
    let mut lines = vec![format!("Secret Backend: {}", secrets.backend), format!("Secret Memory: {}", secrets.memory)];
    // Nobody knows it before the node's data is open.
    if !secrets.kek.is_empty() {
        let worth = if secrets.kek_secure { "secure" } else { "weak" };
        lines.push(format!("Key-Encryption Key: {} ({worth})", secrets.kek));
    }
    lines.extend(secrets.weaknesses.iter().map(|weakness| format!(" Weakness: {weakness}")));
    lines
}

#[cfg(test)]
mod tests {
    use secretd_proto::v1::NodeDescription;

    use super::*;

    #[test]
    fn weaknesses_and_the_source_of_the_key_are_shown() {
        let weaknesses = vec!["the key is a file".to_owned(), "reads are not recorded".to_owned()];
        let secrets = SecretsStatus { kek: "file".to_owned(), weaknesses, ..SecretsStatus::default() };
        let node = NodeDescription { secrets: Some(secrets), ..NodeDescription::default() };
        let info = GetInfoResponse { node: Some(node), ..GetInfoResponse::default() };

        let wanted =
            "Key-Encryption Key: file (weak)\n Weakness: the key is a file\n Weakness: reads are not recorded\n";
        assert!(plain(&info, 0).contains(wanted), "{}", plain(&info, 0));
        let object = object(&info, 0);
        assert_eq!(object["Secrets"]["KEK"], "file");
        assert_eq!(object["Secrets"]["KEKSecure"].as_bool(), Some(false));
        assert!(!plain(&GetInfoResponse::default(), 0).contains("Key-Encryption Key"));
    }
}
