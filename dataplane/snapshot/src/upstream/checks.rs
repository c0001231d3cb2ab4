//! `checks`: APISIX's health checks, with its names, defaults and ranges.
//!
//! Request headers of probes are whole lines, as APISIX has them. A host of probes over TLS must be one that a certificate can name.

use std::net::{IpAddr, Ipv6Addr};

use serde::Deserialize;
use serde_json::Value;

use super::{Wrong, is_host_name};
use crate::json::Json;
use crate::limits::{CHECK_HEADERS_MAX, CHECK_INTERVAL_S_MAX, CHECK_PATH_BYTES_MAX};
use crate::parse;

/// Health checks of an upstream.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checks {
    /// Probes.
    pub active: Active,
    /// What requests tell.
    #[serde(default)]
    pub passive: Option<Passive>,
}

/// What a probe speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// A GET.
    #[default]
    Http,
    /// A GET over TLS.
    Https,
    /// A connection is enough.
    Tcp,
}

/// Probes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Active {
    /// What a probe speaks.
    #[serde(rename = "type")]
    pub kind: CheckKind,
    /// Seconds for the whole probe.
    pub timeout: f64,
    /// Probes of one upstream at once.
    pub concurrency: u32,
    /// Host of the probe; none given: the node's own name.
    pub host: Option<String>,
    /// Port of the probe; none given: the node's.
    pub port: Option<u16>,
    /// Path of the probe.
    pub http_path: String,
    /// Whether the node's certificate must be one that the host trusts, and of the right name; of no effect without TLS.
    pub https_verify_certificate: bool,
    /// Further header lines.
    pub req_headers: Vec<String>,
    /// When a node counts as healthy.
    pub healthy: ActiveHealthy,
    /// When it does not.
    pub unhealthy: ActiveUnhealthy,
}

impl Default for Active {
    fn default() -> Active {
        Active {
            kind: CheckKind::Http,
            timeout: 1.0,
            concurrency: 10,
            host: None,
            port: None,
            http_path: "/".to_owned(),
            https_verify_certificate: true,
            req_headers: Vec::new(),
            healthy: ActiveHealthy::default(),
            unhealthy: ActiveUnhealthy::default(),
        }
    }
}

/// When probes make a node healthy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ActiveHealthy {
    /// Seconds between two probes of a healthy node.
    pub interval: u32,
    /// Statuses that speak for it.
    pub http_statuses: Vec<u16>,
    /// So many in a row.
    pub successes: u32,
}

impl Default for ActiveHealthy {
    fn default() -> ActiveHealthy {
        ActiveHealthy { interval: 1, http_statuses: vec![200, 302], successes: 2 }
    }
}

/// When probes make a node unhealthy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ActiveUnhealthy {
    /// Seconds between two probes of an unhealthy node.
    pub interval: u32,
    /// Statuses that speak against it.
    pub http_statuses: Vec<u16>,
    /// So many of them in a row.
    pub http_failures: u32,
    /// Refused or broken connections in a row.
    pub tcp_failures: u32,
    /// Probes in a row that took too long.
    pub timeouts: u32,
}

impl Default for ActiveUnhealthy {
    fn default() -> ActiveUnhealthy {
        ActiveUnhealthy {
            interval: 1,
            http_statuses: vec![429, 404, 500, 501, 502, 503, 504, 505],
            http_failures: 5,
            tcp_failures: 2,
            timeouts: 3,
        }
    }
}

/// What requests tell of a node's health.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Passive {
    /// What the checks speak; of no effect on requests.
    #[serde(rename = "type")]
    pub kind: CheckKind,
    /// When requests make a node healthy.
    pub healthy: PassiveHealthy,
    /// When they make it unhealthy.
    pub unhealthy: PassiveUnhealthy,
}

/// When requests make a node healthy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PassiveHealthy {
    /// Statuses that speak for it.
    pub http_statuses: Vec<u16>,
    /// So many in a row; 0: never.
    pub successes: u32,
}

impl Default for PassiveHealthy {
    fn default() -> PassiveHealthy {
        let statuses = (200..=208).chain([226]).chain(300..=308);
        PassiveHealthy { http_statuses: statuses.collect(), successes: 5 }
    }
}

