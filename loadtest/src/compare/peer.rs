//! The proxies that are compared: how each is found, configured, started on one core, and stopped.
//!
//! Each gets a fresh process and directory per round. A peer that is not on the machine is reported and left out.
//! Only processes started here are ever ended, and a process's descendants only if they are still the ones that
//! were seen.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Signal, geteuid, getrlimit, kill_process};

use super::setup::Setup;
use crate::cpu::TreeSample;
use crate::stop::Stop;
use crate::{affinity, cpu, socket};

const NGINX_CONF: &str = include_str!("../../peers/nginx.conf");
const HAPROXY_CFG: &str = include_str!("../../peers/haproxy.cfg");

/// Until a peer accepts connections.
const START_WITHIN: Duration = Duration::from_secs(30);
/// A peer rests when it used less than this share of a core for so long; a million routes are also written to disk.
const REST_WINDOW: Duration = Duration::from_millis(500);
const REST_SHARE: u32 = 25;
const REST_WITHIN: Duration = Duration::from_secs(120);
/// Client connections of HAProxy, whose limit of files must hold twice as many, its pipes and some more.
const CONNECTIONS_MAX: u64 = 20_000;
const FILES_RESERVED: u64 = 1_000;
/// Between SIGTERM and SIGKILL.
const STOP_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How much of a failed peer's log is shown.
const LOG_LINES_SHOWN: usize = 10;

/// A proxy that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ringway {
        executable: PathBuf,
    },
    Nginx {
        executable: PathBuf,
    },
    Haproxy {
        executable: PathBuf,
    },
    /// Runs already, and goes on running.
    Target {
        address: SocketAddr,
        pid: u32,
    },
}

/// A peer that accepts connections.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    child: Option<Child>,
}

impl Peer {
    /// The peers on this machine, and what to say about those that are not.
    pub(crate) fn find_all(ringway: Option<&Path>) -> (Vec<Self>, Vec<String>) {
        let mut missing = Vec::new();
        let mut peers = Vec::new();
        let ringway = ringway.map(Path::to_path_buf).or_else(find_ringway);
        match ringway.filter(|path| path.is_file()) {
            Some(executable) => {
                peers.push(Self { name: "ringway".into(), kind: Kind::Ringway { executable } });
            }
            None => missing
                .push("ringway: no executable beside this one or in PATH; build it or give --ringway".into()),
        }
        match find("nginx") {
            Some(executable) => peers.push(Self { name: "nginx".into(), kind: Kind::Nginx { executable } }),
            None => missing.push("nginx: not found; apt-get install nginx-light".into()),
        }
        match find("haproxy") {
            Some(executable) => {
                peers.push(Self { name: "haproxy".into(), kind: Kind::Haproxy { executable } });
            }
            None => missing.push("haproxy: not found; apt-get install haproxy".into()),
        }
        (peers, missing)
    }

    /// `name=address=pid`, for clap.
    pub(crate) fn parse_target(text: &str) -> Result<Self, String> {
        let [name, address, pid] = text.split('=').collect::<Vec<_>>()[..] else {
            return Err("write NAME=IP:PORT=PID".to_owned());
        };
        if name.is_empty() {
            return Err("the name is empty".to_owned());
        }
        let address = address.parse().map_err(|_| format!("{address:?} is not IP:PORT"))?;
        let pid = pid.parse().map_err(|_| format!("{pid:?} is not a process id"))?;
        Ok(Self { name: name.to_owned(), kind: Kind::Target { address, pid } })
    }

    /// `name=executable`, for clap: a further build of Ringway.
    pub(crate) fn parse_also(text: &str) -> Result<Self, String> {
        let Some((name, executable)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err("write NAME=EXECUTABLE".to_owned());
        };
        let executable = PathBuf::from(executable);
        if !executable.is_file() {
            return Err(format!("there is no file {}", executable.display()));
        }
        Ok(Self { name: name.to_owned(), kind: Kind::Ringway { executable } })
    }

