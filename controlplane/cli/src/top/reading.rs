//! Two samples made into what is shown: rates, rows, problems. Also the document of `--json`.
//!
//! Rates are differences of counters over the time between. A counter that went down is that of another process (an upgrade, a restart): there is
//! no rate then, and none is guessed.

use serde_json::{Value, json};

use super::sample::Sample;
use crate::status::version;
use crate::terminal::plain;

/// Everything that one screen shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Reading {
    pub(super) node: String,
    pub(super) build: String,
    pub(super) up_s: Option<u64>,
    /// `in step`, `degraded` or `down`.
    pub(super) verdict: &'static str,
    pub(super) problems: Vec<String>,
    pub(super) version: Option<String>,
    pub(super) routes: Option<u64>,
    pub(super) connections: Option<u64>,
    pub(super) busy: Option<u64>,
    /// Requests, answers by class, tries again.
    pub(super) rates: Rates,
    pub(super) cores: Vec<Core>,
    pub(super) nodes: Vec<Node>,
    pub(super) latencies: Vec<Latency>,
    pub(super) change: Option<Change>,
}

/// Each a second; `None` where it is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) requests: Option<f64>,
    pub(super) ok: Option<f64>,
    pub(super) redirected: Option<f64>,
    pub(super) client_errors: Option<f64>,
    pub(super) server_errors: Option<f64>,
    pub(super) retries: Option<f64>,
}

/// One core.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Core {
    pub(super) core: u64,
    pub(super) cpu: Option<u64>,
    /// Share of its CPU that its thread took, in percent.
    pub(super) busy_percent: Option<f64>,
    pub(super) connections: Option<u64>,
    pub(super) open: Option<u64>,
    pub(super) requests_per_s: Option<f64>,
    pub(super) revision: Option<u64>,
    pub(super) turned_ms_ago: Option<u64>,
    /// What is wrong with it.
    pub(super) trouble: Option<String>,
}

/// One node of an upstream.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Node {
    pub(super) upstream: String,
    pub(super) address: String,
    pub(super) state: String,
    pub(super) why: String,
    pub(super) weight: u64,
    pub(super) open: u64,
    pub(super) requests: u64,
    pub(super) requests_per_s: Option<f64>,
    pub(super) failures: u64,
    pub(super) failures_per_s: Option<f64>,
}

/// Percentiles of one window.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Latency {
    pub(super) window: String,
    /// `request` or `upstream`.
    pub(super) what: &'static str,
    pub(super) p50_us: Option<u64>,
    pub(super) p90_us: Option<u64>,
    pub(super) p99_us: Option<u64>,
    pub(super) p999_us: Option<u64>,
}

/// The last change, and how long it took from its first byte to each stage.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) ago_ms: Option<u64>,
    pub(super) from_disk: bool,
    pub(super) stages_us: Vec<(&'static str, u64)>,
}

impl Reading {
    /// Of the later sample, with rates since the earlier one.
    pub(super) fn of(before: Option<&Sample>, now: &Sample) -> Reading {
        let report = &now.report;
        let empty = Value::Null;
        let info = report.info.as_ref().unwrap_or(&empty);
        // Another process counts from 0.
        let same =
            |before: &&Sample| before.report.info.as_ref().is_ok_and(|then| then["pid"] == info["pid"]);
        let before = before.filter(same);
        Reading {
            node: shown(&info["node"]),
            build: shown(&info["build"]),
            up_s: info["uptime_s"].as_u64(),
            verdict: report.verdict().text(),
            problems: report.problems(),
            version: version(&info["version"]),
            routes: report.snapshot["routes"].as_u64(),
            connections: info["connections"].as_u64(),
            busy: total(&now.counters, "busy"),
            rates: rates(before, now),
            cores: cores(before, now),
            nodes: nodes(before, now),
            latencies: latencies(&now.latency),
            change: change(&report.snapshot),
        }
    }

