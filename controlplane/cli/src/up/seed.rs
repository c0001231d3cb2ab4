//! The demonstration: two backends in this process and the objects that lead to them.
//!
//! Objects go only into an empty store. The backends' ports are remembered, because the objects in the store name
//! them; where one is taken at the next start, another is chosen and the upstreams that this module made
//! (told by their label) are corrected, nothing else.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ringway_controlplane::source::postgresql::Connected;
use ringway_controlplane::source::postgresql::target::Target;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::demo::Backend;
use crate::failure::{Doing as _, Failure};

/// Ports tried first; free ones are taken where these are not.
const PORTS: [u16; 2] = [9181, 9182];
const NAMES: [&str; 2] = ["blue", "green"];
/// How long one attempt to fill the store may take.
const ATTEMPT_WAIT: Duration = Duration::from_secs(5);
/// Marks the upstreams whose ports may be corrected.
const LABEL: (&str, &str) = ("made_by", "ringway-up");

/// Two running backends.
#[derive(Debug)]
pub(super) struct Demo {
    backends: [Backend; 2],
    /// Where they were the last time, if elsewhere.
    before: Option<[SocketAddr; 2]>,
}

impl Demo {
    /// Starts both, on the ports of the last time where they are free.
    pub(super) fn start(ports_file: &Path) -> Result<Demo, Failure> {
        let before = remembered(ports_file);
        let start = |index: usize| {
            let first = before.map_or(PORTS.map(loopback), |before| before);
            let wanted = first.get(index).copied().unwrap_or(loopback(0));
            let name = NAMES.get(index).copied().unwrap_or("blue");
            Backend::start(name, &[wanted, loopback(0)]).doing(|| "start a demonstration backend".to_owned())
        };
        let backends = [start(0)?, start(1)?];
        let ports = json!(backends.each_ref().map(|backend| backend.addr.port()));
        fs::write(ports_file, ports.to_string()).doing(|| format!("write {}", ports_file.display()))?;
        let before = before.filter(|before| *before != backends.each_ref().map(|backend| backend.addr));
        Ok(Demo { backends, before })
    }

    /// For the banner.
    pub(super) fn described(&self) -> String {
        self.backends.each_ref().map(|backend| format!("{} http://{}", backend.name, backend.addr)).join(", ")
    }