    /// What the executable says about its version.
    pub(crate) fn version(&self) -> Option<String> {
        let (executable, flag) = match &self.kind {
            Kind::Ringway { executable } => (executable, "--version"),
            Kind::Nginx { executable } | Kind::Haproxy { executable } => (executable, "-v"),
            Kind::Target { .. } => return None,
        };
        let output = Command::new(executable).arg(flag).stdin(Stdio::null()).output().ok()?;
        // nginx says it on standard error.
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).lines().next().map(str::to_owned)
    }

    /// Whether it is one of ours: only it is measured with a million routes.
    pub(crate) fn is_ringway(&self) -> bool {
        matches!(self.kind, Kind::Ringway { .. })
    }

    /// Whether somebody else has started and configured it.
    pub(crate) fn is_target(&self) -> bool {
        matches!(self.kind, Kind::Target { .. })
    }

    /// Starts the peer on `core`, with its files in `directory`, forwarding to `origin`.
    pub(crate) fn start(
        &self,
        setup: Setup,
        core: usize,
        directory: &Path,
        origin: SocketAddr,
    ) -> Result<Running> {
        if let Kind::Target { address, pid } = self.kind {
            return Ok(Running { name: self.name.clone(), address, pid, child: None });
        }
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let (address, status_address) = free_addresses()?;
        let log = directory.join("log");
        let command = self.command(setup, directory, address, status_address, origin)?;
        // A child inherits the core of the thread that starts it; that thread is not this one.
        std::thread::scope(|scope| {
            let pinned = scope.spawn(|| {
                affinity::pin(core)?;
                Running::launch(&self.name, command, address, &log)
            });
            pinned.join().unwrap_or_else(|_| bail!("the thread that starts {} panicked", self.name))
        })
    }

    fn command(
        &self,
        setup: Setup,
        directory: &Path,
        listen: SocketAddr,
        status: SocketAddr,
        origin: SocketAddr,
    ) -> Result<Command> {
        let write = |name: &str, text: String| -> Result<PathBuf> {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        let render = |template: &str| render(template, setup, directory, listen, origin);
        Ok(match &self.kind {
            Kind::Ringway { executable } => {
                let mut command = Command::new(executable);
                let file = write("ringway.json", setup.ringway_file(&origin.to_string()))?;
                command.arg("up").arg("--file").arg(file);
                command.arg("--listen").arg(listen.to_string()).arg("--status").arg(status.to_string());
                command.arg("--dir").arg(directory.join("state")).args(["--workers", "1", "--no-demo"]);
                // Its address is fixed, and more than one may run.
                command.args(["--admin-listen", "off"]);
                command
            }
            Kind::Nginx { executable } => {
                let mut command = Command::new(executable);
                command.arg("-p").arg(directory).arg("-c").arg(write("nginx.conf", render(NGINX_CONF))?);
                command
            }
            Kind::Haproxy { executable } => {
                write("hosts.map", setup.haproxy_map())?;
                let mut command = Command::new(executable);
                command.arg("-db").arg("-f").arg(write("haproxy.cfg", render(HAPROXY_CFG))?);
                command
            }
            Kind::Target { .. } => bail!("{} runs already", self.name),
        })
    }
}

fn render(template: &str, setup: Setup, directory: &Path, listen: SocketAddr, origin: SocketAddr) -> String {
    // As root, nginx would change to a user that may not enter the directory.
    let user_line = if geteuid().is_root() { "user root;" } else { "" };
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let connections = (files.saturating_sub(FILES_RESERVED) / 2).clamp(512, CONNECTIONS_MAX);
    template
        .replace("{servers}", &setup.nginx_servers(&listen.to_string()))
        .replace("{default}", setup.nginx_default())
        .replace("{routing}", setup.haproxy_routing())
        .replace("{directory}", &directory.display().to_string())
        .replace("{listen}", &listen.to_string())
        .replace("{origin}", &origin.to_string())
        .replace("{connections}", &connections.to_string())
        .replace("{user_line}", user_line)
}

/// Two different ports that were free a moment ago.
pub(crate) fn free_addresses() -> Result<(SocketAddr, SocketAddr)> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (first, second) = (socket::reserved(any)?, socket::reserved(any)?);
    Ok((first.local_addr()?, second.local_addr()?))
}