    /// For scripts.
    pub(super) fn json(&self) -> Value {
        let rates = &self.rates;
        json!({
            "node": self.node,
            "build": self.build,
            "up_s": self.up_s,
            "verdict": self.verdict,
            "problems": self.problems,
            "version": self.version,
            "connections": self.connections,
            "busy_connections": self.busy,
            "requests_per_s": rates.requests.map(tenth),
            "responses_per_s": {
                "2xx": rates.ok.map(tenth),
                "3xx": rates.redirected.map(tenth),
                "4xx": rates.client_errors.map(tenth),
                "5xx": rates.server_errors.map(tenth),
            },
            "upstream_retries_per_s": rates.retries.map(tenth),
            "latency": self.latencies.iter().map(|latency| json!({
                "window": latency.window, "what": latency.what, "p50_us": latency.p50_us, "p90_us": latency.p90_us,
                "p99_us": latency.p99_us, "p999_us": latency.p999_us,
            })).collect::<Value>(),
            "last_change": self.change.as_ref().map(|change| json!({
                "ms_ago": change.ago_ms,
                "from_disk": change.from_disk,
                "stages_us": change.stages_us.iter().map(|(stage, us)| ((*stage).to_owned(), json!(us))).collect::<serde_json::Map<_, _>>(),
            })),
            "cores": self.cores.iter().map(|core| json!({
                "core": core.core, "cpu": core.cpu, "busy_percent": core.busy_percent.map(tenth), "connections": core.connections,
                "busy_connections": core.open, "requests_per_s": core.requests_per_s.map(tenth), "revision": core.revision,
                "turned_ms_ago": core.turned_ms_ago, "trouble": core.trouble,
            })).collect::<Value>(),
            "nodes": self.nodes.iter().map(|node| json!({
                "upstream": node.upstream, "address": node.address, "state": node.state, "why": node.why, "weight": node.weight,
                "open_requests": node.open, "requests": node.requests, "requests_per_s": node.requests_per_s.map(tenth),
                "failures": node.failures, "failures_per_s": node.failures_per_s.map(tenth),
            })).collect::<Value>(),
        })
    }
}

fn rates(before: Option<&Sample>, now: &Sample) -> Rates {
    let Some(before) = before else { return Rates::default() };
    let rate = |name: &str| {
        per_s(total(&before.counters, name)?, total(&now.counters, name)?, counted_s(before, now)?)
    };
    Rates {
        requests: rate("requests"),
        ok: rate("responses_2xx"),
        redirected: rate("responses_3xx"),
        client_errors: rate("responses_4xx"),
        server_errors: rate("responses_5xx"),
        retries: rate("upstream_retries"),
    }
}

/// Seconds between two replies, by the data plane's own clock.
fn counted_s(before: &Sample, now: &Sample) -> Option<f64> {
    let at_ms = |sample: &Sample| sample.counters[0]["at_ms"].as_u64();
    seconds(at_ms(now)?.checked_sub(at_ms(before)?)?)
}

fn cores(before: Option<&Sample>, now: &Sample) -> Vec<Core> {
    let rows = now.report.cores.as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |(index, row): (usize, &Value)| {
        let counters = &now.counters[index];
        let requests_per_s = before.and_then(|before| {
            let then = before.counters[index]["requests"].as_u64()?;
            per_s(then, counters["requests"].as_u64()?, counted_s(before, now)?)
        });
        let busy_percent = before.and_then(|before| {
            let ran = (*now.ran_s.get(index)?)? - (*before.ran_s.get(index)?)?;
            let passed = now.at.duration_since(before.at).as_secs_f64();
            (passed > 0.0).then(|| (ran / passed * 100.0).clamp(0.0, 100.0))
        });
        let trouble = match row["stuck_ms"].as_u64().unwrap_or(0) {
            _ if row["dead"] == true => Some("dead".to_owned()),
            0 => None,
            stuck_ms => Some(format!("stuck {stuck_ms} ms")),
        };
        Core {
            core: row["core"].as_u64().unwrap_or_default(),
            cpu: row["cpu"].as_u64(),
            busy_percent,
            connections: row["connections"].as_u64(),
            open: counters["busy"].as_u64(),
            requests_per_s,
            revision: row["version"]["revision"].as_u64(),
            turned_ms_ago: row["turned_ms_ago"].as_u64(),
            trouble,
        }
    };
    rows.iter().enumerate().map(row).collect()
}

