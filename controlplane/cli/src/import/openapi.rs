//! An OpenAPI 3 or Swagger 2 description: its servers become an upstream, each of its paths a route with the methods that it has.
//!
//! `{name}` that fills a segment becomes `:name`. What describes bodies, parameters and who may call is the backend's affair and stays there; a route sends
//! it what it got before. Listed are paths that cannot be told as patterns, servers that cannot stand together, and extensions of other gateways.

use ringway_controlplane::source::file;
use ringway_snapshot::Kind;
use serde_json::{Map, Value, json};

use super::found::Found;
use crate::failure::Failure;

/// The methods that a path may have, as OpenAPI spells them.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// What the command line says.
#[derive(Debug, Default)]
pub(super) struct Options<'a> {
    pub(super) upstream: Option<&'a str>,
    pub(super) host: Option<&'a str>,
}

/// A server's address, and the path below which its paths are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    scheme: String,
    host: String,
    port: u16,
    base: String,
}

/// Reads a file's text.
pub(super) fn read(name: &str, text: &str, options: &Options<'_>, found: &mut Found) -> Result<(), Failure> {
    let failed = |why: String| Failure::new(format!("{name}: {why}"));
    let document = file::read(text).map_err(failed)?;
    let Some(paths) = document["paths"]
        .as_object()
        .filter(|_| document["openapi"].is_string() || document["swagger"].is_string())
    else {
        return Err(failed(
            "is no OpenAPI description: there is no \"openapi\" or \"swagger\", or no \"paths\"".to_owned(),
        ));
    };
    let given = options.upstream.map(|text| parse(&format!("http://{text}"), &Value::Null)).transpose();
    let given = given.map_err(|why| Failure::new(format!("--upstream: {why}")))?;
    let title = document["info"]["title"].as_str().unwrap_or("api");
    let whole = servers(name, &document, given.as_ref(), found)?;
    extensions(name, &document, found);
    for (path, item) in paths {
        if path.starts_with("x-") {
            found.leave_out(format!("{name}: paths"), path.clone(), "an extension");
            continue;
        }
        let own = match item.get("servers") {
            Some(_) => servers(&format!("{name}: {path}"), item, given.as_ref(), found)?,
            None => whole.clone(),
        };
        let Some(base) = own.first().map(|server| server.base.clone()) else {
            found.leave_out(name, path.clone(), "it has no server; give --upstream HOST:PORT");
            continue;
        };
        match pattern(&format!("{base}{path}")) {
            Err(why) => found.leave_out(name, path.clone(), why),
            Ok(uri) => route(name, title, path, &uri, item, &own, options, found),
        }
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "one path and what stands around it")]
fn route(
    name: &str,
    title: &str,
    path: &str,
    uri: &str,
    item: &Value,
    servers: &[Server],
    options: &Options<'_>,
    found: &mut Found,
) {
    if item.get("$ref").is_some() {
        found.leave_out(name, path.to_owned(), "it stands in another file");
        return;
    }
    let methods: Vec<String> = METHODS
        .iter()
        .filter(|method| item.get(**method).is_some())
        .map(|method| method.to_uppercase())
        .collect();
    if methods.is_empty() {
        found.leave_out(name, path.to_owned(), "it has no methods");
        return;
    }
    for method in METHODS {
        let operation = &item[method];
        if operation.get("servers").is_some() {
            found.leave_out(
                format!("{name}: {path}"),
                format!("servers of {method}"),
                "a path has one upstream; the path's own is taken",
            );
        }
        extensions(&format!("{name}: {path}: {method}"), operation, found);
        if operation.get("callbacks").is_some() {
            found.leave_out(
                format!("{name}: {path}: {method}"),
                "callbacks",
                "calls that the backend makes do not pass here",
            );
        }
    }
    extensions(&format!("{name}: {path}"), item, found);
    let upstream_id = found.upstream(title, &upstream(servers));
    let mut fields = Map::from_iter([
        ("uri".to_owned(), json!(uri)),
        ("methods".to_owned(), json!(methods)),
        ("upstream_id".to_owned(), json!(upstream_id)),
    ]);
    if let Some(host) = options.host {
        fields.insert("host".to_owned(), json!(host));
    }
    let summary = ["summary", "description"].iter().find_map(|field| item[*field].as_str());
    if let Some(summary) = summary.and_then(|text| text.lines().next()) {
        fields.insert("desc".to_owned(), json!(summary.chars().take(256).collect::<String>()));
    }
    let only = match methods.as_slice() {
        [method] => item[method.to_lowercase()]["operationId"].as_str(),
        _ => None,
    };
    let id = found.free_id(Kind::Route, only.unwrap_or(&format!("{title}{path}")));
    found.add(Kind::Route, &id, fields);
}

fn upstream(servers: &[Server]) -> Map<String, Value> {
    let node = |server: &Server| json!({"host": server.host, "port": server.port, "weight": 1});
    let mut fields = Map::from_iter([
        ("type".to_owned(), json!("roundrobin")),
        ("nodes".to_owned(), servers.iter().map(node).collect()),
    ]);
    if let Some(first) = servers.first().filter(|first| first.scheme != "http") {
        fields.insert("scheme".to_owned(), json!(first.scheme));
    }
    // A backend on the internet answers to its own name.
    if servers.iter().any(|server| server.host.parse::<std::net::IpAddr>().is_err()) {
        fields.insert("pass_host".to_owned(), json!("node"));
    }
    fields
}

