//! A data plane under test: the real executable on ports that the kernel chose, configured over its real feed socket.
//!
//! The test plays the control plane and the nodes. Everything is killed and removed when the stand is dropped.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(missing_debug_implementations, reason = "nobody prints a stand")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ringway_snapshot::frame::{self, FrameKind, HEADER_BYTES, Header};
use ringway_snapshot::message::{Peer, ToControlplane, ToDataplane};
use ringway_snapshot::parse::parse_object;
use ringway_snapshot::{Delta, Snapshot};
use serde_json::Value;

/// Longer than anything here takes; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running data plane.
pub struct Gateway {
    child: Child,
    pub http: SocketAddr,
    pub status: SocketAddr,
    pub folder: tempfile::TempDir,
}

impl Gateway {
    /// Starts one with two cores in a folder of its own.
    pub fn start() -> Gateway {
        Gateway::start_in(tempfile::tempdir().unwrap(), &[])
    }

    /// Starts one that finds what an earlier one left in `folder`.
    pub fn start_in(folder: tempfile::TempDir, flags: &[&str]) -> Gateway {
        Gateway::start_with(folder, flags, &[])
    }

    /// Starts one with variables of its own.
    pub fn start_with(
        folder: tempfile::TempDir,
        flags: &[&str],
        environment: &[(String, String)],
    ) -> Gateway {
        let mut command = command(folder.path());
        command.args(flags).envs(environment.iter().map(|(name, value)| (name, value)));
        let (child, addresses) = Gateway::spawn(&mut command, 1);
        let [http, status] = addresses[..] else { panic!("{addresses:?}") };
        Gateway { child, http, status, folder }
    }

    /// Starts one that may have so many descriptors open.
    pub fn start_with_descriptors(descriptors: u32) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let direct = command(folder.path());
        let mut limited = Command::new("sh");
        limited.arg("-c").arg(format!("ulimit -n {descriptors}; exec \"$0\" \"$@\""));
        limited.arg(direct.get_program()).args(direct.get_args()).stdin(Stdio::null());
        limited.envs(direct.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let (child, addresses) = Gateway::spawn(&mut limited, 1);
        let [http, status] = addresses[..] else { panic!("{addresses:?}") };
        Gateway { child, http, status, folder }
    }

    /// Starts a data plane that listens on so many addresses, and reads those and the one of its status.
    pub fn spawn(command: &mut Command, http: usize) -> (Child, Vec<SocketAddr>) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = |kind: &str| -> SocketAddr {
            let start = format!("listening {kind} ");
            let mut line = || lines.next().expect("the data plane ended at its start").unwrap();
            std::iter::repeat_with(&mut line)
                .find_map(|line| line.strip_prefix(&start)?.parse().ok())
                .unwrap()
        };
        let mut addresses: Vec<SocketAddr> = (0..http).map(|_| address("http")).collect();
        addresses.push(address("status"));
        // Its successors write there too.
        std::thread::spawn(move || lines.for_each(drop));
        (child, addresses)
    }

    /// A control plane's connection to it.
    pub fn feed(&self) -> Feed {
        feed_at(self.folder.path())
    }

    /// The connection of a control plane that knows no higher schema number.
    pub fn feed_as(&self, schema_max: u16) -> Feed {
        wait_until("a greeting", || try_feed_as(self.folder.path(), schema_max))
    }

    /// Configures it, and checks that every core runs that.
    pub fn configure(&self, revision: u64, objects: &[(&str, &str, Value)]) {
        match self.feed().offer(snapshot(revision, objects)) {
            ToControlplane::Ack(ack) => assert_eq!(ack.version.revision, revision),
            other => panic!("{other:?}"),
        }
    }

    /// The reply to an operator's command.
    pub fn ctl(&self, command: &str) -> String {
        ctl_at(self.folder.path(), command)
    }

    pub fn ctl_json(&self, command: &str) -> Value {
        let reply = self.ctl(&format!("{command} json"));
        serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{error}: {reply}"))
    }

    /// A client's connection.
    pub fn connect(&self) -> TcpStream {
        connect(self.http)
    }

    /// Sends raw bytes on a connection of their own and reads until the gateway closes it.
    pub fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        read_to_close(&mut stream)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, and gives its folder back.
    pub fn kill(mut self) -> tempfile::TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// Waits for its own end.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        wait_until("the end of the data plane", || self.child.try_wait().unwrap())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        end_successors(self.folder.path());
    }
}

