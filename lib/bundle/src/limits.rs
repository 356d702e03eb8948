//! What a container may use: the kernel's limits of its control group and of its processes.

use std::collections::BTreeMap;

use config::container::Limits;
use serde_json::{Value, json};

/// Processes and threads in one container: enough for any server, too few for a fork bomb to take all of the
/// kernel's 32,768 process ids.
const MAX_PROCESSES: i64 = 8192;

/// Open files: the soft limit that programs written for select(2) can live with, and the hard one of systemd.
const OPEN_FILES: (u64, u64) = (1024, 524_288);

/// What time on processors is measured in, in microseconds (the kernel's default).
const PERIOD: u64 = 100_000;

/// `linux.resources` of the runtime-spec, without the devices.
pub(crate) fn resources(limits: &Limits) -> Value {
    let mut resources = json!({ "pids": { "limit": limits.pids.unwrap_or(MAX_PROCESSES) } });
    let mut memory = BTreeMap::new();
    if let Some(limit) = limits.memory {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        memory.insert("limit", limit);
        // Docker's default: as much swap as memory.
        memory.insert("swap", limits.memory_and_swap.unwrap_or_else(|| limit.saturating_mul(2)));
    }
    if let Some(kept) = limits.memory_reservation {
        memory.insert("reservation", i64::try_from(kept).unwrap_or(i64::MAX));
    }
    if !memory.is_empty() {
        resources["memory"] = json!(memory);
    }
    let mut cpu = serde_json::Map::new();
    if let Some(millionths) = limits.cpus {
        cpu.insert("quota".to_owned(), json!(millionths * PERIOD / 1_000_000));
        cpu.insert("period".to_owned(), json!(PERIOD));
    }
    if let Some(shares) = limits.cpu_shares {
        cpu.insert("shares".to_owned(), json!(shares));
    }
    if let Some(set) = &limits.cpuset {
        cpu.insert("cpus".to_owned(), json!(set));
    }
    if !cpu.is_empty() {
        resources["cpu"] = Value::Object(cpu);
    }
    resources
}

/// `process.rlimits` of the runtime-spec.
pub(crate) fn rlimits(limits: &Limits) -> Value {
    let mut all = BTreeMap::from([("RLIMIT_NOFILE", OPEN_FILES)]);
    all.extend(limits.ulimits.iter().map(|(name, limit)| (name.as_str(), *limit)));
    all.into_iter().map(|(name, (soft, hard))| json!({ "type": name, "soft": soft, "hard": hard })).collect()
}