/// When requests make a node unhealthy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PassiveUnhealthy {
    /// Statuses that speak against it.
    pub http_statuses: Vec<u16>,
    /// So many of them in a row; 0: never.
    pub http_failures: u32,
    /// Refused or broken connections in a row; 0: never.
    pub tcp_failures: u32,
    /// Requests in a row that took too long; 0: never.
    pub timeouts: u32,
}

impl Default for PassiveUnhealthy {
    fn default() -> PassiveUnhealthy {
        PassiveUnhealthy {
            http_statuses: vec![429, 500, 503],
            http_failures: 5,
            tcp_failures: 2,
            timeouts: 7,
        }
    }
}

impl Checks {
    /// Reads `checks`.
    pub fn read(json: &Json) -> Result<Checks, Vec<Wrong>> {
        let value = json.value();
        if value.get("active").is_none_or(Value::is_null) {
            let reason = "needs \"active\": nothing else would bring an unhealthy node back";
            return Err(vec![("/checks".to_owned(), reason.to_owned())]);
        }
        let checks: Checks =
            parse::typed(value).map_err(|(pointer, reason)| vec![(format!("/checks{pointer}"), reason)])?;
        let wrong = checks.wrong();
        if wrong.is_empty() { Ok(checks) } else { Err(wrong) }
    }

    fn wrong(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        let mut check = |right: bool, field: &str, reason: &str| {
            if !right {
                wrong.push((format!("/checks/{field}"), reason.to_owned()));
            }
        };
        let Active { healthy, unhealthy, .. } = &self.active;
        let seconds = self.active.timeout;
        let in_range = seconds > 0.0 && seconds <= f64::from(CHECK_INTERVAL_S_MAX);
        check(in_range, "active/timeout", "must be a number of seconds above 0, and a day at most");
        check(self.active.concurrency > 0, "active/concurrency", "must be 1 or more");
        check(self.active.port != Some(0), "active/port", "must be 1 to 65535");
        let is_path = |path: &str| {
            path.starts_with('/')
                && path.len() <= CHECK_PATH_BYTES_MAX
                && path.bytes().all(|byte| byte.is_ascii_graphic())
        };
        check(
            is_path(&self.active.http_path),
            "active/http_path",
            "must be a path, as it stands in a request line",
        );
        let is_host = |host: &String| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
        check(self.active.host.as_ref().is_none_or(is_host), "active/host", "must be a host name");
        if let (CheckKind::Https, Some(host)) = (self.active.kind, &self.active.host) {
            let reason = "must be a host name or an IP address, with \"https\"";
            check(tls_name(host).is_some(), "active/host", reason);
        }
        let lines = &self.active.req_headers;
        check(lines.len() <= CHECK_HEADERS_MAX, "active/req_headers", "has too many lines");
        check(lines.iter().all(|line| is_field(line)), "active/req_headers", "must be lines \"Name: value\"");
        for (field, interval) in [("healthy", healthy.interval), ("unhealthy", unhealthy.interval)] {
            let right = (1..=CHECK_INTERVAL_S_MAX).contains(&interval);
            check(
                right,
                &format!("active/{field}/interval"),
                "must be a number of seconds, 1 or more, and a day at most",
            );
        }
        for (field, count) in [
            ("healthy/successes", healthy.successes),
            ("unhealthy/http_failures", unhealthy.http_failures),
            ("unhealthy/tcp_failures", unhealthy.tcp_failures),
            ("unhealthy/timeouts", unhealthy.timeouts),
        ] {
            check((1..=254).contains(&count), &format!("active/{field}"), "must be 1 to 254");
        }
        let passive = self.passive.as_ref();
        for (field, count) in passive.into_iter().flat_map(Passive::counts) {
            check(count <= 254, &format!("passive/{field}"), "must be 0 to 254");
        }
        let of_passive = passive.map(|passive| {
            [
                ("passive/healthy", &passive.healthy.http_statuses),
                ("passive/unhealthy", &passive.unhealthy.http_statuses),
            ]
        });
        let of_active =
            [("active/healthy", &healthy.http_statuses), ("active/unhealthy", &unhealthy.http_statuses)];
        for (field, statuses) in of_active.into_iter().chain(of_passive.into_iter().flatten()) {
            let right = !statuses.is_empty() && statuses.iter().all(|status| (200..=599).contains(status));
            check(right, &format!("{field}/http_statuses"), "must be statuses from 200 to 599, one at least");
        }
        wrong
    }
}