/// Ends what upgrades left behind in this folder: its processes would write there again while it is being removed.
fn end_successors(folder: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let left = processes_of(folder);
        if left.is_empty() {
            return;
        }
        for pid in left.into_iter().filter_map(rustix::process::Pid::from_raw) {
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Data planes whose flags name the folder.
fn processes_of(folder: &Path) -> Vec<i32> {
    let folder = folder.to_str().unwrap();
    let is_of_it = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut words = line.split('\0');
        // Whatever their executable is called.
        words.any(|word| word == "--feed-socket") && words.any(|word| word.starts_with(folder))
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let all = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(is_of_it).collect()
}

/// The executable with everything in `folder` and on ports of the kernel's choice.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway-dataplane"));
    let at = |name: &str| -> PathBuf { folder.join(name) };
    command
        .args(["--listen", "127.0.0.1:0", "--status", "127.0.0.1:0", "--node", "test"])
        .arg("--snapshot-dir")
        .arg(at("state"))
        .arg("--feed-socket")
        .arg(at("feed.sock"))
        .arg("--admin-socket")
        .arg(at("admin.sock"))
        .env("RINGWAY_LOG", "warn")
        .env("RINGWAY_WORKERS", "2")
        .stdin(Stdio::null());
    command
}

/// A control plane's connection to the data plane of this folder.
pub fn feed_at(folder: &Path) -> Feed {
    wait_until("a greeting", || try_feed_at(folder))
}

/// As [`feed_at`]; `None` when the connection ends before a greeting, because another process takes over.
pub fn try_feed_at(folder: &Path) -> Option<Feed> {
    try_feed_as(folder, frame::SCHEMA)
}

fn try_feed_as(folder: &Path, schema_max: u16) -> Option<Feed> {
    let mut stream = UnixStream::connect(folder.join("feed.sock")).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut feed = match try_read_message(&mut stream).ok()? {
        ToControlplane::Hello(_, served) => Feed { stream, served },
        other => panic!("{other:?}"),
    };
    feed.send(&ToDataplane::Hello(Peer { schema_max, ..Peer::this("test".into()) }));
    Some(feed)
}

/// The reply of the data plane of this folder to an operator's command.
pub fn ctl_at(folder: &Path, command: &str) -> String {
    let mut stream = UnixStream::connect(folder.join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("{command}\n").as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

/// A control plane as far as the data plane can tell.
pub struct Feed {
    stream: UnixStream,
    pub served: Option<ringway_snapshot::Version>,
}

impl Feed {
    pub fn send(&mut self, message: &ToDataplane) {
        let schema =
            if matches!(message, ToDataplane::Delta(_)) { frame::SCHEMA_DELTA } else { frame::SCHEMA_MIN };
        self.send_bytes(&frame::encode_as(schema, FrameKind::ToDataplane, message).unwrap());
    }

    /// The next answer.
    pub fn hear(&mut self) -> ToControlplane {
        read_message(&mut self.stream)
    }

    /// Offers what leads from one configuration to another, and waits for the answer.
    pub fn offer_delta(&mut self, base: &Snapshot, target: &Snapshot) -> ToControlplane {
        self.send(&ToDataplane::Delta(Delta::between(base, target)));
        self.hear()
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Offers a configuration and waits for the answer.
    pub fn offer(&mut self, snapshot: Snapshot) -> ToControlplane {
        self.send(&ToDataplane::Full(snapshot));
        read_message(&mut self.stream)
    }

    /// Offers a configuration; `None` when the connection ends instead of an answer.
    pub fn try_offer(&mut self, snapshot: Snapshot) -> Option<ToControlplane> {
        let bytes = frame::encode(FrameKind::ToDataplane, &ToDataplane::Full(snapshot)).unwrap();
        self.stream.write_all(&bytes).ok()?;
        try_read_message(&mut self.stream).ok()
    }

    /// Whether the data plane ends the connection.
    pub fn is_closed(&mut self) -> bool {
        matches!(
            self.stream.read(&mut [0]).map_err(|error| error.kind()),
            Ok(0) | Err(std::io::ErrorKind::ConnectionReset)
        )
    }
}

fn read_message(stream: &mut UnixStream) -> ToControlplane {
    try_read_message(stream).unwrap()
}

fn try_read_message(stream: &mut UnixStream) -> std::io::Result<ToControlplane> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let header = Header::decode(&header).unwrap();
    let mut payload = vec![0; header.payload_bytes];
    stream.read_exact(&mut payload)?;
    Ok(header.open(FrameKind::ToControlplane, &payload).unwrap())
}

/// A configuration of lineage 1 and timeline 1.
pub fn snapshot(revision: u64, objects: &[(&str, &str, Value)]) -> Snapshot {
    let entries = objects.iter().map(|(kind, id, spec)| parse_object(kind, id, spec).unwrap()).collect();
    Snapshot::new(1, 1, revision, entries)
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub fn read_to_close(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer still leaves the answer.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A node: `answer` gets each connection.
pub fn node(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = std::sync::Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, answer) = (stream.unwrap(), std::sync::Arc::clone(&answer));
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

/// Reads one message's head, and its body where Content-Length tells one. `None` at the end of the stream.
pub fn read_message_text(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        head.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
        .map_or(0, |length| length.trim().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// A node that answers every request with its name.
pub fn named_node(name: &'static str) -> SocketAddr {
    node(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while read_message_text(&mut reader).is_some() {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// Polls until there is a value.
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