pub(crate) fn find_ringway() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.with_file_name("ringway");
    if beside.is_file() { Some(beside) } else { find("ringway") }
}

/// An executable in PATH, or where Debian keeps daemons.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps daemons where an ordinary user's PATH does not look.
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    directories.map(|directory| directory.join(name)).find(|path| path.is_file())
}

impl Running {
    /// Starts a proxy and waits until it listens.
    pub(crate) fn launch(name: &str, mut command: Command, address: SocketAddr, log: &Path) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(File::create(log)?)
            .stderr(File::options().append(true).open(log)?);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let mut running = Self { name: name.to_owned(), address, pid: child.id(), child: Some(child) };
        running.wait_until_listening(log)?;
        Ok(running)
    }

    fn wait_until_listening(&mut self, log: &Path) -> Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        loop {
            if TcpStream::connect_timeout(&self.address, START_WITHIN).is_ok() {
                return Ok(());
            }
            let exited = match &mut self.child {
                Some(child) => child.try_wait()?,
                None => None,
            };
            if let Some(status) = exited {
                bail!("{} ended at once ({status}):\n{}", self.name, end_of(log));
            }
            if Instant::now() >= deadline {
                bail!("{} did not listen on {} in time:\n{}", self.name, self.address, end_of(log));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until it has nothing to do: after a start that means that all of its configuration is in place.
    pub(crate) fn rest(&self, stop: &Stop) -> Result<()> {
        let deadline = Instant::now() + REST_WITHIN;
        loop {
            let before = TreeSample::take(self.pid)?;
            stop.sleep(REST_WINDOW)?;
            let used = TreeSample::take(self.pid)?.since(&before);
            if Duration::from_nanos(used.run_ns) < REST_WINDOW / REST_SHARE {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("{} is busy without any request", self.name);
            }
        }
    }

    /// Ends the peer and what it started. One that was given as a target is left alone.
    fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let tree: Vec<(u32, u64)> = cpu::tree(self.pid)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|pid| Some((pid, started_at(pid)?)))
            .collect();
        signal(self.pid, Signal::TERM);
        let deadline = Instant::now() + STOP_WITHIN;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        for (pid, start) in tree {
            if started_at(pid) == Some(start) {
                signal(pid, Signal::KILL);
            }
        }
        let _ = child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn signal(pid: u32, signal: Signal) {
    // It may have ended by itself meanwhile.
    let _ = i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| kill_process(pid, signal));
}