impl Passive {
    fn counts(&self) -> [(&'static str, u32); 4] {
        [
            ("healthy/successes", self.healthy.successes),
            ("unhealthy/http_failures", self.unhealthy.http_failures),
            ("unhealthy/tcp_failures", self.unhealthy.tcp_failures),
            ("unhealthy/timeouts", self.unhealthy.timeouts),
        ]
    }
}

/// What a certificate is to be made out to, of a Host field: without its port, its brackets and the root's dot.
pub fn tls_name(host: &str) -> Option<&str> {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(ip, _)| ip),
        None if host.parse::<Ipv6Addr>().is_ok() => Some(host),
        None => host.split(':').next(),
    }?;
    if name.parse::<IpAddr>().is_ok() {
        return Some(name);
    }
    Some(name.strip_suffix('.').unwrap_or(name)).filter(|name| is_host_name(name))
}

/// `Name: value` (RFC 9110 section 5), and not what would change where the probe ends.
fn is_field(line: &str) -> bool {
    let Some((name, value)) = line.split_once(':') else { return false };
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let reserved = ["host", "connection", "content-length", "transfer-encoding"];
    !name.is_empty()
        && name.bytes().all(is_token)
        && value.bytes().all(|byte| byte == b'\t' || (b' '..0x7f).contains(&byte) || byte >= 0x80)
        && !reserved.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Result<Checks, String> {
        Checks::read(&Json::from(value))
            .map_err(|wrong| wrong.iter().map(|(pointer, reason)| format!("{pointer}: {reason}\n")).collect())
    }

    #[test]
    fn defaults_are_those_of_apisix() {
        let checks = read(
            &json!({"active": {"http_path": "/status", "unhealthy": {"http_failures": 2}}, "passive": {}}),
        );
        let checks = checks.unwrap();
        assert_eq!((checks.active.healthy.interval, checks.active.healthy.successes), (1, 2));
        assert_eq!((checks.active.unhealthy.http_failures, checks.active.unhealthy.tcp_failures), (2, 2));
        assert_eq!(checks.passive.unwrap().unhealthy.timeouts, 7);
    }

    #[test]
    fn a_certificate_names_what_a_host_field_names() {
        let names = [
            ("a.test", Some("a.test")),
            ("a.test:8443", Some("a.test")),
            ("a.test.", Some("a.test")),
            ("10.0.0.1:443", Some("10.0.0.1")),
            ("[::1]:443", Some("::1")),
            ("::1", Some("::1")),
            ("[::1", None),
            ("a,b", None),
            ("", None),
        ];
        for (host, name) in names {
            assert_eq!(tls_name(host), name, "{host}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (place, value) in [
            ("/checks:", json!({})),
            ("/checks:", json!({"passive": {}})),
            ("/checks/active/port:", json!({"active": {"port": 0}})),
            ("/checks/active/port:", json!({"active": {"port": 65_536}})),
            ("/checks/active/type:", json!({"active": {"type": "grpc"}})),
            ("/checks/active/host:", json!({"active": {"type": "https", "host": "a,b"}})),
            ("/checks/active/healthy/interval:", json!({"active": {"healthy": {"interval": 0}}})),
            ("/checks/active/unhealthy/timeouts:", json!({"active": {"unhealthy": {"timeouts": 255}}})),
            ("/checks/active/http_path:", json!({"active": {"http_path": "/a b"}})),
            ("/checks/active/req_headers:", json!({"active": {"req_headers": ["Host: b"]}})),
            ("/checks/active/req_headers:", json!({"active": {"req_headers": ["A: b\r\nC: d"]}})),
            ("/checks/active/htp_path:", json!({"active": {"htp_path": "/"}})),
            (
                "/checks/passive/healthy/http_statuses:",
                json!({"active": {}, "passive": {"healthy": {"http_statuses": [100]}}}),
            ),
        ] {
            let told = read(&value).unwrap_err();
            assert!(told.contains(place), "{place} {told}");
        }
    }
}
