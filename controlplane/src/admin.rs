//! The Admin API: Apache APISIX's paths, objects and answers, on every control plane; and beyond it transactions, history, rollback
//! and waiting until a change is served; and the dashboard ([`ui`]), which asks all of that.
//!
//! It holds no configuration: it reads from the source and writes to PostgreSQL through connections of its own, in transactions that
//! are checked before COMMIT ([`work`]). Any of a fleet's control planes may be asked. The file source is read only.
//!
//! Refuses: requests without a key, writes with a viewer's key, bodies over their limit, and everything that would make the
//! configuration invalid. Invariants: no key and no database URL in any log or answer; a client that goes away in the middle leaves
//! nothing half written.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, Response, StatusCode};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ringway_snapshot::Kind;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::answer::{Answer, Outcome};
use self::cors::Origins;
use self::dataplane::Dataplane;
use self::key::{Actor, Keys, Role};
use self::pool::Pool;
use self::request::{Asked, MANY_BODY_BYTES_MAX, OBJECT_BODY_BYTES_MAX, Query};
use self::resource::Target;
use self::shelf::Shelf;
use self::tls::{Tls, TlsError, TlsFiles};
use crate::board::Board;
use crate::config::SourceConfig;

mod answer;
mod catalog;
mod configs;
pub mod cors;
mod dataplane;
mod filter;
mod history;
pub mod inside;
mod item;
pub mod key;
mod nodes;
mod object;
mod openapi;
mod patch;
mod pool;
mod request;
mod resource;
mod schema;
mod shelf;
pub mod tls;
mod transaction;
mod ui;
mod unique;
mod wait;
mod work;

/// Where APISIX's Admin API listens.
pub const LISTEN: &str = "127.0.0.1:9180";
/// Connections of clients at one time.
const CONNECTIONS_MAX: usize = 128;
/// After this a connection takes no further request: one whose client does not read would hold its answer for ever.
const CONNECTION_LIFE_MAX: Duration = Duration::from_secs(600);
/// For the request that is then under way to end.
const CONNECTION_END_MAX: Duration = Duration::from_secs(75);
/// For a request's head to arrive.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Large bodies at one time: each may be 64 MiB, and several times that once it is read.
const LARGE_MAX: usize = 1;
/// How often idle connections to PostgreSQL are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(10);
/// After a failed accept (no descriptors left), so that it does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// What the API is started with.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Who may use it.
    pub keys: Keys,
    /// Its certificate; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// Pages of which other origins may use it.
    pub cors: Origins,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Its address.
    #[error("the Admin API cannot listen on {listen}: {reason}{advice}", advice = advice(.reason))]
    Listen {
        /// Which.
        listen: SocketAddr,
        /// Why.
        reason: io::Error,
    },
    /// Its certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

fn advice(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::AddrInUse => {
            "; stop the process that has the port (`ss -ltnp` names it), give another --admin-listen, or --admin-listen off"
        }
        _ => "; give another --admin-listen, or --admin-listen off",
    }
}

/// What all requests share.
#[derive(Debug)]
struct Shared {
    keys: Keys,
    cors: Origins,
    shelf: Shelf,
    board: Arc<Board>,
    dataplane: Dataplane,
    large: Semaphore,
}

/// The listening API.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    shared: Arc<Shared>,
}

impl Admin {
    /// Listens.
    pub async fn bind(
        config: AdminConfig,
        source: &SourceConfig,
        dataplane: PathBuf,
        board: Arc<Board>,
    ) -> Result<Admin, AdminError> {
        let failed = |reason| AdminError::Listen { listen: config.listen, reason };
        let tls = config.tls.map(Tls::new).transpose()?.map(Arc::new);
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        // For whoever started it on port 0, as the data plane tells its own.
        let _ = writeln!(io::stdout(), "listening admin {address}");
        board.admin_at(address, tls.is_some());
        tracing::info!(tls = tls.is_some(), %address, "the Admin API listens");
        let shelf = match source {
            SourceConfig::Postgresql(target) => Shelf::Postgresql(Pool::new((**target).clone())),
            SourceConfig::File(path) => Shelf::File(path.clone(), Arc::clone(&board)),
        };
        let (dataplane, large) = (Dataplane::at(dataplane), Semaphore::new(LARGE_MAX));
        let shared = Shared { keys: config.keys, cors: config.cors, shelf, board, dataplane, large };
        Ok(Admin { listener, tls, shared: Arc::new(shared) })
    }