/// When a process started: with its id, this tells it from a later one with the same id.
fn started_at(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LOG_LINES_SHOWN)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    #[test]
    fn a_target_is_name_address_and_pid() {
        let peer = Peer::parse_target("mine=127.0.0.1:8080=42").unwrap();
        assert_eq!(peer.name, "mine");
        assert_eq!(peer.kind, Kind::Target { address: "127.0.0.1:8080".parse().unwrap(), pid: 42 });
        for text in ["mine", "mine=8080=42", "=127.0.0.1:1=2", "a=127.0.0.1:1=x", "a=127.0.0.1:1=2=3"] {
            assert!(Peer::parse_target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn another_ringway_is_name_and_executable() {
        let executable = std::env::current_exe().unwrap();
        let peer = Peer::parse_also(&format!("before={}", executable.display())).unwrap();
        assert_eq!((peer.name.as_str(), peer.kind), ("before", Kind::Ringway { executable }));
        for text in ["before", "=/bin/sh", "before=", "before=/nowhere/ringway"] {
            assert!(Peer::parse_also(text).is_err(), "{text}");
        }
    }

    #[test]
    fn configurations_are_filled_in() {
        let (listen, origin) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        let nginx = ["server 127.0.0.1:2 ", "listen 127.0.0.1:1 reuseport", "pid /d/nginx.pid"];
        for (template, setup, needed) in [
            (NGINX_CONF, Setup::Plain, &nginx[..]),
            (NGINX_CONF, Setup::Hosts, &["return 404;", "listen 127.0.0.1:1; server_name h009999.test;"]),
            (
                HAPROXY_CFG,
                Setup::Plain,
                &["bind 127.0.0.1:1 ", "server origin 127.0.0.1:2 ", "default_backend"],
            ),
            (HAPROXY_CFG, Setup::Hosts, &["map_str(/d/hosts.map)"]),
        ] {
            let text = render(template, setup, Path::new("/d"), listen, origin);
            for needed in needed {
                assert!(text.contains(needed), "{needed:?} is not in\n{text}");
            }
            for placeholder in
                ["{directory}", "{listen}", "{origin}", "{user_line}", "{servers}", "{connections}"]
            {
                assert!(!text.contains(placeholder), "{placeholder} is left in\n{text}");
            }
        }
    }

    /// A running peer and its origin, which tells every head that it gets.
    struct Stage {
        running: Running,
        got: Receiver<String>,
        _folder: tempfile::TempDir,
    }

    impl Stage {
        fn start(peer: &Peer, setup: Setup) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let origin = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = origin.local_addr().unwrap();
            let (send, got) = channel();
            std::thread::spawn(move || {
                for stream in origin.incoming() {
                    let mut stream = stream.unwrap();
                    let (mut head, mut byte) = (Vec::new(), [0]);
                    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                        head.extend_from_slice(&byte);
                    }
                    let _ = send.send(String::from_utf8(head).unwrap());
                    let _ = stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                }
            });
            let core = affinity::allowed().unwrap()[0];
            let running = peer.start(setup, core, folder.path(), address).unwrap();
            Self { running, got, _folder: folder }
        }

        /// The answer for that host, and what the origin got.
        fn ask(&self, host: &str) -> (String, Option<String>) {
            let mut client = TcpStream::connect(self.running.address).unwrap();
            let request = format!("GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            client.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            let _ = client.read_to_string(&mut answer);
            let port = self.running.address.port().to_string();
            let head = self.got.try_recv().ok();
            (answer, head.map(|head| head.to_ascii_lowercase().replace(&port, "{port}")))
        }

        /// The same as soon as it is answered well: a peer may listen before it has its configuration.
        fn ask_when_ready(&self, host: &str) -> String {
            let deadline = Instant::now() + START_WITHIN * 4;
            loop {
                let (answer, head) = self.ask(host);
                if answer.starts_with("HTTP/1.1 200") {
                    return head.unwrap();
                }
                assert!(Instant::now() < deadline, "{}: {answer}", self.running.name);
                std::thread::sleep(LOOK_EVERY);
            }
        }
    }

    #[test]
    fn peers_do_the_same_work_on_a_head() {
        for peer in Peer::find_all(None).0 {
            let head = Stage::start(&peer, Setup::Plain).ask_when_ready("shop.test");
            for line in [
                "host: shop.test",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-proto: http",
                "x-forwarded-host: shop.test",
                "x-forwarded-port: {port}",
                "x-real-ip: 127.0.0.1",
            ] {
                assert!(head.contains(&format!("\r\n{line}\r\n")), "{}: no {line:?} in\n{head}", peer.name);
            }
        }
    }

    #[test]
    fn peers_with_many_hosts_know_theirs_and_no_other() {
        for peer in Peer::find_all(None).0 {
            let stage = Stage::start(&peer, Setup::Hosts);
            stage.ask_when_ready("h009999.test");
            let (answer, seen) = stage.ask("h010000.test");
            assert!(seen.is_none() && !answer.starts_with("HTTP/1.1 200"), "{}: {answer}", peer.name);
        }
    }

    #[test]
    fn stopping_ends_the_whole_tree() {
        let mut shell = Command::new("sh");
        // The shell ends when asked to; what it started would stay.
        shell.args(["-c", "sleep 600 & echo $!; wait"]).stdout(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
            .unwrap();
        let grandchild: u32 = line.trim().parse().unwrap();
        let start = started_at(grandchild).unwrap();
        let pid = child.id();
        let mut running =
            Running { name: "sh".into(), address: "127.0.0.1:1".parse().unwrap(), pid, child: Some(child) };
        running.stop();
        let deadline = Instant::now() + Duration::from_secs(20);
        while started_at(grandchild) == Some(start) && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        assert_ne!(started_at(grandchild), Some(start));
    }
}
