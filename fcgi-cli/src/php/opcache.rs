//! `fcgi php --opcache`: the request to opcache, and its answer.

use clap::ValueEnum;
use serde_json::Value;

use crate::{exit::Exit, report::Report, status::print::bytes};

/// What to do with opcache.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(crate) enum Opcache {
    /// Show its memory, scripts and hits
    Status,
    /// Empty it: scripts are read again
    Reset,
}

impl Opcache {
    /// The code to run; it prints JSON.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Status => {
                "echo json_encode(['status' => function_exists('opcache_get_status') ? \
                 @opcache_get_status(false) : null]);"
            }
            Self::Reset => {
                "echo json_encode(['reset' => function_exists('opcache_reset') ? opcache_reset() : \
                 null]);"
            }
        }
    }

    /// The meaning of the answer.
    pub(super) fn report(self, address: &str, output: &[u8]) -> Report {
        let unwanted = |message: String| Report::new("php", Exit::Unwanted, message);
        let Ok(answer) = serde_json::from_slice::<Value>(output) else {
            return unwanted(format!("{address}: what it answers is not this command's"));
        };
        let key = if self == Self::Status { "status" } else { "reset" };
        match &answer[key] {
            Value::Null => unwanted(format!("{address}: PHP has no opcache there")),
            Value::Bool(false) => unwanted(format!(
                "{address}: opcache is off (opcache.enable), or its use is restricted \
                 (opcache.restrict_api)"
            )),
            Value::Bool(true) => {
                Report::new("php", Exit::Done, format!("opcache of {address} was reset"))
            }
            status => figures(address, status),
        }
    }
}

fn figures(address: &str, status: &Value) -> Report {
    let (memory, scripts) = (&status["memory_usage"], &status["opcache_statistics"]);
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let [used, free, wasted] =
        ["used_memory", "free_memory", "wasted_memory"].map(|name| number(&memory[name]));
    let [cached, keys, hits, misses] = ["num_cached_scripts", "max_cached_keys", "hits", "misses"]
        .map(|name| number(&scripts[name]));
    let [by_memory, by_hash, by_hand] =
        ["oom_restarts", "hash_restarts", "manual_restarts"].map(|name| number(&scripts[name]));
    let rate = scripts["opcache_hit_rate"].as_f64().unwrap_or_default();
    let enabled = status["opcache_enabled"].as_bool().unwrap_or_default();
    let pending = status["restart_pending"].as_bool().unwrap_or_default();
    let state = match (enabled, pending) {
        (false, _) => "off",
        (true, true) => "on, and about to be reset",
        (true, false) => "on",
    };
    let message = format!(
        "opcache of {address}: {state}\n\
         memory    {} used, {} free, {} wasted\n\
         scripts   {cached}, of {keys} at most\n\
         hits      {rate:.1}% ({hits}, and {misses} misses)\n\
         restarts  {by_memory} for want of memory, {by_hash} for want of keys, {by_hand} by hand",
        bytes(used),
        bytes(free),
        bytes(wasted),
    );
    let exit = if enabled { Exit::Done } else { Exit::Unwanted };
    Report::new("php", exit, message)
        .field("enabled", enabled)
        .field("restart_pending", pending)
        .field("memory_used", used)
        .field("memory_free", free)
        .field("memory_wasted", wasted)
        .field("scripts", cached)
        .field("keys_max", keys)
        .field("hits", hits)
        .field("misses", misses)
        .field("hit_rate", rate)
        .field("oom_restarts", by_memory)
        .field("hash_restarts", by_hash)
        .field("manual_restarts", by_hand)
}
