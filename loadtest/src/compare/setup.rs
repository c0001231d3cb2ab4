//! What a peer is configured for: everything to one backend, 10,000 hosts, or a million routes; and for Ringway alone a backend that is watched by all that
//! it has, and one by nothing. Each peer gets what its own
//! documentation recommends for that: nginx a `server` for each host, HAProxy a map, Ringway routes.
//!
//! With many hosts, one that is not configured is refused by all, so that an answer proves a look-up.

use std::fmt::Write as _;

use crate::client::request::Places;

const HOSTS: u32 = 10_000;
/// On each host: a million routes.
const PATHS: u32 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Setup {
    /// Everything goes to one backend.
    Plain,
    /// 10,000 hosts; everything on them goes to one backend.
    Hosts,
    /// 100 routes on each of the same hosts.
    Routes,
    /// Everything goes to one backend, and nothing watches it.
    Bare,
    /// Everything goes to one backend, and all that there is watches it.
    Watched,
}

/// A node that gets no request, so that there is another one than the backend: waits for a single node are not watched.
const IDLE_NODE: &str = "{\"host\":\"127.0.0.2\",\"port\":9,\"weight\":0}";
const NOTHING_WATCHES: &str = "\"retries\":0,\"labels\":{\"ringway.eject-failures\":\"off\",\"ringway.silence-ms\":\"off\",\"ringway.retry-percent\":\"off\"}";
/// Between two measurements nobody listens at the backend, which must not make it unhealthy.
const ALL_WATCHES: &str = "\"retries\":2,\"labels\":{\"ringway.eject-failures\":\"5\",\"ringway.eject-percent\":\"50\",\"ringway.panic-percent\":\"30\",\"ringway.retry-percent\":\"20\"},\
    \"checks\":{\"active\":{\"http_path\":\"/status/200\",\"unhealthy\":{\"tcp_failures\":254,\"timeouts\":254}},\"passive\":{\"healthy\":{\"successes\":1},\"unhealthy\":{\"tcp_failures\":254,\"timeouts\":254}}}";

impl Setup {
    /// What requests are spread over. The same for both large ones: what differs is what is configured.
    pub(crate) fn places(self) -> Option<Places> {
        match self {
            Self::Plain | Self::Bare | Self::Watched => None,
            Self::Hosts | Self::Routes => Some(Places { hosts: HOSTS, paths: PATHS }),
        }
    }

    /// nginx: what becomes of a host that no other server names.
    pub(crate) fn nginx_default(self) -> &'static str {
        match self {
            Self::Plain | Self::Bare | Self::Watched => "proxy_pass http://backend;",
            Self::Hosts | Self::Routes => "return 404;",
        }
    }

    /// nginx: one server for each host.
    pub(crate) fn nginx_servers(self, listen: &str) -> String {
        let mut text = String::new();
        for host in 0..self.hosts() {
            // Writing into a string cannot fail.
            let _ = writeln!(
                text,
                "    server {{ listen {listen}; server_name {}; location / {{ proxy_pass http://backend; }} }}",
                Places::host(host)
            );
        }
        text
    }

    /// HAProxy: how a request finds its backend.
    pub(crate) fn haproxy_routing(self) -> &'static str {
        match self {
            Self::Plain | Self::Bare | Self::Watched => "default_backend backend",
            Self::Hosts | Self::Routes => "use_backend %[req.hdr(host),lower,map_str({directory}/hosts.map)]",
        }
    }

    /// HAProxy: the file that maps hosts to backends.
    pub(crate) fn haproxy_map(self) -> String {
        (0..self.hosts()).map(|host| format!("{} backend\n", Places::host(host))).collect()
    }

    /// Ringway: the declarative file, as JSON.
    pub(crate) fn ringway_file(self, origin: &str) -> String {
        let upstream = self.ringway_upstream(origin);
        let mut text = format!(
            "{{\"upstreams\":[{{\"id\":\"backend\",\"type\":\"roundrobin\",{upstream}}}],\"routes\":["
        );
        let mut separator = "";
        let mut add = |id: &str, host: &str, uri: &str| {
            let _ = write!(
                text,
                "{separator}\n{{\"id\":\"{id}\",{host}\"uri\":\"{uri}\",\"upstream_id\":\"backend\"}}"
            );
            separator = ",";
        };
        match self {
            Self::Plain | Self::Bare | Self::Watched => add("1", "", "/*"),
            Self::Hosts | Self::Routes => {
                for number in 0..HOSTS {
                    let host = format!("\"host\":\"{}\",", Places::host(number));
                    if self == Self::Hosts {
                        add(&number.to_string(), &host, "/*");
                        continue;
                    }
                    for path in 0..PATHS {
                        add(&format!("{number}-{path}"), &host, &format!("{}/*", Places::path(path)));
                    }
                }
            }
        }
        text.push_str("\n]}\n");
        text
    }

    /// The backend's nodes, and who watches them.
    fn ringway_upstream(self, origin: &str) -> String {
        let more = match self {
            Self::Plain | Self::Hosts | Self::Routes => return format!("\"nodes\":{{\"{origin}\":1}}"),
            Self::Bare => NOTHING_WATCHES,
            Self::Watched => ALL_WATCHES,
        };
        let (host, port) = origin.rsplit_once(':').unwrap_or((origin, "80"));
        let node = format!("{{\"host\":\"{host}\",\"port\":{port},\"weight\":1}}");
        format!("\"nodes\":[{node},{IDLE_NODE}],{more}")
    }

    fn hosts(self) -> u32 {
        self.places().map_or(0, |places| places.hosts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ringways_file_is_json_with_a_route_for_each_place() {
        for (setup, routes) in [(Setup::Plain, 1), (Setup::Hosts, 10_000), (Setup::Routes, 1_000_000)] {
            let json: serde_json::Value = serde_json::from_str(&setup.ringway_file("127.0.0.1:2")).unwrap();
            assert_eq!(json["upstreams"][0]["nodes"]["127.0.0.1:2"], 1);
            let all = json["routes"].as_array().unwrap();
            assert_eq!(all.len(), routes);
            assert_eq!(all.last().unwrap()["uri"], if setup == Setup::Routes { "/p099/*" } else { "/*" });
            let host = all.last().unwrap().get("host").and_then(serde_json::Value::as_str);
            assert_eq!(host, (setup != Setup::Plain).then_some("h009999.test"));
        }
    }

    #[test]
    fn what_is_watched_and_what_is_not_differ_in_nothing_else() {
        let of = |setup: Setup| -> serde_json::Value {
            serde_json::from_str(&setup.ringway_file("127.0.0.1:2")).unwrap()
        };
        let [mut bare, mut watched] = [Setup::Bare, Setup::Watched].map(of);
        assert_eq!(watched["upstreams"][0]["checks"]["active"]["http_path"], "/status/200");
        for file in [&mut bare, &mut watched] {
            let upstream = file["upstreams"][0].as_object_mut().unwrap();
            for field in ["labels", "retries", "checks"] {
                upstream.remove(field);
            }
        }
        assert_eq!(bare, watched);
        assert_eq!(bare["upstreams"][0]["nodes"][0]["port"], 2);
    }

    #[test]
    fn every_peer_knows_every_host() {
        assert_eq!(Setup::Hosts.nginx_servers("a:1").lines().count(), 10_000);
        assert_eq!(Setup::Hosts.haproxy_map().lines().count(), 10_000);
        assert_eq!(Setup::Plain.nginx_servers("a:1") + &Setup::Plain.haproxy_map(), "");
    }
}
