//! Limits and reservations.

use secretd_core::service::Resources;

const MIN_NANO_CPUS: i64 = 1_000_000;
const MIN_MEMORY: i64 = 4 * 1024 * 1024;

/// Why a limit or reservation is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidResource {
    #[error("invalid cpu value {}: Must be at least 0.001 ({flag})", show_cpus(*nano))]
    Cpu { nano: i64, flag: &'static str },
    #[error("invalid memory value {bytes}: Must be at least 4MiB ({flag})")]
    Memory { bytes: i64, flag: &'static str },
    #[error("invalid pids value {0}: Must be at least 1, or 0 for no limit (--limit-pids)")]
    Pids(i64),
    #[error("the reservation of {what} is above its limit ({flag})")]
    AboveLimit { what: &'static str, flag: &'static str },
}

fn show_cpus(nano: i64) -> String {
    let sign = if nano < 0 { "-" } else { "" };
    let text = format!("{sign}{}.{:09}", nano.unsigned_abs() / 1_000_000_000, nano.unsigned_abs() % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Checks limits and reservations; 0 is none.
pub(crate) fn check(resources: &Resources) -> Result<(), InvalidResource> {
    let Resources { nano_cpus, memory_bytes, pids, reserve_nano_cpus, reserve_memory_bytes } = *resources;
    for (nano, flag) in [(nano_cpus, "--limit-cpu"), (reserve_nano_cpus, "--reserve-cpu")] {
        if nano != 0 && nano < MIN_NANO_CPUS {
            return Err(InvalidResource::Cpu { nano, flag });
        }
    }
    for (bytes, flag) in [(memory_bytes, "--limit-memory"), (reserve_memory_bytes, "--reserve-memory")] {
        if bytes != 0 && bytes < MIN_MEMORY {
            return Err(InvalidResource::Memory { bytes, flag });
        }
    }
    if pids < 0 {
        return Err(InvalidResource::Pids(pids));
    }
    if nano_cpus != 0 && reserve_nano_cpus > nano_cpus {
        return Err(InvalidResource::AboveLimit { what: "processors", flag: "--reserve-cpu" });
    }
    if memory_bytes != 0 && reserve_memory_bytes > memory_bytes {
        return Err(InvalidResource::AboveLimit { what: "memory", flag: "--reserve-memory" });
    }
    Ok(())
}
