//! The life of the process: it drains, hands over to another executable or does not, and says what is wrong with a core.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ringway_snapshot::message::ToControlplane;
use serde_json::{Value, json};
use stand::{
    Gateway, PATIENCE, connect, named_node, node, read_message_text, read_to_close, snapshot, wait_until,
};

/// Everything to one node, and the revision told by the answers to `/none`.
fn objects(node: SocketAddr) -> Vec<(&'static str, &'static str, Value)> {
    vec![("routes", "all", json!({"uri": "/*", "upstream": {"nodes": {node.to_string(): 1}}}))]
}

fn get(stream: &mut TcpStream, path: &str) -> std::io::Result<(String, Vec<u8>)> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?;
    let mut reader = BufReader::new(stream.try_clone()?);
    read_message_text(&mut reader).ok_or(ErrorKind::UnexpectedEof.into())
}

fn status(gateway: &Gateway, path: &str) -> String {
    let mut stream = connect(gateway.status);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    read_to_close(&mut stream)
}

fn pid(gateway: &Gateway) -> u64 {
    gateway.ctl_json("show info")["pid"].as_u64().unwrap()
}

fn runs(pid: u64) -> bool {
    // A zombie has no command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// Ends whatever process of the line serves when the test is over.
struct Line<'a>(&'a Gateway);

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let served = std::panic::catch_unwind(|| self.0.ctl("shutdown"));
        drop(served);
    }
}

