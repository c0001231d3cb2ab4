//! A whole gateway of real executables in a folder of its own: PostgreSQL, both planes, backends.
//!
//! Ports are chosen by the kernel and kept over restarts. Everything is killed when it is dropped, users of a part before
//! the part. It knows how to start, stop and find things, and nothing about load or judgement.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::cluster::{Cluster, DATABASE, Programs};
use super::cut::Cut;
use super::dns::Dns;
use super::process::{Launch, Process, SELF, end_orphans, reap_orphans};
use super::scenario::{Needs, libfaketime};
use super::sql::{Session, USER};
use super::watch::place;
use super::{ask, teller};
use crate::stop::Stop;

/// Nodes of the upstream under load.
const NODES: usize = 4;
const WORKERS: &str = "2";
const READY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Room for a few snapshots of a few routes.
const TMPFS_OPTIONS: &str = "size=1m,mode=0700";

/// What all rigs of a run share.
#[derive(Debug)]
pub(crate) struct Workshop {
    pub(crate) programs: Programs,
    /// Holds `ringway-dataplane` and `ringway-controlplane`.
    pub(crate) executables: PathBuf,
    pub(crate) stop: Stop,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    process: Process,
}

#[derive(Debug)]
pub(crate) struct Rig<'a> {
    // Dropped in this order.
    data: Option<Process>,
    control: Option<Process>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) cut: Option<Cut>,
    pub(crate) dns: Option<Dns>,
    pub(crate) standby: Option<Cluster>,
    pub(crate) primary: Cluster,
    /// The standby has taken over.
    pub(crate) is_promoted: bool,
    pub(crate) http: SocketAddr,
    status: SocketAddr,
    pub(crate) folder: PathBuf,
    needs: Needs,
    _tmpfs: Option<Tmpfs>,
    pub(crate) workshop: &'a Workshop,
}

impl<'a> Rig<'a> {
    /// Everything runs and every core serves the first configuration.
    pub(crate) fn start(workshop: &'a Workshop, folder: PathBuf, needs: Needs) -> Result<Self> {
        let stop = &workshop.stop;
        fs::create_dir_all(folder.join("snapshots"))?;
        let tmpfs = needs.small_disk.then(|| Tmpfs::mount(&folder.join("snapshots"))).transpose()?;
        let primary = workshop.programs.primary(folder.join("pg1"), stop)?;
        let standby = needs
            .standby
            .then(|| workshop.programs.standby(&primary, folder.join("pg2"), stop))
            .transpose()?;
        let cut = needs.cut.then(|| Cut::start(&primary.folder)).transpose()?;
        let dns = needs.names.then(|| Dns::start(&folder)).transpose()?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut rig = Self {
            data: None,
            control: None,
            nodes: Vec::new(),
            cut,
            dns,
            standby,
            primary,
            is_promoted: false,
            http: any,
            status: any,
            folder,
            needs,
            _tmpfs: tmpfs,
            workshop,
        };
        for number in 0..NODES {
            let node = rig.origin(number, any, &[])?;
            rig.nodes.push(node);
        }
        rig.start_data()?;
        rig.start_control()?;
        rig.seed()?;
        Ok(rig)
    }

    /// The server that takes changes.
    pub(crate) fn database(&self) -> &Cluster {
        match &self.standby {
            Some(standby) if self.is_promoted => standby,
            _ => &self.primary,
        }
    }

