//! The program as a whole: source, pipeline, publisher and status socket, until it is told to stop.
//!
//! The pipeline is one loop: what the source gives is either offered, or told as refused. It is encoded when it is sent, and what
//! was never sent never is.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use ringway_snapshot::Fault;
use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::admin::inside::{Inside, InsideError};
use crate::admin::{Admin, AdminError};
use crate::board::{Board, Refusal};
use crate::config::{Config, SourceConfig};
use crate::control::{Answer, Control, ControlError, fleet_socket};
use crate::metrics::Metrics;
use crate::publish::{Configuration, Offer, Publisher};
use crate::source::file::{File, FileError};
use crate::source::postgresql::{Identity, Postgresql};
use crate::source::{Loaded, Source};

/// Why the program does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The status socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The Admin API.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The Control API.
    #[error(transparent)]
    Inside(#[from] InsideError),
    /// The metrics page.
    #[error("cannot listen on {0} for /metrics: {1}; give another address with --metrics")]
    Metrics(std::net::SocketAddr, std::io::Error),
    /// The declarative file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The data plane's socket has no directory.
    #[error(
        "the directory of the data plane's socket {socket} cannot be used: {reason}; create it, or give another --feed-socket"
    )]
    FeedDirectory {
        /// The socket.
        socket: String,
        /// Why.
        reason: std::io::Error,
    },
}

/// Runs until `stop` ends. Fails only at the start.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<(), StartError> {
    check_directory(&config.feed_socket)?;
    let (kind, detail) = match &config.source {
        SourceConfig::Postgresql(target) => ("postgresql", target.detail.clone()),
        SourceConfig::File(path) => ("file", path.display().to_string()),
    };
    let feed = config.feed_socket.display().to_string();
    let board = Arc::new(Board::new(&config.node, kind, detail.clone(), feed));
    let admin = match config.admin {
        Some(admin) => {
            Some(Admin::bind(admin, &config.source, config.admin_socket, Arc::clone(&board)).await?)
        }
        None => None,
    };
    let inside = match config.inside {
        Some(inside) => Some(Inside::bind(inside).await?),
        None => None,
    };
    let metrics = match config.metrics {
        Some(address) => {
            Some(Metrics::bind(address).await.map_err(|reason| StartError::Metrics(address, reason))?)
        }
        None => None,
    };
    if let Some(metrics) = &metrics {
        tracing::info!(address = %metrics.address, "metrics are served");
    }
    let source = match config.source {
        SourceConfig::Postgresql(target) => {
            let control =
                std::path::absolute(&config.control_socket).unwrap_or(config.control_socket.clone());
            let identity = Identity { node: config.node.clone(), control: control.display().to_string() };
            Source::Postgresql(Box::new(Postgresql::new(
                *target,
                config.poll_ms,
                identity,
                Arc::clone(&board),
            )))
        }
        SourceConfig::File(path) => {
            Source::File(Box::new(File::open(&path, &config.state_dir, Arc::clone(&board))?))
        }
    };
    let control = Control::bind(&config.control_socket).await?;
    let fleet = Control::bind(&fleet_socket(&config.control_socket)).await?;
    tracing::info!(
        build = env!("CARGO_PKG_VERSION"),
        node = config.node,
        kind,
        source = detail,
        "control plane runs"
    );
    let offer = watch::Sender::new(Offer::default());
    let publisher = Publisher::new(config.feed_socket, config.node, Arc::clone(&board), offer.subscribe());
    notify(&[NotifyState::Ready, NotifyState::Status(&board.line())]);
    let serve = control.serve(Answer::Status, Arc::clone(&board));
    let serve_fleet = fleet.serve(Answer::Fleet, Arc::clone(&board));
    tokio::select! {
        () = stop => tracing::info!("stopping"),
        // None of these ends. They are one task on purpose: a panic in any ends the program, and its supervisor
        // starts it anew, where a lost task would leave a control plane that looks alive.
        () = serve => {}
        () = administer(admin.as_ref()) => {}
        () = look_inside(inside.as_ref()) => {}
        () = serve_fleet => {}
        () = publisher.run() => {}
        () = tell(metrics.as_ref(), &board) => {}
        () = pipeline(source, &board, &offer) => {}
    }
    notify(&[NotifyState::Stopping]);
    Ok(())
}

/// The metrics page, where there is one.
async fn tell(metrics: Option<&Metrics>, board: &Arc<Board>) {
    match metrics {
        Some(metrics) => metrics.serve(Arc::clone(board)).await,
        None => std::future::pending().await,
    }
}

/// The Admin API, where there is one.
async fn administer(admin: Option<&Admin>) {
    match admin {
        Some(admin) => admin.serve().await,
        None => std::future::pending().await,
    }
}

/// The Control API, where there is one.
async fn look_inside(inside: Option<&Inside>) {
    match inside {
        Some(inside) => inside.serve().await,
        None => std::future::pending().await,
    }
}

async fn pipeline(mut source: Source, board: &Board, offer: &watch::Sender<Offer>) {
    let renumbers = matches!(source, Source::File(_));
    let mut told: Vec<Fault> = Vec::new();
    loop {
        let Loaded { version, outcome, times } = source.next().await;
        let faults = match outcome {
            Ok(snapshot) => {
                let objects = snapshot.entries.len();
                tracing::debug!(%version, objects, "accepted");
                told.clear();
                board.accepted(version, objects);
                let configuration = Configuration { snapshot, renumbers, times };
                let old = offer.send_replace(Offer { full: Some(Arc::new(configuration)), refused: None });
                notify(&[NotifyState::Status(&board.line())]);
                // The last holder of a large configuration takes a while to free it.
                drop(tokio::task::spawn_blocking(move || drop(old)));
                continue;
            }
            Err(faults) => faults,
        };
        // While somebody changes other objects a thousand times a second, the broken one is told once.
        if told != faults {
            for fault in &faults {
                tracing::error!(%version, "refused: {fault}");
            }
            told.clone_from(&faults);
        }
        tracing::error!(%version, faults = faults.len(), "this revision is refused whole; the one before stays in force");
        refuse(Refusal { version, faults }, board, offer);
    }
}

fn refuse(refusal: Refusal, board: &Board, offer: &watch::Sender<Offer>) {
    let refusal = Arc::new(refusal);
    offer.send_modify(|offer| offer.refused = Some(Arc::clone(&refusal)));
    board.refused(refusal);
    notify(&[NotifyState::Status(&board.line())]);
}

fn check_directory(socket: &Path) -> Result<(), StartError> {
    let dir = match socket.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    std::fs::read_dir(dir)
        .map(drop)
        .map_err(|reason| StartError::FeedDirectory { socket: socket.display().to_string(), reason })
}

/// Tells systemd, where there is one.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::debug!("systemd does not hear us: {error}");
    }
}