    fn upstreams(&self) -> [(&'static str, Value); 3] {
        let [blue, green] = self.backends.each_ref().map(|backend| backend.addr.to_string());
        [
            ("demo", json!({ blue.as_str(): 1, green.as_str(): 1 })),
            ("demo-blue", json!({ blue.as_str(): 1 })),
            ("demo-green", json!({ green.as_str(): 1 })),
        ]
    }

    fn objects(&self) -> Vec<(&'static str, &'static str, Value)> {
        let labels = json!({ LABEL.0: LABEL.1 });
        let mut objects: Vec<_> = self
            .upstreams()
            .into_iter()
            .map(|(id, nodes)| {
                ("upstreams", id, json!({"type": "roundrobin", "nodes": nodes, "labels": labels}))
            })
            .collect();
        objects.push(("services", "demo", json!({"hosts": ["*.example.com"], "upstream_id": "demo-green"})));
        objects.push(("routes", "demo-home", json!({"uri": "/", "upstream_id": "demo"})));
        objects.push((
            "routes",
            "demo-users",
            json!({"uri": "/users/:id", "methods": ["GET", "HEAD"], "upstream_id": "demo-blue"}),
        ));
        objects.push(("routes", "demo-shop", json!({"uri": "/*", "service_id": "demo"})));
        objects
    }

    /// The declarative file with the same objects.
    pub(super) fn yaml(&self) -> String {
        let [blue, green] = self.backends.each_ref().map(|backend| backend.addr);
        format!(
            "# Made by `ringway up`. Change it while the gateway runs: it is read again, and replaced whole or refused whole.\n\
             routes:\n\
             \x20 - {{id: demo-home, uri: /, upstream_id: demo}}\n\
             \x20 - {{id: demo-users, uri: \"/users/:id\", methods: [GET, HEAD], upstream_id: demo-blue}}\n\
             \x20 - {{id: demo-shop, uri: \"/*\", service_id: demo}}\n\
             services:\n\
             \x20 - {{id: demo, hosts: [\"*.example.com\"], upstream_id: demo-green}}\n\
             upstreams:\n\
             \x20 - id: demo\n\
             \x20   type: roundrobin\n\
             \x20   nodes: {{\"{blue}\": 1, \"{green}\": 1}}\n\
             \x20 - id: demo-blue\n\
             \x20   nodes: {{\"{blue}\": 1}}\n\
             \x20 - id: demo-green\n\
             \x20   nodes: {{\"{green}\": 1}}\n"
        )
    }

    /// Writes the file where there is none, and corrects the ports in one that is there.
    pub(super) fn write_yaml(&self, path: &Path) -> Result<(), Failure> {
        let text = match (fs::read_to_string(path), self.before) {
            (Err(error), _) if error.kind() == std::io::ErrorKind::NotFound => self.yaml(),
            (Err(error), _) => return Err(Failure::new(format!("cannot read {}: {error}", path.display()))),
            (Ok(_), None) => return Ok(()),
            (Ok(text), Some(before)) => {
                // In two steps, as one's old port may be the other's new one.
                let marks = ["\u{1}", "\u{2}"];
                let [from_blue, from_green] = before.map(|addr| format!("\"{addr}\""));
                let [to_blue, to_green] =
                    self.backends.each_ref().map(|backend| format!("\"{}\"", backend.addr));
                text.replace(&from_blue, marks[0])
                    .replace(&from_green, marks[1])
                    .replace(marks[0], &to_blue)
                    .replace(marks[1], &to_green)
            }
        };
        fs::write(path, text).doing(|| format!("write {}", path.display()))
    }

    /// Tries once to fill an empty store. `None`: not yet, the tables are not there or the server does not answer.
    /// `Some`: the revision at which all of it is there.
    pub(super) async fn fill(&self, target: &Target) -> Result<Option<u64>, Failure> {
        let attempt = async {
            match Connected::to(target).await {
                Ok(mut connected) if connected.is_writable() => self.fill_over(connected.client()).await,
                _ => Ok(None),
            }
        };
        match tokio::time::timeout(ATTEMPT_WAIT, attempt).await {
            Ok(done) => done.doing(|| "put the demonstration routes into the store".to_owned()),
            Err(_) => Ok(None),
        }
    }

    async fn fill_over(&self, client: &mut Client) -> Result<Option<u64>, tokio_postgres::Error> {
        let made = client
            .query_one(
                "SELECT to_regclass('ringway.resource') IS NOT NULL AND to_regclass('ringway.head') IS NOT NULL",
                &[],
            )
            .await?;
        if !made.try_get::<_, bool>(0)? {
            return Ok(None);
        }
        let work = client.transaction().await?;
        // Two `up`s on one empty database must not both find it empty.
        work.batch_execute("SELECT pg_advisory_xact_lock(hashtext('ringway-up-demo'))").await?;
        let empty: bool =
            work.query_one("SELECT NOT EXISTS (SELECT 1 FROM ringway.resource)", &[]).await?.try_get(0)?;
        if empty {
            for (kind, id, spec) in self.objects() {
                let insert =
                    "INSERT INTO ringway.resource (kind, id, spec) VALUES ($1, $2, ($3::text)::jsonb)";
                work.execute(insert, &[&kind, &id, &spec.to_string()]).await?;
            }
        } else if self.before.is_some() {
            for (id, nodes) in self.upstreams() {
                let correct =
                    "UPDATE ringway.resource SET spec = jsonb_set(spec, '{nodes}', ($2::text)::jsonb)
                     WHERE kind = 'upstreams' AND id = $1 AND spec->'labels'->>$3 = $4";
                work.execute(correct, &[&id, &nodes.to_string(), &LABEL.0, &LABEL.1]).await?;
            }
        }
        let revision: i64 = work.query_one("SELECT revision FROM ringway.head", &[]).await?.try_get(0)?;
        work.commit().await?;
        Ok(Some(revision.unsigned_abs()))
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn remembered(path: &Path) -> Option<[SocketAddr; 2]> {
    let ports: [u16; 2] = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
    Some(ports.map(loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_are_taken_meanwhile_are_corrected_in_the_file_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let (ports, file) = (dir.path().join("demo.json"), dir.path().join("ringway.yaml"));
        let first = Demo::start(&ports).unwrap();
        first.write_yaml(&file).unwrap();
        let text = fs::read_to_string(&file).unwrap() + "# mine\n";
        fs::write(&file, &text).unwrap();
        // The first demonstration still holds its ports.
        let second = Demo::start(&ports).unwrap();
        assert!(second.before.is_some());
        second.write_yaml(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), second.yaml() + "# mine\n");
    }
}
