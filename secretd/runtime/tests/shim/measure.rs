//! How long a container takes to run, and what a shim weighs.

use std::fs;
use std::time::Instant;

use secretd_proto::shim::Request;

use crate::lab::Lab;

pub(crate) fn create_start_and_memory_stay_within_their_budgets() {
    let mut durations = Vec::new();
    let mut weights = Vec::new();
    for _ in 0..10 {
        let lab = Lab::new("exec cat /proc/uptime; sleep 1000");
        let begin = Instant::now();
        let shim = lab.shim();
        shim.created().unwrap();
        let created = begin.elapsed();
        shim.done(&Request::Start);
        lab.wait_for_output("\n");
        durations.push((begin.elapsed(), created));
        let lab = Lab::new("sleep 1000");
        let shim = lab.start();
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", shim.shim_pid())).unwrap();
        let field = |name: &str| {
            let value = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            value.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        weights.push((field("Pss_Anon:"), field("Pss:")));
    }
    durations.sort();
    weights.sort_unstable();
    println!("spawn to first output: median {:?}, created {:?}", durations[5].0, durations[5].1);
    println!("shim: own memory {} kB, with its share of the program {} kB", weights[5].0, weights[5].1);
    assert!(durations[0].0.as_millis() < 200, "{durations:?}"); // generous: other work may share the machine
    assert!(weights[5].0 < 2500, "{weights:?}"); // what each further container costs; the program itself is shared
}
