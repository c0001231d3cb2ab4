//! `GET /v1/dataplane/...`: what this node's data plane tells about itself, passed through from its admin socket.
//!
//! A fixed list of commands that only read; nothing that a client sends becomes a command but the words of `explain`, which are checked. The
//! control plane knows nothing of the replies but that they are JSON.
//!
//! Bounded: so many questions at one time, each with a deadline and so many bytes.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::answer::{Answer, Outcome};
use super::request::Asked;

/// What may be shown, each as `show NAME json`.
pub(super) const SHOWN: [&str; 6] = ["info", "snapshot", "cores", "counters", "upstreams", "latency"];
/// Questions at one time; the admin socket has room for more, which others need.
const QUESTIONS_MAX: usize = 4;
/// For a reply.
const REPLY_MAX: Duration = Duration::from_secs(5);
/// Bytes of a reply: all routes of a large configuration fit.
const REPLY_BYTES_MAX: u64 = 128 << 20;
/// Bytes of one word of `explain`.
const WORD_BYTES_MAX: usize = 4_096;
/// Routes in one answer, unless fewer are asked for.
const ROUTES: u64 = 100;
const ROUTES_MAX: u64 = 500;

/// The way to the data plane's admin socket.
#[derive(Debug)]
pub(super) struct Dataplane {
    socket: PathBuf,
    questions: Semaphore,
}

impl Dataplane {
    /// Where it is.
    pub(super) fn at(socket: PathBuf) -> Dataplane {
        Dataplane { socket, questions: Semaphore::new(QUESTIONS_MAX) }
    }

    /// Answers `GET /v1/dataplane/WHAT`.
    pub(super) async fn answer(&self, asked: &Asked, what: &str) -> Outcome {
        match what {
            "explain" => {
                let line = explain(|name| asked.query.get(name)).map_err(Answer::bad)?;
                let document = self.ask(&line).await?;
                Ok(Answer::json(StatusCode::OK, &document))
            }
            "routes" => {
                let limit = asked.query.number("limit")?.unwrap_or(ROUTES).min(ROUTES_MAX);
                let search = asked.query.get("search").unwrap_or_default().to_lowercase();
                let document = self.ask("show routes json").await?;
                // A large configuration takes a while to be searched and to be freed.
                let found = tokio::task::spawn_blocking(move || found(&document, &search, limit));
                let found = found.await.map_err(|_| Answer::unavailable("the search was broken off"))?;
                Ok(Answer::json(StatusCode::OK, &found))
            }
            what if SHOWN.contains(&what) => {
                let document = self.ask(&format!("show {what} json")).await?;
                Ok(Answer::json(StatusCode::OK, &document))
            }
            _ => Err(Answer::error(
                StatusCode::NOT_FOUND,
                format!("there is no such question; there are {}, routes and explain", SHOWN.join(", ")),
            )),
        }
    }

    async fn ask(&self, line: &str) -> Result<Value, Answer> {
        let socket = &self.socket;
        let Ok(_turn) = self.questions.acquire().await else {
            return Err(Answer::unavailable("the Admin API is ending"));
        };
        let failed = |reason: String| {
            Answer::unavailable(format!(
                "the data plane's admin socket {}: {reason}; is it there? --admin-socket names another",
                socket.display()
            ))
        };
        let exchange = async {
            let mut stream = UnixStream::connect(socket).await?;
            stream.write_all(format!("{line}\n").as_bytes()).await?;
            let mut reply = Vec::new();
            stream.take(REPLY_BYTES_MAX).read_to_end(&mut reply).await?;
            Ok::<_, std::io::Error>(reply)
        };
        let reply = match timeout(REPLY_MAX, exchange).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed(format!("no reply within {} s", REPLY_MAX.as_secs()))),
        };
        if let Some(error) = reply.strip_prefix(b"error: ") {
            let text = String::from_utf8_lossy(error).trim().to_owned();
            return Err(Answer::error(StatusCode::CONFLICT, format!("the data plane says: {text}")));
        }
        let parsed = tokio::task::spawn_blocking(move || serde_json::from_slice(&reply)).await;
        match parsed {
            Ok(Ok(document)) => Ok(document),
            _ => Err(failed("the reply is not JSON; is it a data plane of another release?".to_owned())),
        }
    }
}

