//! APISIX's Control API: what the data plane of this host has in force, told to whoever may connect. Off unless an address is given.
//!
//! It asks the data plane's own socket for each request and keeps nothing, so that it tells what is served and not what is stored. It
//! changes nothing: `POST /v1/gc` and `PUT /v1/plugins/reload` have nothing to do here and say so as APISIX's clients expect it.
//!
//! As with APISIX there is no key, so it listens on loopback addresses only. `modifiedIndex` is the revision that is in force: an
//! object's own one is the Admin API's to tell.

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::HOST;
use axum::http::{Method, Response, StatusCode};
use ringway_snapshot::Kind;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::answer::{Answer, Outcome};
use super::item::key;
use super::{PAUSE, connection, request, schema};

/// Connections of clients at one time.
const CONNECTIONS_MAX: usize = 16;
/// For the data plane to answer.
const DATAPLANE_MAX: Duration = Duration::from_secs(10);
/// Bytes of its answer.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// What it is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsideConfig {
    /// Where it listens; a loopback address.
    pub listen: SocketAddr,
    /// The data plane's admin socket.
    pub dataplane: PathBuf,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
#[error(
    "the Control API cannot listen on {listen}: {reason}; give another --control-listen, or leave it out"
)]
pub struct InsideError {
    listen: SocketAddr,
    reason: io::Error,
}

/// The listening API.
#[derive(Debug)]
pub struct Inside {
    listener: TcpListener,
    dataplane: Arc<Path>,
}

impl Inside {
    /// Listens.
    pub async fn bind(config: InsideConfig) -> Result<Inside, InsideError> {
        let failed = |reason| InsideError { listen: config.listen, reason };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let _ = writeln!(io::stdout(), "listening control {address}");
        tracing::info!(%address, "the Control API listens");
        Ok(Inside { listener, dataplane: config.dataplane.into() })
    }