/// Clients that count what fails.
struct Load {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    /// Clients with a connection for each request, and clients that keep theirs until they are told to close it.
    fn start(address: SocketAddr, each: usize) -> Load {
        let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..2 * each).map(|number| {
            let (stop, requests) = (Arc::clone(&stop), Arc::clone(&requests));
            std::thread::spawn(move || client(address, number % 2 == 0, &stop, &requests))
        });
        let threads = threads.collect();
        Load { stop, requests, threads }
    }

    fn wait_for_more(&self, more: u64) {
        let goal = self.requests.load(Relaxed) + more;
        wait_until("requests to be served", || (self.requests.load(Relaxed) >= goal).then_some(()));
    }

    /// What failed.
    fn end(self) -> Vec<String> {
        self.stop.store(true, Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

fn client(address: SocketAddr, keeps: bool, stop: &AtomicBool, requests: &AtomicU64) -> Vec<String> {
    let mut failures = Vec::new();
    let mut kept: Option<TcpStream> = None;
    while !stop.load(Relaxed) && failures.len() < 10 {
        let mut attempt = || -> std::io::Result<String> {
            let mut stream = match kept.take() {
                Some(stream) => stream,
                None => {
                    let stream = TcpStream::connect(address)?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_nodelay(true)?;
                    stream
                }
            };
            let (head, _) = get(&mut stream, "/")?;
            if keeps && !head.to_ascii_lowercase().contains("connection: close") {
                kept = Some(stream);
            }
            Ok(head)
        };
        match attempt() {
            Ok(head) if head.starts_with("HTTP/1.1 200 ") => {
                requests.fetch_add(1, Relaxed);
            }
            Ok(head) => failures.push(head),
            Err(error) => failures.push(format!("keeps {keeps}: {error}")),
        }
    }
    failures
}

#[test]
fn ten_upgrades_under_load_lose_no_request_and_no_version() {
    let origin = named_node("a");
    let gateway = Gateway::start();
    let _line = Line(&gateway);
    gateway.configure(1, &objects(origin));
    let load = Load::start(gateway.http, 4);
    let mut before = pid(&gateway);
    for revision in 2..12 {
        load.wait_for_more(50);
        let reply = gateway.ctl("upgrade");
        assert!(reply.starts_with("upgraded: "), "{reply}");
        let now = wait_until("the successor's answer", || Some(pid(&gateway)).filter(|now| *now != before));
        wait_until("the end of the predecessor", || (!runs(before)).then_some(()));
        before = now;
        let mut feed = gateway.feed();
        assert_eq!(
            feed.served.map(|version| version.revision),
            Some(revision - 1),
            "it serves what was served"
        );
        match feed.offer(snapshot(revision, &objects(origin))) {
            ToControlplane::Ack(ack) => assert_eq!(ack.version.revision, revision),
            other => panic!("{other:?}"),
        }
    }
    load.wait_for_more(50);
    assert_eq!(load.end(), Vec::<String>::new());
    assert!(status(&gateway, "/readyz").contains("200 OK"));
}

/// A node that answers with the host that it was asked for.
fn echoing_node() -> SocketAddr {
    node(|stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some((head, _)) = read_message_text(&mut reader) {
            let host = head.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap_or_default();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{host}", host.len());
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// Offers one revision after the other, to whoever serves, until it is told to stop; what was acknowledged last stands in `acked`.
fn push(folder: &Path, origin: SocketAddr, acked: &AtomicU64, stop: &AtomicBool) {
    let mut revision = acked.load(Relaxed) + 1;
    while !stop.load(Relaxed) {
        let Some(mut feed) = stand::try_feed_at(folder) else { continue };
        let served = feed.served.map_or(0, |version| version.revision);
        assert!(served >= acked.load(Relaxed), "{served} is served, {acked:?} was acknowledged");
        while !stop.load(Relaxed) {
            let upstream = json!({
                "nodes": {origin.to_string(): 1}, "pass_host": "rewrite", "upstream_host": format!("v{revision}"),
            });
            let objects = [("routes", "all", json!({"uri": "/*", "upstream": upstream}))];
            match feed.try_offer(snapshot(revision, &objects)) {
                Some(ToControlplane::Ack(ack)) => {
                    assert_eq!(ack.version.revision, revision);
                    acked.store(revision, Relaxed);
                    revision += 1;
                }
                Some(other) => panic!("{other:?}"),
                None => break,
            }
        }
    }
}

/// Asks on one connection as long as it is kept, with pauses, and checks that no answer is older than what was acknowledged
/// before its request was sent.
fn follow(address: SocketAddr, pause: Duration, acked: &AtomicU64, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        let mut stream = connect(address);
        loop {
            let known = acked.load(Relaxed);
            let (head, body) = match get(&mut stream, "/") {
                Ok(answer) => answer,
                // An idle connection may end just when it is used (RFC 9112 section 9.5).
                Err(_) if !pause.is_zero() => break,
                Err(error) => panic!("{error}"),
            };
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            let seen: u64 = String::from_utf8_lossy(&body).trim_start_matches('v').parse().unwrap();
            assert!(seen >= known, "{seen} was seen, {known} was everywhere");
            if head.contains("onnection: close") || stop.load(Relaxed) {
                break;
            }
            std::thread::sleep(pause); // What an idle client does; nothing waits for it.
        }
    }
}

/// Tells the threads of a test to stop, also when it fails.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn no_client_sees_an_older_version_than_was_acknowledged_over_upgrades_under_constant_change() {
    let origin = echoing_node();
    let gateway = Gateway::start();
    let _line = Line(&gateway);
    let address = gateway.http;
    let (acked, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let stopping = Stopping(&stop);
        let pusher = scope.spawn(|| push(gateway.folder.path(), origin, &acked, &stop));
        wait_until("the first version", || (acked.load(Relaxed) > 0).then_some(()));
        let clients: Vec<_> = [0_u64, 0, 90, 700, 1500]
            .map(|pause_ms| {
                let (acked, stop) = (&acked, &stop);
                scope.spawn(move || follow(address, Duration::from_millis(pause_ms), acked, stop))
            })
            .into_iter()
            .collect();
        for _ in 0..3 {
            let before = pid(&gateway);
            let reply = gateway.ctl("upgrade");
            assert!(reply.starts_with("upgraded: "), "{reply}");
            wait_until("the end of the predecessor", || (!runs(before)).then_some(()));
            let known = acked.load(Relaxed);
            wait_until("new versions", || (acked.load(Relaxed) > known + 3).then_some(()));
        }
        drop(stopping);
        pusher.join().unwrap();
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}

fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_successor_that_is_none_leaves_everything_as_it_was() {
    let origin = named_node("a");
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--upgrade-timeout-s", "2"]);
    gateway.configure(1, &objects(origin));
    let before = pid(&gateway);
    let mut feed = gateway.feed();
    let hangs = script(gateway.folder.path(), "hangs", "#!/bin/sh\nexec sleep 1000\n");
    let missing = gateway.folder.path().join("missing");
    let load = Load::start(gateway.http, 2);
    for (program, reason) in [
        (PathBuf::from("/bin/false"), "ended with exit code 1 before it was ready"),
        (hangs, "was not ready within 2 s"),
        (missing, "cannot start"),
        (PathBuf::from("/etc/passwd"), "cannot start"),
    ] {
        let reply = gateway.ctl(&format!("upgrade {}", program.display()));
        assert!(reply.starts_with("error: no upgrade") && reply.contains(reason), "{reply}");
        assert_eq!(reply.lines().count(), 1, "{reply}");
        assert_eq!(pid(&gateway), before);
        load.wait_for_more(20);
    }
    assert_eq!(load.end(), Vec::<String>::new());
    match feed.offer(snapshot(2, &objects(origin))) {
        ToControlplane::Ack(ack) => assert_eq!(ack.version.revision, 2),
        other => panic!("{other:?}"),
    }
    assert!(gateway.ctl("upgrade relative/path").starts_with("error:"));
}

#[test]
fn a_successor_with_fewer_or_more_cores_serves_every_socket() {
    let origin = named_node("a");
    let gateway = Gateway::start();
    let _line = Line(&gateway);
    gateway.configure(1, &objects(origin));
    for workers in [1_u64, 4, 3] {
        let before = pid(&gateway);
        let binary = env!("CARGO_BIN_EXE_ringway-dataplane");
        let text = format!("#!/bin/sh\nRINGWAY_WORKERS={workers} exec {binary} \"$@\"\n");
        let next = script(gateway.folder.path(), &format!("next-{workers}"), &text);
        let reply = gateway.ctl(&format!("upgrade {}", next.display()));
        assert!(reply.starts_with("upgraded: "), "{reply}");
        wait_until("the end of the predecessor", || (!runs(before)).then_some(()));
        let cores = gateway.ctl_json("show cores");
        let cores = cores.as_array().unwrap();
        assert_eq!(cores.len() as u64, workers);
        assert!(cores.iter().all(|core| core["listening"] == true && core["sockets"].as_u64() >= Some(1)));
        // So many that a socket that nobody serves would have got some.
        for _ in 0..200 {
            let (head, _) = get(&mut connect(gateway.http), "/").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        }
    }
}

#[test]
fn what_could_not_be_written_to_disk_is_handed_over_and_a_request_in_hand_is_finished() {
    let (started, release) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (began, go) = (Arc::clone(&started), Arc::clone(&release));
    let origin = node(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some((head, _)) = read_message_text(&mut reader) {
            if head.starts_with("GET /slow") {
                began.store(true, Relaxed);
                wait_until("the release", || go.load(Relaxed).then_some(()));
            }
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine").unwrap();
        }
    });
    let gateway = Gateway::start();
    let _line = Line(&gateway);
    gateway.configure(1, &objects(origin));
    let state = gateway.folder.path().join("state");
    // A file where the folder was: root may write anywhere, but not below a file.
    wait_until("the first save", || state.join("current.snapshot").exists().then_some(()));
    std::fs::rename(&state, gateway.folder.path().join("aside")).unwrap();
    gateway.configure(2, &objects(origin));
    let mut slow = gateway.connect();
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    wait_until("the slow request", || started.load(Relaxed).then_some(()));
    let before = pid(&gateway);
    let reply = gateway.ctl("upgrade");
    assert!(reply.starts_with("upgraded: "), "{reply}");
    assert_eq!(gateway.ctl_json("show info")["version"]["revision"], 2);
    assert!(runs(before), "it has a request in hand");
    release.store(true, Relaxed);
    let (head, body) = read_message_text(&mut BufReader::new(slow)).unwrap();
    assert!(head.contains("onnection: close"), "{head}");
    assert_eq!(body, b"fine");
    wait_until("the end of the predecessor", || (!runs(before)).then_some(()));
}

#[test]
fn a_drain_is_told_first_can_be_taken_back_and_then_closes_the_listeners() {
    let origin = named_node("a");
    let mut gateway = Gateway::start();
    gateway.configure(1, &objects(origin));
    assert!(gateway.ctl("drain 600").starts_with("draining"));
    assert!(status(&gateway, "/readyz").contains("not ready: draining"));
    assert!(status(&gateway, "/livez").contains("200 OK"));
    let mut kept = gateway.connect();
    let (head, _) = get(&mut kept, "/").unwrap();
    assert!(!head.contains("onnection: close"), "{head}");
    assert!(gateway.ctl("upgrade").contains("undrain"));
    assert_eq!(gateway.ctl("undrain").trim(), "serving again");
    assert!(status(&gateway, "/readyz").contains("200 OK"));
    assert!(gateway.ctl("drain 0").starts_with("draining"));
    let (head, _) = wait_until("the end of kept connections", || {
        let answer = get(&mut kept, "/").unwrap();
        answer.0.contains("onnection: close").then_some(answer)
    });
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    wait_until("the listeners to close", || TcpStream::connect(gateway.http).err());
    assert!(gateway.ctl("undrain").starts_with("error: the listeners are closed"));
    assert!(gateway.ctl("shutdown").starts_with("shutting down"));
    assert!(gateway.wait().success());
}

#[test]
fn connections_in_the_queue_of_a_listener_that_closes_are_served() {
    let origin = named_node("a");
    let mut gateway = Gateway::start();
    gateway.configure(1, &objects(origin));
    // New connections all the time: those that were made before the close must all get their answer.
    let address = gateway.http;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut served = 0_u64;
                loop {
                    // Refused, or not answered because the port is closing: never a connection.
                    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(900))
                    else {
                        return Ok(served);
                    };
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    match get(&mut stream, "/") {
                        Ok((head, _)) if head.starts_with("HTTP/1.1 200 ") => served += 1,
                        other => return Err(format!("after {served}: {other:?}")),
                    }
                }
            })
        })
        .collect();
    wait_until("some requests", || {
        (gateway.ctl_json("show info")["requests_total"].as_u64()? > 200).then_some(())
    });
    gateway.ctl("drain 0");
    for client in clients {
        client.join().unwrap().unwrap();
    }
    gateway.ctl("shutdown");
    assert!(gateway.wait().success());
}