    pub(crate) fn session(&self) -> Result<Session> {
        self.database().session()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn data(&mut self) -> Result<&mut Process> {
        self.data.as_mut().context("no data plane runs")
    }

    pub(crate) fn control(&mut self) -> Result<&mut Process> {
        self.control.as_mut().context("no control plane runs")
    }

    /// Starts the data plane, the second time on the ports of the first; returns when it listens, with how often it had to
    /// be started.
    pub(crate) fn start_data(&mut self) -> Result<u32> {
        let path = |name: &str| self.path(name).display().to_string();
        let arguments = [
            ("--listen", self.http.to_string()),
            ("--status", self.status.to_string()),
            ("--workers", WORKERS.to_owned()),
            ("--snapshot-dir", path("snapshots")),
            ("--feed-socket", path("feed.sock")),
            ("--admin-socket", path("admin.sock")),
            ("--node", "fault".to_owned()),
        ];
        let deadline = Instant::now() + READY_WITHIN;
        // As a supervisor does: what ends is started again.
        for attempt in 1.. {
            let mut data = self.plane("ringway-dataplane", &arguments, Vec::new())?;
            match data.listening("listening http ", &self.workshop.stop) {
                Ok(http) => {
                    self.http = http;
                    self.status = data.listening("listening status ", &self.workshop.stop)?;
                    self.data = Some(data);
                    return Ok(attempt);
                }
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => self.workshop.stop.check()?,
            }
        }
        bail!("the data plane does not start")
    }

    /// Starts the control plane; it need not find anything to connect to.
    pub(crate) fn start_control(&mut self) -> Result<()> {
        let path = |name: &str| self.path(name).display().to_string();
        fs::create_dir_all(self.path("state"))?;
        let arguments = [
            ("--feed-socket", path("feed.sock")),
            ("--control-socket", path("control.sock")),
            ("--state-dir", path("state")),
            ("--node", "fault".to_owned()),
        ];
        let url = vec![("RINGWAY_DATABASE_URL".to_owned(), self.url())];
        self.control = Some(self.plane("ringway-controlplane", &arguments, url)?);
        Ok(())
    }

    /// kill -9.
    pub(crate) fn kill_control(&mut self) {
        self.control = None;
    }

    /// kill -9.
    pub(crate) fn kill_data(&mut self) {
        self.data = None;
        self.reap();
    }

    /// kill -9 of a backend.
    pub(crate) fn kill_node(&mut self, number: usize) -> Result<()> {
        self.nodes.get_mut(number).context("no such node")?.process.kill();
        Ok(())
    }

    /// A backend hangs: the kernel takes connections and requests for it, and nobody answers.
    pub(crate) fn hang_node(&self, number: usize) -> Result<()> {
        self.nodes.get(number).context("no such node")?.process.signal(Signal::STOP);
        Ok(())
    }

    /// A backend that hangs goes on.
    pub(crate) fn wake_node(&self, number: usize) -> Result<()> {
        self.nodes.get(number).context("no such node")?.process.signal(Signal::CONT);
        Ok(())
    }

    /// Starts a killed backend again, on its port.
    pub(crate) fn start_node(&mut self, number: usize) -> Result<()> {
        self.start_node_as(number, &[])
    }

    /// Starts a killed backend again, on its port, with flags of its own.
    pub(crate) fn start_node_as(&mut self, number: usize, flags: &[&str]) -> Result<()> {
        let address = self.nodes.get(number).context("no such node")?.address;
        let node = self.origin(number, address, flags)?;
        if let Some(place) = self.nodes.get_mut(number) {
            *place = node;
        }
        Ok(())
    }

    /// Reaps what was left to this program by processes that died.
    pub(crate) fn reap(&self) {
        reap_orphans(&self.pids());
    }

    /// A JSON document from the data plane's admin socket.
    pub(crate) fn admin(&self, command: &str) -> Option<Value> {
        ask::document(&self.path("admin.sock"), command)
    }

    fn plane(
        &self,
        name: &str,
        flags: &[(&str, String)],
        mut environment: Vec<(String, String)>,
    ) -> Result<Process> {
        if let Some(library) = libfaketime().filter(|_| self.needs.fake_clock) {
            environment.extend([
                ("LD_PRELOAD".to_owned(), library.display().to_string()),
                ("FAKETIME_TIMESTAMP_FILE".to_owned(), self.path("clock").display().to_string()),
                ("FAKETIME_NO_CACHE".to_owned(), "1".to_owned()),
                ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
            ]);
            if !self.path("clock").exists() {
                fs::write(self.path("clock"), "+0\n")?;
            }
        }
        let mut program = self.workshop.executables.join(name);
        let mut arguments: Vec<String> =
            flags.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]).collect();
        if let Some(dns) = &self.dns {
            (program, arguments) = dns.launch(&program, &arguments);
        }
        Process::start(Launch {
            program: &program,
            arguments,
            environment,
            log: &self.path(&format!("{name}.log")),
            user: None,
        })
    }

    fn origin(&self, number: usize, address: SocketAddr, flags: &[&str]) -> Result<Node> {
        let (listen, name) = (address.to_string(), format!("node-{number}"));
        let own = ["origin", "--listen", &listen, "--name", &name];
        let mut process = Process::start(Launch {
            program: Path::new(SELF),
            arguments: own.iter().chain(flags).map(|&argument| argument.to_owned()).collect(),
            environment: Vec::new(),
            log: &self.path(&format!("node-{number}.log")),
            user: None,
        })?;
        let address = process.listening("listening ", &self.workshop.stop)?;
        Ok(Node { address, process })
    }

    fn url(&self) -> String {
        if let Some(cut) = &self.cut {
            return format!("postgresql://{USER}@{}/{DATABASE}", cut.address);
        }
        let hosts: Vec<String> = std::iter::once(&self.primary)
            .chain(&self.standby)
            .map(|cluster| cluster.folder.display().to_string())
            .collect();
        format!("postgresql:///{DATABASE}?host={}&user={USER}", hosts.join(","))
    }

    /// The configuration under load: everything to three nodes, and the route that tells of changes.
    fn seed(&self) -> Result<()> {
        // The first version, of nothing, tells that all migrations are done: rows without triggers would have no revision.
        self.until("the schema", || self.admin("show snapshot json")?.get("version").and_then(place))?;
        let name = |(number, node): (usize, &Node)| match self.dns {
            Some(_) => format!("{}:{}", Dns::name(number), node.address.port()),
            None => node.address.to_string(),
        };
        let nodes: serde_json::Map<String, Value> =
            self.nodes.iter().enumerate().map(|node| (name(node), json!(1))).collect();
        let teller = teller::start()?;
        let told = json!({"uri": "/told", "upstream": {
            "type": "roundrobin", "nodes": {teller.to_string(): 1}, "pass_host": "rewrite", "upstream_host": "c0"
        }});
        let uris = json!({"uris": ["/load", "/echo", "/delay/*"], "upstream_id": "nodes"});
        let rows = self.session()?.run(&format!(
            "BEGIN; INSERT INTO ringway.resource (kind, id, spec) VALUES ('upstreams', 'nodes', '{}'), \
             ('routes', 'load', '{uris}'), ('routes', 'told', '{told}'); COMMIT; \
             SELECT timeline, revision FROM ringway.head",
            json!({"type": "roundrobin", "nodes": nodes}),
        ))?;
        let wanted = super::commits::place(rows.first()).context("ringway.head has no row")?;
        self.until("the first configuration on every core", || {
            let cores = self.admin("show cores json")?;
            let there = cores
                .as_array()?
                .iter()
                .all(|core| core.get("version").and_then(place).is_some_and(|version| version >= wanted));
            there.then_some(())
        })
    }

    /// Waits for `ready`.
    pub(crate) fn until<T>(&self, what: &str, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(value) = ready() {
                return Ok(value);
            }
            self.workshop.stop.check()?;
            if Instant::now() >= deadline {
                bail!("waited {} s for {what}\n{}", READY_WITHIN.as_secs(), self.logs());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The ends of both planes' logs, for whoever has to find out.
    pub(crate) fn logs(&self) -> String {
        let planes = [("control plane", &self.control), ("data plane", &self.data)];
        let ends = planes.iter().map(|(name, process)| {
            let end = process.as_ref().map_or_else(|| "does not run".to_owned(), Process::end_of_log);
            format!("--- {name}:\n{end}\n")
        });
        ends.collect()
    }

    fn pids(&self) -> Vec<u32> {
        let planes = [&self.data, &self.control].into_iter().flatten().map(Process::pid);
        let servers = [Some(&self.primary), self.standby.as_ref()].into_iter().flatten();
        planes
            .chain(self.nodes.iter().map(|node| node.process.pid()))
            .chain(servers.filter_map(Cluster::pid))
            .collect()
    }
}

impl Drop for Rig<'_> {
    fn drop(&mut self) {
        // What an upgrade left behind uses the folder and the ports.
        self.data = None;
        self.control = None;
        self.nodes.clear();
        self.cut = None;
        self.dns = None;
        if let Some(standby) = &mut self.standby {
            standby.kill();
        }
        self.primary.kill();
        end_orphans(&[]);
    }
}

/// A small disk; unmounted when it is dropped.
#[derive(Debug)]
pub(crate) struct Tmpfs {
    folder: PathBuf,
}

impl Tmpfs {
    pub(crate) fn mount(folder: &Path) -> Result<Self> {
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", TMPFS_OPTIONS, "ringway-fault"])
            .arg(folder)
            .stdin(Stdio::null())
            .output()
            .context("cannot run mount")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(Self { folder: folder.to_owned() })
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: who still has a file open there must not keep the folder.
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).stdin(Stdio::null()).output();
    }
}