/// The command line of `explain`. Its words stand between spaces, and a semicolon would begin another command.
fn explain<'q>(word: impl Fn(&str) -> Option<&'q str>) -> Result<String, String> {
    let mut line = "explain".to_owned();
    for (name, default) in [("method", Some("GET")), ("host", None), ("path", Some("/")), ("from", Some(""))]
    {
        let given = word(name).filter(|given| !given.is_empty()).or(default);
        let given = given.ok_or_else(|| format!("explain needs {name}"))?;
        if given.len() > WORD_BYTES_MAX {
            return Err(format!("{name} is longer than {WORD_BYTES_MAX} bytes"));
        }
        if given.contains(|c: char| c == ';' || c.is_whitespace() || c.is_control()) {
            return Err(format!(
                "{name} cannot be asked for: spaces and semicolons stand percent-encoded in a path"
            ));
        }
        if name == "from" && !given.is_empty() {
            line.push_str(" from");
        }
        if !given.is_empty() {
            line.push(' ');
            line.push_str(given);
        }
    }
    line.push_str(" json");
    Ok(line)
}

/// The first routes that hold the text somewhere, and how many there are.
fn found(routes: &Value, search: &str, limit: u64) -> Value {
    let rows = routes.as_array().map(Vec::as_slice).unwrap_or_default();
    let holds = |row: &&Value| {
        let fields = ["id", "host", "uri", "upstream"];
        search.is_empty()
            || fields
                .iter()
                .any(|field| row[*field].as_str().is_some_and(|text| text.to_lowercase().contains(search)))
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut matching = 0_usize;
    let mut list = Vec::new();
    for row in rows.iter().filter(holds) {
        matching += 1;
        if list.len() < limit {
            list.push(row.clone());
        }
    }
    json!({ "total": rows.len(), "matching": matching, "list": list })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pairs: &[(&str, &'static str)]) -> Result<String, String> {
        explain(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    }

    #[test]
    fn nothing_but_the_words_of_explain_becomes_a_command() {
        assert_eq!(line(&[("host", "a.b")]).unwrap(), "explain GET a.b / json");
        let whole = [("host", "a"), ("method", "PUT"), ("path", "/x?y"), ("from", "10.0.0.1")];
        assert_eq!(line(&whole).unwrap(), "explain PUT a /x?y from 10.0.0.1 json");
        assert!(line(&[]).unwrap_err().contains("needs host"));
        for bad in ["a;shutdown", "a b", "a\nshutdown", "a\u{a0}b", "a\u{0}"] {
            for name in ["method", "host", "path", "from"] {
                let pairs = [("host", "h"), (name, bad)];
                let given: Vec<_> = pairs.into_iter().rev().collect();
                assert!(line(&given).is_err(), "{name} {bad:?}");
            }
        }
    }

    #[test]
    fn routes_are_found_by_any_of_their_words() {
        let routes = json!([
            {"id": "cart", "host": "shop.example.com", "uri": "/cart/*", "upstream": "upstreams/shop"},
            {"id": "home", "host": null, "uri": "/", "upstream": null},
        ]);
        assert_eq!(found(&routes, "shop.ex", 10)["list"][0]["id"], "cart");
        assert_eq!(found(&routes, "upstreams/", 10)["matching"], 1);
        let all = found(&routes, "", 1);
        assert_eq!(
            (&all["total"], &all["matching"], all["list"].as_array().unwrap().len()),
            (&json!(2), &json!(2), 1)
        );
    }
}
