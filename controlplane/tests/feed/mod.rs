//! The data plane's end of the local socket, played by the test with the real frames.
#![allow(dead_code, unreachable_pub, reason = "each test crate includes this file and uses a part of it")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringway_snapshot::frame::{FrameKind, HEADER_BYTES, Header, SCHEMA, SCHEMA_MIN, encode_as};
use ringway_snapshot::message::{Ack, Nack, Peer, Reason, ToControlplane, ToDataplane};
use ringway_snapshot::{Snapshot, Version};

/// For anything to come.
pub const WAIT_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// Listens as a data plane does.
pub struct Feed {
    listener: UnixListener,
    /// What came on any connection: a data plane keeps what it serves.
    seen: Arc<Mutex<Vec<Snapshot>>>,
}

/// One connection of a control plane.
pub struct Link {
    stream: UnixStream,
    /// Who is there.
    pub peer: Peer,
    /// Pings answered.
    pub pings: usize,
    /// What was taken last: deltas lead on from it.
    pub known: Option<Snapshot>,
    seen: Arc<Mutex<Vec<Snapshot>>>,
    /// Configurations that came as deltas.
    pub deltas: usize,
    schema: u16,
}

impl Feed {
    pub fn listen(path: &Path) -> Feed {
        let listener = UnixListener::bind(path).expect("bind");
        listener.set_nonblocking(true).expect("nonblocking");
        Feed { listener, seen: Arc::default() }
    }

    /// Waits for a control plane, says what is served, and hears who it is.
    #[track_caller]
    pub fn accept(&self, served: Option<Version>) -> Link {
        self.accept_as(SCHEMA, served)
    }

    /// The same as a data plane that knows no higher schema number.
    #[track_caller]
    pub fn accept_as(&self, schema_max: u16, served: Option<Version>) -> Link {
        let deadline = Instant::now() + WAIT_MAX;
        let mut stream = loop {
            match self.listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "no control plane connects");
                    std::thread::sleep(PAUSE);
                }
                Err(error) => panic!("accept: {error}"),
            }
        };
        stream.set_nonblocking(false).expect("blocking");
        stream.set_read_timeout(Some(WAIT_MAX)).expect("timeout");
        let own = Peer { schema_max, ..Peer::this("test".into()) };
        say(&mut stream, SCHEMA_MIN, &ToControlplane::Hello(own, served));
        let (SCHEMA_MIN, ToDataplane::Hello(peer)) = hear(&mut stream).expect("a Hello") else {
            panic!("not a Hello that any release reads")
        };
        let schema = schema_max.min(peer.schema_max);
        let seen = Arc::clone(&self.seen);
        let known = served.and_then(|version| find(&seen, version));
        Link { stream, peer, pings: 0, known, seen, deltas: 0, schema }
    }
}

impl Link {
    /// The next message that is no ping; pings are answered.
    #[track_caller]
    pub fn next(&mut self) -> ToDataplane {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            assert!(Instant::now() < deadline, "nothing but pings");
            let (schema, message) = hear(&mut self.stream).expect("a message");
            assert!(schema <= self.schema, "a frame of schema {schema} to a data plane of {}", self.schema);
            match message {
                ToDataplane::Ping => {
                    self.pings += 1;
                    say(&mut self.stream, self.schema, &ToControlplane::Pong);
                }
                // To the tests it is the same how a configuration comes.
                ToDataplane::Delta(delta) => {
                    let base = self.known.as_ref().expect("a delta needs a base");
                    let snapshot = delta.apply(base).expect("the delta fits");
                    self.deltas += 1;
                    return ToDataplane::Full(snapshot);
                }
                message => return message,
            }
        }
    }

    /// The next message, which has to be a configuration.
    #[track_caller]
    pub fn full(&mut self) -> Snapshot {
        match self.next() {
            ToDataplane::Full(snapshot) => {
                snapshot.check_integrity().expect("whole");
                self.seen.lock().expect("lock").push(snapshot.clone());
                snapshot
            }
            other => panic!("not a configuration: {other:?}"),
        }
    }

    /// The next configuration; `None`: the control plane ends the connection.
    #[track_caller]
    pub fn offered(&mut self) -> Option<Snapshot> {
        loop {
            match hear(&mut self.stream) {
                Ok((_, ToDataplane::Ping)) => say(&mut self.stream, self.schema, &ToControlplane::Pong),
                Ok((schema, message @ (ToDataplane::Full(_) | ToDataplane::Delta(_)))) => {
                    assert!(
                        schema <= self.schema,
                        "a frame of schema {schema} to a data plane of {}",
                        self.schema
                    );
                    return Some(match message {
                        ToDataplane::Delta(delta) => {
                            delta.apply(self.known.as_ref()?).expect("the delta fits")
                        }
                        ToDataplane::Full(snapshot) => snapshot,
                        _ => return None,
                    });
                }
                Ok((_, other)) => panic!("not a configuration: {other:?}"),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Takes configurations and acknowledges each until one is as wanted.
    #[track_caller]
    pub fn until(&mut self, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        loop {
            if let ToDataplane::Full(snapshot) = self.next() {
                snapshot.check_integrity().expect("whole");
                self.seen.lock().expect("lock").push(snapshot.clone());
                self.ack(snapshot.version);
                if wanted(&snapshot) {
                    return snapshot;
                }
            }
        }
    }

    /// Answers pings until so many were; nothing else may come.
    #[track_caller]
    pub fn quiet_for_pings(&mut self, count: usize) {
        for _ in 0..count {
            match hear(&mut self.stream).expect("a message").1 {
                ToDataplane::Ping => say(&mut self.stream, self.schema, &ToControlplane::Pong),
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    pub fn ack(&mut self, version: Version) {
        let ack = Ack {
            version,
            cores: 2,
            received_us: 1,
            decoded_us: 2,
            compiled_us: 3,
            first_core_us: 4,
            last_core_us: 5,
        };
        self.known = find(&self.seen, version).or(self.known.take());
        say(&mut self.stream, self.schema, &ToControlplane::Ack(ack));
    }

    pub fn nack(&mut self, version: Version, reason: Reason) {
        say(&mut self.stream, self.schema, &ToControlplane::Nack(Nack { version, reason }));
    }

    /// Tells that another control plane has brought a version.
    pub fn serves(&mut self, version: Version) {
        say(&mut self.stream, self.schema, &ToControlplane::Serves(version));
    }
}

fn find(seen: &Mutex<Vec<Snapshot>>, version: Version) -> Option<Snapshot> {
    seen.lock().expect("lock").iter().find(|snapshot| snapshot.version == version).cloned()
}

fn say(stream: &mut UnixStream, schema: u16, message: &ToControlplane) {
    stream.write_all(&encode_as(schema, FrameKind::ToControlplane, message).expect("encode")).expect("write");
}

fn hear(stream: &mut UnixStream) -> std::io::Result<(u16, ToDataplane)> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let header = Header::decode(&header).expect("header");
    let mut payload = vec![0; header.payload_bytes];
    stream.read_exact(&mut payload)?;
    Ok((header.schema, header.open(FrameKind::ToDataplane, &payload).expect("payload")))
}
