//! What both planes say at one moment: all of the data plane's replies in one connection, and the control plane's document.
//!
//! A reply that the data plane does not know (it may be older) is `Null`; what hangs on it is then shown as "-". How busy a core's thread is
//! comes from /proc, as only the kernel knows it; where that cannot be read (another host's process, a hidden /proc) it is unknown.

use std::time::Instant;

use serde_json::Value;

use crate::socket::{self, Sockets};
use crate::status::{Report, parsed};

/// Everything of the data plane in one line of commands.
const COMMANDS: [&str; 6] = ["info", "snapshot", "cores", "counters", "upstreams", "latency"];
/// Ticks in which the kernel counts a thread's time: USER_HZ, 100 on every architecture that Linux still has for servers.
const TICKS_PER_S: f64 = 100.0;

/// One moment.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    /// What `ringway status` judges.
    pub(super) report: Report,
    pub(super) counters: Value,
    pub(super) upstreams: Value,
    pub(super) latency: Value,
    /// Seconds that each core's thread has run.
    pub(super) ran_s: Vec<Option<f64>>,
}

impl Sample {
    /// Asks both planes. Takes as long as they take, five seconds each at most.
    pub(super) fn take(sockets: &Sockets) -> Sample {
        let line = COMMANDS.map(|what| format!("show {what} json")).join("; ");
        let told = socket::command(&sockets.admin(), &line).map_err(|error| error.to_string());
        let at = Instant::now();
        let control = socket::document(&sockets.control()).map_err(|error| error.to_string());
        Sample::of(at, told, control.and_then(|text| parsed("control plane", &text)))
    }

    /// Reads the data plane's replies, a line each.
    fn of(at: Instant, told: Result<String, String>, control: Result<Value, String>) -> Sample {
        let mut replies = [const { Value::Null }; COMMANDS.len()];
        let info = told.and_then(|told| {
            for (place, line) in replies.iter_mut().zip(told.lines()) {
                *place = serde_json::from_str(line).unwrap_or_default();
            }
            // The first reply is the one that every data plane can give.
            parsed("data plane", told.lines().next().unwrap_or_default())
        });
        let [_, snapshot, cores, counters, upstreams, latency] = replies;
        let pid = info.as_ref().ok().and_then(|info| info["pid"].as_u64());
        let count = cores.as_array().map_or(0, Vec::len);
        let ran_s = pid.map_or_else(Vec::new, |pid| ran_s(pid, count));
        Sample { at, report: Report { control, info, snapshot, cores }, counters, upstreams, latency, ran_s }
    }
}

/// How long the threads of the cores have run, found by their names.
fn ran_s(pid: u64, cores: usize) -> Vec<Option<f64>> {
    let mut found = vec![None; cores];
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return found };
    for thread in threads.filter_map(Result::ok) {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        if let Some((core, s)) = thread_of_core(&stat)
            && let Some(place) = found.get_mut(core)
        {
            *place = Some(s);
        }
    }
    found
}

/// The core's number and its seconds, of a thread's line in /proc (proc(5): the name stands in parentheses; utime and stime are
/// fields 14 and 15).
fn thread_of_core(stat: &str) -> Option<(usize, f64)> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let core = name.strip_prefix("core-")?.parse().ok()?;
    let mut fields = after.split_whitespace().skip(11);
    let ticks: u32 = fields.next()?.parse::<u32>().ok()?.saturating_add(fields.next()?.parse().ok()?);
    Some((core, f64::from(ticks) / TICKS_PER_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_time_is_read_behind_its_name() {
        let line =
            "71 (core-1) R 1 1 1 0 -1 4194368 9 0 0 0 250 50 0 0 20 0 9 0 100 1 1 18446744073709551615 0";
        assert_eq!(thread_of_core(line), Some((1, 3.0)));
        assert_eq!(thread_of_core(&line.replace("core-1", "health")), None);
        assert_eq!(thread_of_core(""), None);
    }

    #[test]
    fn replies_are_read_by_their_lines_and_what_an_older_data_plane_does_not_know_is_nothing() {
        let told = "{\"pid\": 4194305}\n{}\n[{\"core\": 0}]\nerror: unknown command\n[]\n";
        let sample = Sample::of(Instant::now(), Ok(told.to_owned()), Err("no control plane".to_owned()));
        assert_eq!(sample.report.cores[0]["core"], 0);
        assert_eq!((sample.counters, sample.latency), (Value::Null, Value::Null));
        assert_eq!(sample.ran_s, [None]);
        let sample = Sample::of(Instant::now(), Ok("error: ending\n".to_owned()), Err(String::new()));
        assert!(sample.report.info.unwrap_err().contains("ending"));
    }
}
