//! The gateway under test: Ringway, nginx or HAProxy started here with one worker, or one that runs already.
//!
//! One worker, because a pool of upstream connections is per worker: what one row leaves in it must be able to harm the next.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::lane::Lane;
use super::origin::Origin;
use super::{Arguments, Peer};
use crate::compare::peer::{self, Running};

const NGINX_CONF: &str = include_str!("../../peers/conformance-nginx.conf");
const HAPROXY_CFG: &str = include_str!("../../peers/conformance-haproxy.cfg");

/// A gateway that runs; one that was started here ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) name: String,
    _running: Option<Running>,
    _directory: Option<tempfile::TempDir>,
}

impl Gateway {
    /// Starts the gateway and its origins.
    pub(crate) fn start(arguments: &Arguments) -> Result<(Gateway, Vec<Lane>)> {
        if let (Some(target), Some(port)) = (arguments.target, arguments.upstream_port) {
            let origin = Origin::start(port).with_context(|| format!("cannot listen on port {port}"))?;
            let gateway = Gateway { name: target.to_string(), _running: None, _directory: None };
            return Ok((gateway, vec![Lane { target, from: None, origin }]));
        }
        let directory = tempfile::tempdir().context("cannot make a folder")?;
        let (target, status) = peer::free_addresses()?;
        let lanes = (1..=arguments.lanes)
            .map(|number| {
                let from = Some(IpAddr::V4(Ipv4Addr::new(127, 1, 0, number)));
                Ok(Lane { target, from, origin: Origin::start(0)? })
            })
            .collect::<Result<Vec<_>>>()?;
        let folder = directory.path();
        let (name, command) = match arguments.peer {
            Peer::Ringway => ("ringway", ringway(arguments, folder, target, status, &lanes)?),
            Peer::Nginx => ("nginx", nginx(folder, target, &lanes)?),
            Peer::Haproxy => ("haproxy", haproxy(folder, target, &lanes)?),
        };
        let running = Running::launch(name, command, target, &folder.join("log"))?;
        let gateway = Gateway { name: name.to_owned(), _running: Some(running), _directory: Some(directory) };
        Ok((gateway, lanes))
    }
}

fn ringway(
    arguments: &Arguments,
    folder: &Path,
    listen: SocketAddr,
    status: SocketAddr,
    lanes: &[Lane],
) -> Result<Command> {
    let executable = arguments.ringway.clone().or_else(peer::find_ringway);
    let executable =
        executable.context("no ringway beside this executable or in PATH; build it or give --ringway")?;
    let routes: Vec<_> = lanes
        .iter()
        .map(|lane| {
            let from = lane.from.map(|from| from.to_string());
            json!({
                "id": from,
                "uri": "/*",
                "remote_addr": from,
                "enable_websocket": true,
                "upstream": { "type": "roundrobin", "nodes": { lane.origin.address.to_string(): 1 } },
            })
        })
        .collect();
    // JSON is YAML too.
    let file = write(folder, "ringway.yaml", &json!({ "routes": routes }).to_string())?;
    let mut command = Command::new(executable);
    command.arg("up").arg("--file").arg(file).arg("--dir").arg(folder.join("state"));
    command.arg("--listen").arg(listen.to_string()).arg("--status").arg(status.to_string());
    command.args(["--workers", "1", "--no-demo"]);
    Ok(command)
}

fn nginx(folder: &Path, listen: SocketAddr, lanes: &[Lane]) -> Result<Command> {
    let executable = peer::find("nginx").context("nginx not found; apt-get install nginx-light")?;
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let pairs: Vec<(String, SocketAddr)> = addresses(lanes);
    let map: String =
        pairs.iter().map(|(from, origin)| format!("        {from} {};\n", name_of(*origin))).collect();
    let upstreams: String = pairs
        .iter()
        .map(|(_, origin)| {
            format!("    upstream {} {{ server {origin} max_fails=0; keepalive 8; }}\n", name_of(*origin))
        })
        .collect();
    let text = NGINX_CONF
        .replace("{directory}", &folder.display().to_string())
        .replace("{listen}", &listen.to_string())
        .replace("{user_line}", user)
        .replace("{map}", &map)
        .replace("{upstreams}", &upstreams);
    let mut command = Command::new(executable);
    command.arg("-p").arg(folder).arg("-c").arg(write(folder, "nginx.conf", &text)?);
    Ok(command)
}

fn haproxy(folder: &Path, listen: SocketAddr, lanes: &[Lane]) -> Result<Command> {
    let executable = peer::find("haproxy").context("haproxy not found; apt-get install haproxy")?;
    let pairs = addresses(lanes);
    let rules: String = pairs
        .iter()
        .map(|(from, origin)| format!("    use_backend {} if {{ src {from} }}\n", name_of(*origin)))
        .collect();
    let backends: String = pairs
        .iter()
        .map(|(_, origin)| format!("backend {}\n    server origin {origin}\n", name_of(*origin)))
        .collect();
    let text = HAPROXY_CFG
        .replace("{listen}", &listen.to_string())
        .replace("{rules}", &rules)
        .replace("{backends}", &backends);
    let mut command = Command::new(executable);
    command.arg("-db").arg("-f").arg(write(folder, "haproxy.cfg", &text)?);
    Ok(command)
}

fn addresses(lanes: &[Lane]) -> Vec<(String, SocketAddr)> {
    lanes.iter().filter_map(|lane| Some((lane.from?.to_string(), lane.origin.address))).collect()
}

fn name_of(origin: SocketAddr) -> String {
    format!("lane{}", origin.port())
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