/// Of a document or a path. All that stand together have one scheme and one base.
fn servers(
    at: &str,
    document: &Value,
    given: Option<&Server>,
    found: &mut Found,
) -> Result<Vec<Server>, Failure> {
    let mut all: Vec<Server> = Vec::new();
    if document["swagger"].is_string() {
        let scheme = document["schemes"][0].as_str().unwrap_or("http");
        let base = document["basePath"].as_str().unwrap_or("/");
        let text = match document["host"].as_str() {
            Some(host) => format!("{scheme}://{host}{base}"),
            None => base.to_owned(),
        };
        all.extend(told(at, &text, &Value::Null, given, found));
    }
    for server in document["servers"].as_array().into_iter().flatten() {
        all.extend(told(at, server["url"].as_str().unwrap_or_default(), &server["variables"], given, found));
    }
    if all.is_empty() && document["servers"].as_array().is_none_or(Vec::is_empty) {
        all.extend(given.cloned());
    }
    let Some(first) = all.first().cloned() else { return Ok(Vec::new()) };
    let (same, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|server| server.scheme == first.scheme && server.base == first.base);
    for other in others {
        found.leave_out(
            at,
            format!("server {}://{}:{}{}", other.scheme, other.host, other.port, other.base),
            "another scheme or path than the first server's",
        );
    }
    let mut same = same;
    same.dedup();
    Ok(same)
}

fn told(at: &str, url: &str, variables: &Value, given: Option<&Server>, found: &mut Found) -> Option<Server> {
    match (parse(url, variables), given) {
        // The backend that was given, below the server's own path.
        (Ok(server), Some(given)) => Some(Server { base: server.base, ..given.clone() }),
        (Ok(server), None) => Some(server),
        (Err(_), Some(given)) if url.starts_with('/') => {
            Some(Server { base: url.trim_end_matches('/').to_owned(), ..given.clone() })
        }
        (Err(why), _) => {
            found.leave_out(at, format!("server {url}"), why);
            None
        }
    }
}

/// `scheme://host[:port][/base]`, its variables with their defaults.
fn parse(url: &str, variables: &Value) -> Result<Server, String> {
    let mut url = url.to_owned();
    for (name, variable) in variables.as_object().into_iter().flatten() {
        url = url.replace(&format!("{{{name}}}"), variable["default"].as_str().unwrap_or_default());
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err("it names no host; give --upstream HOST:PORT".to_owned());
    };
    let (authority, base) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return Err(format!("{scheme} is not passed on")),
    };
    let (host, port) = super::nginx::address(authority, port).ok_or("not a host with a port")?;
    if host.contains(['{', '}', '?', '#']) {
        return Err("not a host with a port".to_owned());
    }
    Ok(Server { scheme: scheme.to_owned(), host, port, base: base.trim_end_matches('/').to_owned() })
}

/// Segments that are one parameter become `:name`; what else has braces cannot be told.
fn pattern(path: &str) -> Result<String, &'static str> {
    let mut uri = String::new();
    for segment in path.trim_start_matches('/').split('/') {
        uri.push('/');
        match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) if !name.is_empty() && !name.contains(['{', '}']) => {
                let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
                uri.push(':');
                uri.extend(name.chars().map(plain));
            }
            _ if segment.contains(['{', '}']) => {
                return Err("a parameter that is only a part of its segment");
            }
            _ if segment.contains('*') || segment.starts_with(':') => {
                return Err("\"*\" and \":\" stand for patterns in Ringway's paths");
            }
            _ => uri.push_str(segment),
        }
    }
    Ok(uri)
}

/// What other gateways' extensions say is lost.
fn extensions(at: &str, of: &Value, found: &mut Found) {
    const GATEWAYS: [&str; 6] = ["x-amazon-apigateway", "x-kong", "x-apisix", "x-google", "x-ms-", "x-tyk"];
    for (name, _) in of.as_object().into_iter().flatten() {
        if GATEWAYS.iter().any(|prefix| name.starts_with(prefix)) {
            found.leave_out(at, name.clone(), "another gateway's extension");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_segments_or_nothing() {
        assert_eq!(pattern("/v1/users/{user-id}/posts/{id}").as_deref(), Ok("/v1/users/:user_id/posts/:id"));
        assert_eq!(pattern("/").as_deref(), Ok("/"));
        for path in ["/a/{x}.json", "/{a}{b}", "/a*", "/:a"] {
            assert!(pattern(path).is_err(), "{path}");
        }
    }

    #[test]
    fn servers_are_read_with_their_variables() {
        let variables = json!({"env": {"default": "api"}, "port": {"default": "8443"}});
        let server = parse("https://{env}.example.com:{port}/v1/", &variables).unwrap();
        assert_eq!(
            (server.host.as_str(), server.port, server.base.as_str()),
            ("api.example.com", 8443, "/v1")
        );
        assert!(parse("/v1", &Value::Null).is_err() && parse("ftp://a/", &Value::Null).is_err());
    }
}