fn nodes(before: Option<&Sample>, now: &Sample) -> Vec<Node> {
    let of = |sample: &Sample| -> Vec<(String, Value)> {
        let upstreams = sample.upstreams.as_array().cloned().unwrap_or_default();
        let each = |upstream: Value| {
            let key = shown(&upstream["key"]);
            let nodes = upstream["nodes"].as_array().cloned().unwrap_or_default();
            nodes.into_iter().map(move |node| (key.clone(), node))
        };
        upstreams.into_iter().flat_map(each).collect()
    };
    let then: std::collections::HashMap<(String, String), Value> = before
        .map(of)
        .into_iter()
        .flatten()
        .map(|(key, node)| ((key, shown(&node["address"])), node))
        .collect();
    let passed = before.and_then(|before| counted_s(before, now));
    let row = |(upstream, node): (String, Value)| {
        let address = shown(&node["address"]);
        let count = |name: &str| node[name].as_u64().unwrap_or_default();
        let rate = |name: &str| {
            let then = then.get(&(upstream.clone(), address.clone()))?[name].as_u64()?;
            per_s(then, node[name].as_u64()?, passed?)
        };
        Node {
            state: shown(&node["state"]),
            why: node["why"].as_str().map(plain).unwrap_or_default(),
            weight: count("weight"),
            open: count("open_requests"),
            requests: count("requests"),
            requests_per_s: rate("requests"),
            failures: count("failures"),
            failures_per_s: rate("failures"),
            address,
            upstream,
        }
    };
    of(now).into_iter().map(row).collect()
}

/// Of the newest window, requests and what nodes took.
fn latencies(told: &Value) -> Vec<Latency> {
    let Some(windows) = told.as_object() else { return Vec::new() };
    let newest =
        |(_, window): &(&String, &Value)| window["seconds"].as_f64().map_or(u64::MAX, |s| s.max(0.0) as u64);
    let Some((name, window)) = windows.iter().min_by_key(newest) else { return Vec::new() };
    let row = |what: &'static str| {
        let summary = window.get(what).filter(|summary| summary["count"].as_u64() != Some(0))?;
        let time = |name: &str| summary[name].as_u64();
        Some(Latency {
            window: plain(&name.replace('_', " ")),
            what,
            p50_us: time("p50_us"),
            p90_us: time("p90_us"),
            p99_us: time("p99_us"),
            p999_us: time("p999_us"),
        })
    };
    ["request", "upstream"].into_iter().filter_map(row).collect()
}

fn change(snapshot: &Value) -> Option<Change> {
    snapshot.as_object()?;
    let stages = ["received", "decoded", "compiled", "first_core", "last_core"];
    let stage = |name: &'static str| Some((name, snapshot["stages_us"][name].as_u64()?));
    Some(Change {
        ago_ms: snapshot["applied_ms_ago"].as_u64(),
        from_disk: snapshot["booted_from_disk"] == true,
        stages_us: stages.into_iter().filter_map(stage).collect(),
    })
}

fn total(counters: &Value, name: &str) -> Option<u64> {
    counters.as_array()?.iter().map(|core| core[name].as_u64()).sum()
}

fn per_s(then: u64, now: u64, passed_s: f64) -> Option<f64> {
    let more = u32::try_from(now.checked_sub(then)?).unwrap_or(u32::MAX);
    (passed_s > 0.0).then(|| f64::from(more) / passed_s)
}

fn seconds(ms: u64) -> Option<f64> {
    u32::try_from(ms).ok().map(|ms| f64::from(ms) / 1e3)
}

fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| "-".to_owned(), plain)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::status::Report;

    /// Two cores, three nodes; `requests` counted so far at `at_ms` of the process.
    pub(in crate::top) fn sample(begun: Instant, pid: u64, at_ms: u64, requests: u64) -> Sample {
        let version = |revision: u64| json!({"text": format!("ab:1:{revision}"), "lineage": "ab", "timeline": 1, "revision": revision});
        let core = |core: u64| {
            json!({"core": core, "cpu": core, "version": version(41), "connections": 32 + core, "requests": requests,
            "turned_ms_ago": 1, "dead": false, "stuck_ms": 0})
        };
        let counters = |core: u64| {
            json!({"core": core, "at_ms": at_ms, "busy": 3, "requests": requests, "responses_2xx": requests - requests / 10,
            "responses_3xx": 0, "responses_4xx": requests / 10, "responses_5xx": 0, "upstream_retries": 0})
        };
        let node = |address: &str, state: &str, share: u64, failures: u64| {
            json!({"address": address, "state": state, "weight": 1,
            "open_requests": 2, "requests": requests / share, "failures": failures})
        };
        let mut sick = node("10.0.0.7:8080", "unhealthy", 100, requests / 100);
        sick["why"] = json!("failed connections of probes");
        let seconds = f64::from(u32::try_from(at_ms).unwrap()) / 1e3;
        Sample {
            at: begun + Duration::from_millis(at_ms),
            report: Report {
                control: Ok(
                    json!({"source": {"state": "connected"}, "version": version(41), "dataplane": {"state": "connected"}}),
                ),
                info: Ok(
                    json!({"node": "edge-1", "build": "0.1.0", "pid": pid, "uptime_s": 11_000, "connections": 65, "version": version(41)}),
                ),
                snapshot: json!({"routes": 12, "applied_ms_ago": 185_000, "booted_from_disk": false,
                    "stages_us": {"received": 90, "decoded": 140, "compiled": 900, "first_core": 980, "last_core": 1_240}}),
                cores: json!([core(0), core(1)]),
            },
            counters: json!([counters(0), counters(1)]),
            upstreams: json!([
                {"key": "upstreams/shop", "nodes": [node("10.0.0.5:8080", "ready", 2, 0), sick]},
                {"key": "services/api", "nodes": [node("10.0.1.9:443", "drain", 4, 1)]},
            ]),
            latency: json!({
                "last_10s": {"seconds": 10.0, "request": {"count": 9, "p50_us": 412, "p90_us": 930, "p99_us": 2_140, "p999_us": 8_030},
                    "upstream": {"count": 9, "p50_us": 380, "p90_us": 850, "p99_us": 2_000, "p999_us": 7_800}},
                "since_start": {"seconds": 900.0},
            }),
            ran_s: vec![Some(seconds * 0.45), Some(seconds * 0.05)],
        }
    }

    #[test]
    fn rates_are_what_was_counted_between_by_the_data_planes_clock() {
        let begun = Instant::now();
        let reading = Reading::of(Some(&sample(begun, 7, 1_000, 1_000)), &sample(begun, 7, 3_000, 5_000));
        assert_eq!(reading.rates.requests, Some(4_000.0));
        assert_eq!(reading.rates.client_errors, Some(400.0));
        assert_eq!(reading.cores[0].requests_per_s, Some(2_000.0));
        assert_eq!(reading.cores[0].busy_percent.map(f64::round), Some(45.0));
        assert_eq!(reading.nodes[0].requests_per_s, Some(1_000.0));
        assert_eq!((reading.nodes[1].failures, reading.nodes[1].failures_per_s), (50, Some(20.0)));
        assert_eq!(reading.latencies[0].window, "last 10s");
        let document = reading.json();
        assert_eq!(document["requests_per_s"], 4_000.0);
        assert_eq!(document["last_change"]["stages_us"]["last_core"], 1_240);
        assert_eq!((reading.verdict, reading.problems.len()), ("in step", 0));
    }

    #[test]
    fn another_process_or_a_first_look_has_no_rates() {
        let begun = Instant::now();
        for before in [None, Some(sample(begun, 6, 1_000, 9_000))] {
            let reading = Reading::of(before.as_ref(), &sample(begun, 7, 2_000, 10));
            assert_eq!(reading.rates, Rates::default());
            assert_eq!((reading.cores[0].busy_percent, reading.nodes[0].requests_per_s), (None, None));
        }
        let reading = Reading::of(Some(&sample(begun, 7, 1_000, 900)), &sample(begun, 7, 2_000, 10));
        assert_eq!(reading.rates.requests, None, "a counter that went down");
    }

    #[test]
    fn planes_that_do_not_answer_are_told_and_nothing_else() {
        let mut now = sample(Instant::now(), 7, 1_000, 10);
        now.report.info = Err("the data plane is not running".to_owned());
        (now.report.cores, now.report.snapshot) = (Value::Null, Value::Null);
        (now.counters, now.upstreams, now.latency) = (Value::Null, Value::Null, Value::Null);
        let reading = Reading::of(None, &now);
        assert_eq!((reading.node.as_str(), reading.verdict), ("-", "degraded"));
        assert!(reading.cores.is_empty() && reading.change.is_none() && reading.latencies.is_empty());
        assert_eq!(reading.problems, ["the data plane is not running"]);
    }
}