    /// Answers until it is dropped.
    pub async fn serve(&self) {
        let router = Router::new().fallback(handle).with_state(Arc::clone(&self.shared));
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut tidy = tokio::time::interval(TIDY_EVERY);
        let mut look = tokio::time::interval(tls::LOOK_EVERY);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = tidy.tick() => {
                    if let Shelf::Postgresql(pool) = &self.shared.shelf {
                        pool.close_idle();
                    }
                    continue;
                }
                _ = look.tick(), if self.tls.is_some() => {
                    self.tls.iter().for_each(|tls| tls.look());
                    continue;
                }
            };
            match accepted {
                Ok((stream, _)) => {
                    // Over the limit: closed at once, before a byte is read.
                    let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { continue };
                    let (router, tls) = (router.clone(), self.tls.clone());
                    tokio::spawn(async move {
                        let _ = stream.set_nodelay(true);
                        match tls {
                            None => connection(stream, router).await,
                            Some(tls) => match tls.accept(stream).await {
                                Ok(stream) => connection(stream, router).await,
                                Err(error) => tracing::debug!("Admin API: a handshake failed: {error}"),
                            },
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!("Admin API: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let service = TowerToHyperService::new(router);
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    let served = match timeout(CONNECTION_LIFE_MAX, connection.as_mut()).await {
        Ok(served) => served,
        Err(_) => {
            connection.as_mut().graceful_shutdown();
            timeout(CONNECTION_END_MAX, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        tracing::debug!("Admin API: a connection ended: {error}");
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    if let Some(page) = ui::answer(request.method(), request.uri().path()) {
        return page;
    }
    let admitted = shared.cors.admitted(request.headers());
    let mut response = if shared.cors.answers(request.method()) {
        Answer::empty(StatusCode::OK).into_response()
    } else {
        told(&shared, request).await
    };
    shared.cors.tell(admitted, &mut response);
    response
}

async fn told(shared: &Shared, request: Request) -> Response<Body> {
    let begun = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut who = String::new();
    let wanted = wants_errors(&request);
    let mut answer = answer(shared, request, &mut who).await.unwrap_or_else(|error| error);
    if wanted {
        answer = answer.with_errors();
    }
    let (status, ms) = (answer.status().as_u16(), begun.elapsed().as_millis());
    if method == Method::GET || method == Method::HEAD {
        tracing::debug!(%method, path, key = who, status, ms, "Admin API");
    } else {
        tracing::info!(%method, path, key = who, status, ms, "Admin API");
    }
    answer.into_response()
}

/// Faults as data stand in what is Ringway's own; in APISIX's paths they are asked for, as its clients may compare the whole body.
fn wants_errors(request: &Request) -> bool {
    let uri = request.uri();
    uri.path().starts_with("/v1/")
        || uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "errors=true"))
}

async fn answer(shared: &Shared, request: Request, who: &mut String) -> Outcome {
    let (parts, body) = request.into_parts();
    // Whether somebody is there: APISIX's clients ask it before all else, and without a key.
    if parts.method == Method::HEAD && parts.uri.path().trim_end_matches('/') == "/apisix/admin" {
        return Ok(Answer::empty(StatusCode::OK));
    }
    let query = Query::parse(&parts.uri)?;
    let actor = admit(shared, &parts, &query)?;
    who.clone_from(&actor.name);
    if actor.role == Role::Viewer && parts.method != Method::GET && parts.method != Method::HEAD {
        return Err(unauthorized("invalid method for role viewer"));
    }
    let path = request::segments(parts.uri.path())?;
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    let large =
        matches!(words.as_slice(), ["apisix", "admin", "configs", ..] | ["v1", "transaction" | "plan"]);
    // Held until the answer is made, and not while it waits for the nodes.
    let turn = match large && parts.method != Method::GET {
        true => {
            Some(shared.large.acquire().await.map_err(|_| Answer::unavailable("the Admin API is ending"))?)
        }
        false => None,
    };
    let bytes_max = if large { MANY_BODY_BYTES_MAX } else { OBJECT_BODY_BYTES_MAX };
    let body = request::body(&parts, body, bytes_max).await?;
    let asked = Asked { method: parts.method, headers: parts.headers, query, actor, body };
    // A wait that cannot be read is told before anything is written.
    let wait = asked.query.wait()?;
    let answer = dispatch(shared, &asked, &words).await?;
    drop((asked, turn));
    Ok(wait::end(shared, answer, wait).await)
}

async fn dispatch(shared: &Shared, asked: &Asked, words: &[&str]) -> Outcome {
    match words {
        ["apisix", "admin", "configs"] => match asked.method.as_str() {
            "GET" | "HEAD" => configs::get(shared, asked).await,
            "PUT" => configs::put(shared, asked).await,
            method => Err(Answer::method(format!("not supported `{method}` method for configs"))),
        },
        ["apisix", "admin", "configs", "validate"] if asked.method == Method::POST => {
            configs::validate(asked).await
        }
        ["apisix", "admin", "plugins", rest @ ..] => catalog::plugins(asked, &owned(rest)),
        ["apisix", "admin", "schema", rest @ ..] => catalog::schema(asked, &owned(rest)),
        ["apisix", "admin", rest @ ..] => resource::answer(shared, asked, target(rest)?).await,
        ["v1", rest @ ..] => beyond(shared, asked, rest).await,
        _ => Err(Answer::error(
            StatusCode::NOT_FOUND,
            "there is nothing at this path; objects are below /apisix/admin",
        )),
    }
}

/// What APISIX does not have.
async fn beyond(shared: &Shared, asked: &Asked, path: &[&str]) -> Outcome {
    match (asked.method.as_str(), path) {
        ("POST", ["transaction"]) => transaction::answer(shared, asked).await,
        ("POST", ["plan"]) => transaction::plan(shared, asked).await,
        ("GET", ["changes"]) => history::changes(shared, asked).await,
        ("POST", ["rollback", revision]) => history::rollback(shared, asked, revision).await,
        ("GET", ["nodes"]) => nodes::answer(shared).await,
        ("GET", ["dataplane", what]) => shared.dataplane.answer(asked, what).await,
        ("GET" | "HEAD", ["openapi.json"]) => openapi::answer(),
        (
            method,
            ["transaction" | "plan" | "changes" | "nodes" | "openapi.json"] | ["rollback" | "dataplane", _],
        ) => Err(Answer::method(format!("not supported `{method}` method for {}", path.join("/")))),
        _ => Err(Answer::error(StatusCode::NOT_FOUND, "there is nothing at this path")),
    }
}

/// The key stands in `X-API-KEY`, in the query or in a cookie, as with APISIX; not in one that a browser adds for another page.
fn admit(shared: &Shared, parts: &axum::http::request::Parts, query: &Query) -> Result<Actor, Answer> {
    let header = parts.headers.get("x-api-key").and_then(|value| value.to_str().ok());
    let cookie = || {
        let cookies = parts.headers.get("cookie").filter(|_| !cors::is_of_another_page(&parts.headers));
        let cookies = cookies?.to_str().ok()?;
        cookies.split(';').find_map(|pair| pair.trim().strip_prefix("x_api_key="))
    };
    match query.get("api_key").or(header).or_else(cookie).filter(|key| !key.is_empty()) {
        None => Err(unauthorized("missing apikey")),
        Some(key) => shared.keys.whose(key).ok_or_else(|| unauthorized("wrong apikey")),
    }
}

fn unauthorized(description: &str) -> Answer {
    Answer::json(
        StatusCode::UNAUTHORIZED,
        &serde_json::json!({"error_msg": "failed to check token", "description": description}),
    )
}

fn target(path: &[&str]) -> Result<Target, Answer> {
    let Some((name, rest)) = path.split_first() else {
        return Err(Answer::error(
            StatusCode::NOT_FOUND,
            "objects are below /apisix/admin, such as /apisix/admin/routes",
        ));
    };
    let kind = Kind::from_name(name).filter(|kind| *kind != Kind::Credential);
    let kind = kind.ok_or_else(|| Answer::bad(format!("Unsupported resource type: {name}")))?;
    let nested = |owner: &str, own: Option<&&str>| own.map(|own| format!("{owner}/credentials/{own}"));
    Ok(match (kind, rest) {
        (Kind::Consumer, [owner, "credentials", own @ ..]) => {
            let id = nested(owner, own.first());
            let sub_path = owned(own.get(1..).unwrap_or_default());
            Target { kind: Kind::Credential, id, owner: Some((*owner).to_owned()), sub_path }
        }
        (Kind::Service, [_, "graphql_cost_decorations", ..]) => {
            return Err(Answer::bad("Unsupported resource type: graphql_cost_decorations"));
        }
        (Kind::Secret, [manager, id, sub @ ..]) => {
            Target { kind, id: Some(format!("{manager}/{id}")), owner: None, sub_path: owned(sub) }
        }
        (_, []) => Target { kind, id: None, owner: None, sub_path: Vec::new() },
        (_, [id, sub @ ..]) => Target { kind, id: Some((*id).to_owned()), owner: None, sub_path: owned(sub) },
    })
}

fn owned(path: &[&str]) -> Vec<String> {
    path.iter().map(|segment| (*segment).to_owned()).collect()
}