#[test]
fn an_idle_connection_ends_without_a_reset_when_the_process_does() {
    let gateway = Gateway::start();
    gateway.configure(1, &objects(named_node("a")));
    let (mut used, mut fresh) = (gateway.connect(), gateway.connect());
    get(&mut used, "/").unwrap();
    wait_until("both connections", || (gateway.ctl_json("show info")["connections"] == 2).then_some(()));
    gateway.ctl("drain 0");
    for stream in [&mut used, &mut fresh] {
        assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "the end of the stream and no error");
    }
}

#[test]
fn a_core_that_stands_still_or_dies_is_told_and_the_other_one_serves() {
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--stuck-after-ms", "500"]);
    let _line = Line(&gateway);
    gateway.configure(1, &objects(named_node("a")));
    assert!(status(&gateway, "/livez").contains("200 OK"));
    gateway.ctl("fault 1 3000");
    let page = wait_until("a core to be stuck", || {
        Some(status(&gateway, "/livez")).filter(|page| page.contains("503"))
    });
    assert!(page.contains("core 1 has been stuck for"), "{page}");
    assert!(gateway.ctl_json("show cores")[1]["stuck_ms"].as_u64().unwrap() > 0);
    wait_until("it to turn again", || status(&gateway, "/livez").contains("200 OK").then_some(()));
    gateway.ctl("fault 0 die");
    // Until its panic is written down it may be told as stuck.
    wait_until("a core to die", || {
        let page = status(&gateway, "/livez");
        (page.contains("503") && page.contains("core 0 has died")).then_some(())
    });
    // Its socket is closed with it, so that every new connection comes to the other one.
    wait_until("its socket to close", || (gateway.ctl_json("show cores")[0]["sockets"] == 0).then_some(()));
    // What stood in the queue of its socket is lost, no more.
    let served = || -> Option<()> {
        for _ in 0..50 {
            let (head, _) = get(&mut TcpStream::connect(gateway.http).ok()?, "/").ok()?;
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        }
        Some(())
    };
    wait_until("the other core to serve every connection", served);
    let before = pid(&gateway);
    assert!(gateway.ctl("upgrade").starts_with("upgraded: "), "an upgrade heals it");
    wait_until("the end of the predecessor", || (!runs(before)).then_some(()));
    assert!(status(&gateway, "/livez").contains("200 OK"));
}

