//! What the program tells Prometheus, in its text format, from what stands on the board.
//!
//! Served by a listener of its own (`--metrics`), on `/metrics`: one request a connection, few at a time, and nothing else. The Admin API has
//! keys and is not everywhere; a page for a scraper needs neither.

use std::fmt::{Display, Write};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::board::{Board, Facts};
use crate::propagation::{BOUNDS, Histogram, Propagation, STAGES};

/// Connections at once; others wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16;
/// For a request to come and for its answer to be taken.
const WAIT: Duration = Duration::from_secs(5);
/// More than the head of a scraper's request has.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// After a failed accept (no descriptors left), so that it does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// The listener.
#[derive(Debug)]
pub struct Metrics {
    listener: TcpListener,
    /// Where it listens, where the port was left to the kernel.
    pub address: SocketAddr,
}

impl Metrics {
    /// Listens.
    pub async fn bind(address: SocketAddr) -> io::Result<Metrics> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Metrics { listener, address })
    }

    /// Answers until it is dropped.
    pub async fn serve(&self, board: Arc<Board>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let board = Arc::clone(&board);
                    tokio::spawn(async move {
                        // A peer that breaks off is its own matter.
                        let _ = timeout(WAIT, answer(stream, &board)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("metrics: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn answer(mut stream: TcpStream, board: &Board) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let (status, body) = match (method, path) {
        (b"GET", b"/metrics") => ("200 OK", page(&board.facts())),
        (b"GET", _) => ("404 Not Found", "there is /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "only GET\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// The whole page.
pub fn page(facts: &Facts) -> String {
    let mut page = Page(String::new());
    let name = "ringway_controlplane_build_info";
    page.head(name, "gauge", "Which build runs, and on which node.");
    let node = facts.node.replace('\\', "\\\\").replace('"', "\\\"");
    page.row(name, &format!("version=\"{}\",node=\"{node}\"", env!("CARGO_PKG_VERSION")), 1);
    let gauge = |page: &mut Page, name: &str, help: &str, value: u64| {
        page.head(name, "gauge", help);
        let _ = writeln!(page.0, "{name} {value}");
    };
    let flag = |page: &mut Page, name: &str, help: &str, value: bool| gauge(page, name, help, value.into());
    flag(
        &mut page,
        "ringway_controlplane_source_connected",
        "Whether the source is read.",
        facts.source_connected,
    );
    flag(
        &mut page,
        "ringway_controlplane_source_standby",
        "Whether a standby is read, for want of a primary.",
        facts.source_standby,
    );
    flag(
        &mut page,
        "ringway_controlplane_source_refused",
        "Whether its last revision is refused here.",
        facts.refused,
    );
    flag(
        &mut page,
        "ringway_controlplane_dataplane_connected",
        "Whether the data plane is connected.",
        facts.dataplane_connected,
    );
    flag(
        &mut page,
        "ringway_controlplane_dataplane_refused",
        "Whether the data plane refuses what it was offered.",
        facts.dataplane_refused,
    );
    let version = facts.version.map(|(version, _)| version).unwrap_or_default();
    gauge(
        &mut page,
        "ringway_controlplane_revision",
        "The last valid revision of the source.",
        version.revision,
    );
    gauge(&mut page, "ringway_controlplane_timeline", "Its timeline.", u64::from(version.timeline));
    let objects = facts.version.map_or(0, |(_, objects)| objects);
    gauge(&mut page, "ringway_controlplane_objects", "Objects in it.", objects as u64);
    let served = facts.served.unwrap_or_default();
    gauge(
        &mut page,
        "ringway_controlplane_dataplane_revision",
        "Revision that the data plane serves.",
        served.revision,
    );
    propagation(&mut page, &facts.propagation);
    page.0
}

fn propagation(page: &mut Page, told: &Propagation) {
    let name = "ringway_propagation_seconds";
    page.head(name, "histogram", "From a transaction's revision until its last core was heard to serve it.");
    page.buckets(name, "", &told.whole);
    let name = "ringway_propagation_stage_seconds";
    page.head(name, "histogram", "What each stage of that took.");
    for (stage, histogram) in STAGES.iter().zip(&told.stages) {
        page.buckets(name, &format!("stage=\"{stage}\","), histogram);
    }
    for (name, help, values) in [
        (
            "ringway_controlplane_applied_total",
            "Configurations that the data plane took, by form.",
            told.applied,
        ),
        ("ringway_controlplane_sent_bytes_total", "Bytes of those.", told.sent_bytes),
    ] {
        page.head(name, "counter", help);
        for (form, value) in ["full", "delta"].iter().zip(values) {
            page.row(name, &format!("form=\"{form}\""), value);
        }
    }
    let name = "ringway_controlplane_refused_total";
    page.head(name, "counter", "Configurations that the data plane refused.");
    let _ = writeln!(page.0, "{name} {}", told.refused);
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn row(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name}{{{labels}}} {value}");
    }

    fn buckets(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        for ((_, bound), count) in BOUNDS.iter().zip(histogram.sums()) {
            self.row(&format!("{name}_bucket"), &format!("{labels}le=\"{bound}\""), count);
        }
        self.row(&format!("{name}_bucket"), &format!("{labels}le=\"+Inf\""), histogram.count);
        let labels = match labels.trim_end_matches(',') {
            "" => String::new(),
            labels => format!("{{{labels}}}"),
        };
        let _ = writeln!(self.0, "{name}_sum{labels} {}", histogram.sum_seconds);
        let _ = writeln!(self.0, "{name}_count{labels} {}", histogram.count);
    }
}
