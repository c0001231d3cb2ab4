//! From exec(2) to the first answer: a data plane that starts from a snapshot on disk, with nothing else up.
//!
//! `cargo run --profile fast -p ringway-bench --example boot_figures -- target/fast/ringway-dataplane [routes...]`
//!
//! A folder gets a snapshot whose routes lead to a server in this process; the data plane is started on it and asked for one route
//! until it answers 200. Both the clock and what the data plane's process used of the processor until then are told, least and median of some
//! starts, and the memory it had.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ringway_bench::snapshot_to;
use ringway_snapshot::frame::{FrameKind, encode};

const STARTS: usize = 5;
const DEADLINE: Duration = Duration::from_secs(60);
/// Linux tells times of processes in these, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(executable) = arguments.next() else {
        eprintln!("give the data plane's executable");
        std::process::exit(2);
    };
    let mut counts: Vec<usize> = arguments.filter_map(|count| count.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![1, 100_000, 1_000_000];
    }
    let origin = origin();
    for count in counts {
        let folder = std::env::temp_dir().join(format!("ringway-boot-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let snapshot = snapshot_to(count, origin);
        let bytes = encode(FrameKind::Disk, &snapshot).unwrap();
        fs::write(folder.join("current.snapshot"), &bytes).unwrap();
        let megabytes = bytes.len() as f64 / 1e6;
        drop((snapshot, bytes));
        let starts: Vec<Start> = (0..STARTS).map(|_| start(&executable, &folder, count)).collect();
        fs::remove_dir_all(&folder).unwrap();
        let (wall, cpu) = (least_and_median(&starts, |s| s.wall_ms), least_and_median(&starts, |s| s.cpu_ms));
        let memory = least_and_median(&starts, |s| s.memory_mb);
        println!(
            "{count:>8} routes, {megabytes:.1} MB: first answer after {:.0} ms (median {:.0}), processor {:.0} ms (median {:.0}), at most {:.0} MB of memory",
            wall.0, wall.1, cpu.0, cpu.1, memory.1
        );
    }
}

/// What one start took.
struct Start {
    wall_ms: f64,
    cpu_ms: f64,
    memory_mb: f64,
}

fn start(executable: &str, folder: &Path, count: usize) -> Start {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let from = Instant::now();
    let child = Command::new(executable)
        .args(["--listen", &port.to_string(), "--status", "127.0.0.1:0", "--node", "boot"])
        .arg("--snapshot-dir")
        .arg(folder)
        .arg("--feed-socket")
        .arg(folder.join("feed.sock"))
        .arg("--admin-socket")
        .arg(folder.join("admin.sock"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Ended(child);
    let n = count / 2;
    let request =
        format!("GET /api/v1/svc{n}/users/7 HTTP/1.1\r\nHost: tenant{}.example.com\r\n\r\n", n % 1_000);
    let head = loop {
        assert!(from.elapsed() < DEADLINE, "no answer came");
        assert!(child.0.try_wait().unwrap().is_none(), "the data plane has ended");
        match ask(port, &request) {
            Some(head) => break head,
            // Nobody listens yet. This is a poll of a port, for which there is nothing to wait on.
            None => thread::sleep(Duration::from_micros(500)),
        }
    };
    let wall_ms = from.elapsed().as_secs_f64() * 1e3;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let account = fs::read_to_string(format!("/proc/{}/stat", child.0.id())).unwrap();
    // The name stands in brackets and may hold blanks; utime and stime are the 14th and 15th field.
    let fields: Vec<&str> = account.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    let memory = fs::read_to_string(format!("/proc/{}/status", child.0.id())).unwrap();
    let most = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let memory_mb = most.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e3;
    Start { wall_ms, cpu_ms: ticks / TICKS_PER_SECOND * 1e3, memory_mb }
}

/// The first line of the answer, if somebody listens.
fn ask(address: SocketAddr, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    Some(line).filter(|line| !line.is_empty())
}

/// Answers every request with 200.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            thread::spawn(move || {
                let mut buffer = [0; 4_096];
                while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            });
        }
    });
    address
}

fn least_and_median(starts: &[Start], figure: fn(&Start) -> f64) -> (f64, f64) {
    let mut all: Vec<f64> = starts.iter().map(figure).collect();
    all.sort_by(f64::total_cmp);
    (all[0], all[all.len() / 2])
}

/// A process that does not outlive this one's interest in it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
