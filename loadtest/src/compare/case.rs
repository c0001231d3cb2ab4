//! What is compared: each case is one kind of load, by name, so that single ones can be chosen, and who takes part in it.

use super::peer::Peer;
use super::setup::Setup;

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) connections: usize,
    pub(crate) reply_bytes: u64,
    pub(crate) body_bytes: u64,
    pub(crate) new_connection: bool,
    pub(crate) field: Field,
    pub(crate) figure: Figure,
    /// What Ringway's ratio should not exceed, where there is such a promise.
    pub(crate) goal: Option<f64>,
}

/// Who takes part, configured for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    All(Setup),
    /// Ringway in two setups, each by a name; ratios are to the first, of the first build. Other builds' names stand before those.
    Ourselves([(&'static str, Setup); 2]),
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    CpuPerRequest,
    MemoryPerConnection,
}

/// Who takes part in a case: a peer in one setup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entrant {
    pub(crate) label: String,
    /// Its place among the peers.
    pub(crate) peer: usize,
    pub(crate) setup: Setup,
}

const BASE: Case = Case {
    name: "keepalive-64",
    title: "64 keep-alive connections, 128 B replies",
    connections: 64,
    reply_bytes: 128,
    body_bytes: 0,
    new_connection: false,
    field: Field::All(Setup::Plain),
    figure: Figure::CpuPerRequest,
    goal: None,
};

/// In this order: a peer is started once for the cases of one setup.
pub(crate) const CASES: [Case; 10] = [
    BASE,
    Case {
        name: "keepalive-512",
        title: "512 keep-alive connections, 128 B replies",
        connections: 512,
        ..BASE
    },
    Case {
        name: "new-connection",
        title: "a new connection per request, 64 at a time, 128 B replies",
        new_connection: true,
        ..BASE
    },
    Case {
        name: "reply-16k",
        title: "64 keep-alive connections, 16 KiB replies",
        reply_bytes: 16 * 1024,
        ..BASE
    },
    Case {
        name: "reply-1m",
        title: "16 keep-alive connections, 1 MiB replies",
        connections: 16,
        reply_bytes: 1024 * 1024,
        ..BASE
    },
    Case {
        name: "post-64k",
        title: "64 keep-alive connections, POST of 64 KiB, 128 B replies",
        body_bytes: 64 * 1024,
        ..BASE
    },
    Case {
        name: "hosts-10k",
        title: "10,000 hosts, 64 keep-alive connections, each request to another host, 128 B replies",
        field: Field::All(Setup::Hosts),
        goal: Some(0.62),
        ..BASE
    },
    Case {
        name: "routes-1m",
        title: "Ringway with 1,000,000 routes against itself with 10,000, the same requests",
        field: Field::Ourselves([("ringway-10k", Setup::Hosts), ("ringway-1m", Setup::Routes)]),
        goal: Some(1.05),
        ..BASE
    },
    Case {
        name: "idle",
        title: "idle keep-alive connections that were used once: resident memory",
        figure: Figure::MemoryPerConnection,
        ..BASE
    },
    Case {
        name: "checks",
        title: "Ringway with all that watches its nodes against itself with nothing of it, 64 keep-alive connections, 128 B replies",
        field: Field::Ourselves([("ringway-bare", Setup::Bare), ("ringway-watched", Setup::Watched)]),
        goal: Some(1.02),
        ..BASE
    },
];

impl Case {
    pub(crate) fn find(name: &str) -> Option<Self> {
        CASES.into_iter().find(|case| case.name == name)
    }

    /// The names that `find` knows, for an error message.
    pub(crate) fn names() -> String {
        CASES.map(|case| case.name).join(", ")
    }

    /// Who takes part. A proxy that somebody else configured does where the configuration does not matter.
    pub(crate) fn entrants(&self, peers: &[Peer]) -> Vec<Entrant> {
        let numbered = peers.iter().enumerate();
        match self.field {
            Field::All(setup) => numbered
                .filter(|(_, peer)| {
                    !peer.is_target() || setup == Setup::Plain && self.figure == Figure::CpuPerRequest
                })
                .map(|(peer, known)| Entrant { label: known.name.clone(), peer, setup })
                .collect(),
            Field::Ourselves(setups) => numbered
                .filter(|(_, peer)| peer.is_ringway())
                .enumerate()
                .flat_map(|(build, (peer, known))| {
                    setups.map(|(label, setup)| {
                        let label =
                            if build == 0 { label.to_owned() } else { format!("{}-{label}", known.name) };
                        Entrant { label, peer, setup }
                    })
                })
                .collect(),
        }
    }

    /// Whom ratios are to.
    pub(crate) fn baseline<'a>(&self, general: &'a str) -> &'a str {
        match self.field {
            Field::All(_) => general,
            Field::Ourselves([(first, _), _]) => first,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::peer::Kind;
    use super::*;

    #[test]
    fn who_takes_part_follows_from_the_case() {
        let peer = |name: &str, kind| Peer { name: name.into(), kind };
        let peers = [
            peer("nginx", Kind::Nginx { executable: "/n".into() }),
            peer("ringway", Kind::Ringway { executable: "/r".into() }),
            peer("before", Kind::Ringway { executable: "/b".into() }),
            peer("mine", Kind::Target { address: "127.0.0.1:1".parse().unwrap(), pid: 1 }),
        ];
        let labels = |name: &str| -> Vec<String> {
            Case::find(name).unwrap().entrants(&peers).into_iter().map(|entrant| entrant.label).collect()
        };
        assert_eq!(labels("post-64k"), ["nginx", "ringway", "before", "mine"]);
        assert_eq!(labels("hosts-10k"), ["nginx", "ringway", "before"]);
        assert_eq!(
            labels("routes-1m"),
            ["ringway-10k", "ringway-1m", "before-ringway-10k", "before-ringway-1m"]
        );
        assert_eq!(labels("checks")[..2], ["ringway-bare", "ringway-watched"]);
        assert_eq!(Case::find("checks").unwrap().baseline("nginx"), "ringway-bare");
        assert_eq!(labels("idle"), ["nginx", "ringway", "before"]);
        assert_eq!(Case::find("routes-1m").unwrap().baseline("nginx"), "ringway-10k");
        assert_eq!(Case::find("hosts-10k").unwrap().baseline("nginx"), "nginx");
    }
}