    /// Answers until it is dropped.
    pub async fn serve(&self) {
        let router = Router::new().fallback(handle).with_state(Arc::clone(&self.dataplane));
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { continue };
                    let router = router.clone();
                    tokio::spawn(async move {
                        connection(stream, router).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!("Control API: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn handle(State(dataplane): State<Arc<Path>>, request: Request) -> Response<Body> {
    let host = request.headers().get(HOST).map(|host| host.to_str().unwrap_or_default());
    if host.is_some_and(|host| !is_here(host)) {
        let text = "the Control API has no key, so it answers only who calls it by localhost or an IP address: \
            a page in a browser could otherwise read it under its own name";
        return Answer::error(StatusCode::FORBIDDEN, text).into_response();
    }
    let (method, uri) = (request.method().clone(), request.uri().clone());
    answer(&dataplane, &method, uri.path()).await.unwrap_or_else(|error| error).into_response()
}

async fn answer(dataplane: &Path, method: &Method, path: &str) -> Outcome {
    let path = request::segments(path)?;
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    let reads = method == Method::GET || method == Method::HEAD;
    match (method, words.as_slice()) {
        (&Method::POST, ["v1", "gc"]) => Ok(Answer::empty(StatusCode::OK)),
        (&Method::PUT, ["v1", "plugins", "reload"]) => Ok(Answer::plain("done")),
        (_, ["v1", rest @ ..]) if reads => told(dataplane, rest).await,
        _ => Err(nothing()),
    }
}

/// Whether a Host field names this host and not a site whose name was made to point here (DNS rebinding).
fn is_here(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

fn nothing() -> Answer {
    Answer::error(StatusCode::NOT_FOUND, "there is nothing at this path")
}

async fn told(dataplane: &Path, path: &[&str]) -> Outcome {
    let absent = |text: String| Answer::error(StatusCode::NOT_FOUND, text);
    match path {
        ["schema"] => Ok(Answer::json(StatusCode::OK, &schema::all())),
        ["healthcheck"] => {
            let found = health(dataplane, None).await?;
            // An empty table is an object in APISIX's words.
            let document = if found.is_empty() { json!({}) } else { json!(found) };
            Ok(Answer::json(StatusCode::OK, &document))
        }
        ["healthcheck", kind] => Err(absent(format!("missing src id for src type {kind}"))),
        ["healthcheck", kind @ ("routes" | "services" | "upstreams"), id] => {
            let found = health(dataplane, Some((kind, id))).await?.pop();
            let found = found.ok_or_else(|| absent(format!("no checker for {kind}[{id}]")))?;
            Ok(Answer::json(StatusCode::OK, &found))
        }
        ["healthcheck", kind, _] => Err(Answer::bad(format!("invalid src type {kind}"))),
        ["discovery", service, "dump"] => Err(absent(format!("discovery[{service}] not found"))),
        ["plugin_metadatas"] => Ok(Answer::json(StatusCode::OK, &json!(metadata(dataplane, None).await?))),
        ["plugin_metadata", name] => {
            let found = metadata(dataplane, Some(name)).await?.pop();
            let found = found.ok_or_else(|| absent(format!("plugin metadata[{name}] not found")))?;
            Ok(Answer::json(StatusCode::OK, &found))
        }
        [name] => {
            let kind = Kind::from_name(name).ok_or_else(nothing)?;
            Ok(Answer::json(StatusCode::OK, &json!(objects(dataplane, kind, None).await?)))
        }
        [name, id] => {
            let known = |kind: &Kind| schema::singular(*kind) == *name || kind.name() == *name;
            let kind = Kind::ALL.into_iter().find(known).ok_or_else(nothing)?;
            let found = objects(dataplane, kind, Some(id)).await?.pop();
            let word = schema::singular(kind).replace('_', " ");
            let found = found.ok_or_else(|| absent(format!("{word}[{id}] not found")))?;
            Ok(Answer::json(StatusCode::OK, &found))
        }
        _ => Err(nothing()),
    }
}

/// Objects as APISIX shows what it holds.
async fn objects(dataplane: &Path, kind: Kind, id: Option<&str>) -> Result<Vec<Value>, Answer> {
    let mut words = vec!["show", "objects", kind.name()];
    words.extend(id);
    let Value::Object(mut document) = ask(dataplane, &words).await? else { return Ok(Vec::new()) };
    let revision = document.remove("revision").unwrap_or_default();
    let Some(Value::Array(rows)) = document.remove("objects") else { return Ok(Vec::new()) };
    let shown = rows.into_iter().map(|mut row| {
        let id = row["id"].as_str().unwrap_or_default().to_owned();
        let mut value = without_nothing(row["value"].take());
        value["id"] = json!(id);
        json!({
            "key": key(kind, &id), "has_domain": has_domain(&value), "value": value,
            "modifiedIndex": revision, "createdIndex": revision, "update_count": 0, "clean_handlers": {},
        })
    });
    Ok(shown.collect())
}

/// Metadata of plugins, which APISIX shows without anything around it.
async fn metadata(dataplane: &Path, id: Option<&str>) -> Result<Vec<Value>, Answer> {
    let found = objects(dataplane, Kind::PluginMetadata, id).await?;
    Ok(found.into_iter().map(|mut object| object["value"].take()).collect())
}

/// The fields that were given.
fn without_nothing(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let given = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(given.map(|(name, value)| (name, without_nothing(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.into_iter().map(without_nothing).collect(),
        other => other,
    }
}

/// Whether a node is told by its name.
fn has_domain(object: &Value) -> bool {
    let upstream = object.get("upstream").unwrap_or(object);
    let mut nodes = upstream["nodes"].as_array().into_iter().flatten();
    nodes.any(|node| node["host"].as_str().is_some_and(|host| host.parse::<IpAddr>().is_err()))
}

/// What probes say of the nodes, upstream by upstream.
async fn health(dataplane: &Path, one: Option<(&str, &str)>) -> Result<Vec<Value>, Answer> {
    if let Some((kind, id)) = one
        && let Some(of) = Kind::from_name(kind)
        && objects(dataplane, of, Some(id)).await?.is_empty()
    {
        return Err(Answer::error(StatusCode::NOT_FOUND, format!("{kind}[{id}] not found")));
    }
    let Value::Array(rows) = ask(dataplane, &["show", "upstreams"]).await? else { return Ok(Vec::new()) };
    let wanted = one.map(|(kind, id)| format!("{kind}/{id}"));
    let checked = rows.iter().filter(|row| row["checks"] != "none");
    let checked = checked.filter(|row| wanted.as_ref().is_none_or(|wanted| row["key"] == wanted.as_str()));
    Ok(checked.map(checker).collect())
}

fn checker(upstream: &Value) -> Value {
    let nodes = upstream["nodes"].as_array().into_iter().flatten().map(|node| {
        // One that is no IP address and port is a socket's path.
        let address = node["address"].as_str().unwrap_or_default();
        let (ip, port) = match address.parse::<SocketAddr>() {
            Ok(address) => (address.ip().to_string(), address.port()),
            Err(_) => (address.to_owned(), 0),
        };
        let (checks, failures) = (&node["checks"], &node["checks"]["failures_in_a_row"]);
        let count = |value: &Value| value.as_u64().unwrap_or(0);
        let (http, tcp, late) =
            (count(&failures["http"]), count(&failures["tcp"]), count(&failures["timeout"]));
        let successes = count(&checks["successes_in_a_row"]);
        let fails = http > 0 || tcp > 0 || late > 0;
        let status = match (checks["healthy"].as_bool().unwrap_or(true), fails, successes) {
            (true, false, _) => "healthy",
            (true, true, _) => "mostly_healthy",
            (false, _, 0) => "unhealthy",
            (false, ..) => "mostly_unhealthy",
        };
        json!({
            "ip": ip, "port": port, "hostname": ip, "status": status,
            "counter": {"success": successes, "http_failure": http, "tcp_failure": tcp, "timeout_failure": late},
        })
    });
    let name = format!("/apisix/{}", upstream["key"].as_str().unwrap_or_default());
    let kind = upstream["checks_type"].as_str().unwrap_or("http");
    json!({"name": name, "type": kind, "nodes": nodes.collect::<Value>()})
}

/// One question to the data plane's socket.
async fn ask(dataplane: &Path, words: &[&str]) -> Result<Value, Answer> {
    // A word with a blank or a `;` in it would be another command, and `json` alone no id.
    let plain = |word: &&str| !word.contains(|c: char| c.is_whitespace() || c.is_control() || c == ';');
    if !words.iter().all(plain) {
        return Err(nothing());
    }
    let asked = timeout(DATAPLANE_MAX, exchange(dataplane, format!("{} json\n", words.join(" "))));
    let text = match asked.await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => {
            return Err(Answer::unavailable(format!("the data plane does not answer: {error}")));
        }
        Err(_) => return Err(Answer::unavailable("the data plane does not answer in time")),
    };
    if let Some(why) = text.strip_prefix("error: ") {
        return Err(Answer::unavailable(format!("the data plane says: {}", why.trim_end())));
    }
    let failed = |error: &dyn std::fmt::Display| {
        Answer::unavailable(format!("the data plane's answer cannot be read: {error}"))
    };
    let read = tokio::task::spawn_blocking(move || serde_json::from_str(&text)).await;
    read.map_err(|error| failed(&error))?.map_err(|error: serde_json::Error| failed(&error))
}

async fn exchange(dataplane: &Path, question: String) -> io::Result<String> {
    let mut stream = UnixStream::connect(dataplane).await?;
    stream.write_all(question.as_bytes()).await?;
    let mut text = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text).await?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_shown_in_apisixs_words() {
        let node = |healthy: bool, successes: u64, tcp: u64| {
            json!({"address": "127.0.0.1:80", "checks": {"healthy": healthy, "successes_in_a_row": successes,
                "failures_in_a_row": {"http": 0, "tcp": tcp, "timeout": 0}}})
        };
        let shown = checker(&json!({"key": "routes/1", "nodes": [
            node(true, 2, 0), node(true, 0, 1), node(false, 0, 2), node(false, 1, 0)]}));
        assert_eq!((&shown["name"], &shown["type"]), (&json!("/apisix/routes/1"), &json!("http")));
        let states: Vec<&str> =
            shown["nodes"].as_array().unwrap().iter().map(|node| node["status"].as_str().unwrap()).collect();
        assert_eq!(states, ["healthy", "mostly_healthy", "unhealthy", "mostly_unhealthy"]);
        assert_eq!(
            shown["nodes"][1],
            json!({"ip": "127.0.0.1", "port": 80, "hostname": "127.0.0.1", "status": "mostly_healthy",
                "counter": {"success": 0, "http_failure": 0, "tcp_failure": 1, "timeout_failure": 0}})
        );
    }

    #[test]
    fn only_names_of_this_host_are_answered() {
        for host in ["localhost", "LOCALHOST:9090", "127.0.0.1:9090", "[::1]:9090", "[::1]", "127.0.0.1"] {
            assert!(is_here(host), "{host}");
        }
        for host in ["", "evil.example:9090", "localhost.evil.example", "127.0.0.1.evil.example", "a:b"] {
            assert!(!is_here(host), "{host}");
        }
    }

    #[test]
    fn what_was_not_given_is_not_shown() {
        let value =
            json!({"uri": "/a", "host": null, "upstream": {"nodes": [{"host": "a.example", "port": null}]}});
        let shown = without_nothing(value);
        assert_eq!(shown, json!({"uri": "/a", "upstream": {"nodes": [{"host": "a.example"}]}}));
        assert!(has_domain(&shown) && !has_domain(&json!({"nodes": [{"host": "10.0.0.1"}]})));
    }
}
