//! What is compared: each case is one kind of load, by name, so that single ones can be chosen.

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) connections: usize,
    pub(crate) reply_bytes: u64,
    pub(crate) body_bytes: u64,
    pub(crate) new_connection: bool,
}

const BASE: Case = Case {
    name: "keepalive-64",
    title: "64 keep-alive connections, 128 B replies",
    connections: 64,
    reply_bytes: 128,
    body_bytes: 0,
    new_connection: false,
};

pub(crate) const CASES: [Case; 6] = [
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
];

impl Case {
    pub(crate) fn find(name: &str) -> Option<Self> {
        CASES.into_iter().find(|case| case.name == name)
    }

    /// The names that `find` knows, for an error message.
    pub(crate) fn names() -> String {
        CASES.map(|case| case.name).join(", ")
    }
}