/// A service manager: the socket it listens on, and what it has heard.
struct Manager(UnixDatagram);

impl Manager {
    fn hear(&self, wanted: &str) -> String {
        let mut bytes = [0; 4096];
        loop {
            let count = self
                .0
                .recv(&mut bytes)
                .unwrap_or_else(|error| panic!("waited in vain for {wanted}: {error}"));
            let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
            if text.contains(wanted) {
                return text;
            }
        }
    }
}

#[test]
fn the_service_manager_hears_of_readiness_life_and_the_new_main_process() {
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager(UnixDatagram::bind(folder.path().join("notify")).unwrap());
    manager.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let environment = [
        ("NOTIFY_SOCKET".to_owned(), folder.path().join("notify").display().to_string()),
        ("WATCHDOG_USEC".to_owned(), "600000".to_owned()),
        ("WATCHDOG_PID".to_owned(), "1".to_owned()),
        ("RINGWAY_STUCK_AFTER_MS".to_owned(), "500".to_owned()),
    ];
    let gateway = Gateway::start_with(folder, &[], &environment);
    let _line = Line(&gateway);
    gateway.configure(1, &objects(named_node("a")));
    let first = pid(&gateway);
    assert!(manager.hear("READY=1").contains(&format!("MAINPID={first}")));
    manager.hear("WATCHDOG=1");
    assert!(gateway.ctl("upgrade").starts_with("upgraded: "));
    let next = pid(&gateway);
    assert!(manager.hear("READY=1").contains(&format!("MAINPID={next}")));
    manager.hear("WATCHDOG=1");
    gateway.ctl("fault 0 4000");
    wait_until("a core to be stuck", || status(&gateway, "/livez").contains("503").then_some(()));
    // What was said before is heard, then nothing until it turns again.
    manager.0.set_nonblocking(true).unwrap();
    while manager.0.recv(&mut [0; 4096]).is_ok() {}
    assert!(status(&gateway, "/livez").contains("503"));
    assert_eq!(manager.0.recv(&mut [0; 4096]).unwrap_err().kind(), ErrorKind::WouldBlock);
    manager.0.set_nonblocking(false).unwrap();
    manager.hear("WATCHDOG=1");
}

#[test]
fn sockets_of_a_service_manager_are_served_and_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // The manager's variable names the process that gets the sockets, which a shell can be before it becomes that.
    let start = || {
        let data_plane = stand::command(folder.path());
        let text = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", text, "sh"]).arg(data_plane.get_program()).args(data_plane.get_args());
        command
            .args(["--listen", &address.to_string()])
            .env("RINGWAY_WORKERS", "2")
            .env("RINGWAY_LOG", "warn");
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone().unwrap())));
        Gateway::spawn(&mut command, 2)
    };
    for revision in 1..3 {
        let mut queued = connect(address); // Before anybody is there to take it.
        let (mut child, _) = start();
        let mut feed = stand::feed_at(folder.path());
        assert!(matches!(feed.offer(snapshot(revision, &objects(named_node("a")))), ToControlplane::Ack(_)));
        // One answer may be from before the configuration.
        let (head, _) = get(&mut queued, "/").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        drop(queued);
        stand::ctl_at(folder.path(), "shutdown");
        assert!(wait_until("its end", || child.try_wait().unwrap()).success());
    }
}

#[test]
fn a_successor_knows_of_nodes_what_its_predecessor_knew() {
    let (well, drained) = (named_node("well"), named_node("drained"));
    // Probes find it dead, and there is no request that would.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start();
    let _line = Line(&gateway);
    // The successor makes no probe of its own within this test: what it says of the dead node it was told.
    let checks = |interval: u32| json!({"active": {"type": "tcp", "healthy": {"interval": interval}, "unhealthy": {"interval": interval, "tcp_failures": 1}}});
    let port = well.port();
    let name = format!("localhost:{port}");
    let upstream = json!({"nodes": {well.to_string(): 1, drained.to_string(): 1, dead.to_string(): 1}, "checks": checks(1)});
    let named = json!({"uri": "/named", "upstream": {"nodes": {name: 1}}});
    gateway.configure(
        1,
        &[("routes", "all", json!({"uri": "/*", "upstream": upstream})), ("routes", "named", named)],
    );
    let state = |address: SocketAddr| {
        let told = gateway.ctl_json("show upstream routes/all");
        let nodes = told["nodes"].as_array().unwrap().clone();
        nodes.into_iter().find(|node| node["address"] == address.to_string()).unwrap()
    };
    gateway.ctl(&format!("set server routes/all/{drained} drain"));
    wait_until("the dead node to be found", || (state(dead)["state"] == "unhealthy").then_some(()));
    let sick_ms = state(dead)["checks"]["for_ms"].as_u64().unwrap();
    assert!(get(&mut gateway.connect(), "/named").unwrap().0.contains("200"));
    let before = pid(&gateway);
    let said = gateway.ctl("upgrade");
    assert!(said.starts_with("upgraded"), "{said}");
    wait_until("the successor", || (pid(&gateway) != before).then_some(()));
    let node = state(dead);
    assert_eq!(node["state"], "unhealthy", "{node}");
    // Since the process before found it, or as long as this process can tell; never "just now found by a probe of its own".
    let history = gateway.ctl(&format!("show health routes/all/{dead} history"));
    assert!(history.contains("as the process before knew"), "{history}, {sick_ms}");
    let node = state(drained);
    assert_eq!((&node["state"], &node["temporary"]), (&json!("drain"), &json!("drain")), "{node}");
    for _ in 0..20 {
        let (head, body) = get(&mut gateway.connect(), "/").unwrap();
        assert!(head.contains("200") && body == b"well", "{head} {}", String::from_utf8_lossy(&body));
        assert!(get(&mut gateway.connect(), "/named").unwrap().0.contains("200"));
    }
    // And the next one knows it from that one.
    let before = pid(&gateway);
    assert!(gateway.ctl("upgrade").starts_with("upgraded"));
    wait_until("the next successor", || (pid(&gateway) != before).then_some(()));
    assert_eq!(state(drained)["state"], "drain");
}
