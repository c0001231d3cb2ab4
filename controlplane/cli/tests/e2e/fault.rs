//! Any process may die at any time, and no request that a healthy backend could have answered is lost.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::stand::{Client, Stand, wait_until};

/// Requests that are made after each death before the next thing happens.
const REQUESTS_BETWEEN: u64 = 500;
/// Between two requests of a client, so that the load does not take the machine from what it tests.
const PACE: Duration = Duration::from_millis(1);

#[test]
fn no_request_fails_while_control_plane_and_database_are_killed_and_the_data_plane_boots_alone() {
    let mut stand = Stand::whole();
    let node = stand.backend("b");
    let revision = stand.cluster.sql().change(&insert("one", "/one", node));
    stand.wait_for_every_core(revision);

    let load = Load::default();
    let addr = stand.http();
    std::thread::scope(|scope| {
        let _stopped = StopAtEnd(&load);
        for lap in 0..4 {
            scope.spawn({
                let load = &load;
                move || load.run(addr, lap % 2 == 0)
            });
        }
        load.wait_for_more();
        stand.kill_control();
        load.wait_for_more();
        stand.cluster.kill();
        load.wait_for_more();
    });
    assert_eq!(load.failures(), Vec::<String>::new(), "of {} requests", load.requests());

    stand.kill_data();
    stand.start_data();
    let answer = wait_until("an answer from a data plane that is alone", || {
        let answer = Client::try_connect(addr).ok()?.try_get("x", "/one").ok()?;
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(answer.backend(), "b");
    let info = stand.admin("show info json").unwrap();
    assert_eq!(info["booted_from_disk"], true, "{info}");
    assert_eq!(info["version"]["revision"], revision, "{info}");
    assert_eq!(stand.status_client().get("x", "/readyz").status, 200);
    let (code, text) = stand.ringway(&["status"]);
    assert!(code == 1 && text.contains("the control plane is not running"), "{code}: {text}");

    // The control plane comes back before its database does, and then pushes on.
    stand.start_control();
    wait_until("a control plane that says what it misses", || {
        let status = stand.control_status()?;
        (status["source"]["state"] != "connected" && status["dataplane"]["state"] == "connected")
            .then_some(())
    });
    stand.cluster.start_again();
    let sql = stand.cluster.sql();
    stand.wait_for_every_core(sql.change(&insert("two", "/two", node)));
    assert_eq!(stand.client().get("x", "/two").status, 200);
    assert_eq!(stand.client().get("x", "/one").status, 200);
    wait_until("a status that is in step", || (stand.ringway(&["status"]).0 == 0).then_some(()));
}

#[test]
fn a_control_plane_that_was_killed_catches_up_with_what_it_missed() {
    let mut stand = Stand::whole();
    let node = stand.backend("b");
    let sql = stand.cluster.sql();
    stand.wait_for_every_core(sql.change(&insert("one", "/one", node)));
    stand.kill_control();
    let missed = sql.change(&insert("two", "/two", node));
    assert_eq!(stand.client().get("x", "/two").status, 404);
    stand.start_control();
    stand.wait_for_every_core(missed);
    assert_eq!(stand.client().get("x", "/two").status, 200);
}

fn insert(id: &str, uri: &str, node: SocketAddr) -> String {
    format!(
        r#"INSERT INTO ringway.resource (kind, id, spec)
           VALUES ('routes', '{id}', '{{"uri": "{uri}", "upstream": {{"nodes": {{"{node}": 1}}}}}}')"#
    )
}

/// Clients that never stop asking, half of them on one connection, half with a new one for each request.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    requests: AtomicU64,
    failures: std::sync::Mutex<Vec<String>>,
}

impl Load {
    fn run(&self, addr: SocketAddr, keep_alive: bool) {
        let mut client = None;
        while !self.stop.load(Ordering::Relaxed) {
            let connected = match client.take() {
                Some(client) => Ok(client),
                None => Client::try_connect(addr),
            };
            let asked = connected.and_then(|mut client: Client| {
                let answer = client.try_get("x", "/one")?;
                Ok((client, answer.status))
            });
            match asked {
                Ok((used, 200)) => client = keep_alive.then_some(used),
                Ok((_, status)) => self.failures.lock().unwrap().push(format!("status {status}")),
                Err(error) => self.failures.lock().unwrap().push(error.to_string()),
            }
            self.requests.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(PACE);
        }
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn wait_for_more(&self) {
        let enough = self.requests() + REQUESTS_BETWEEN;
        wait_until("requests under load", || (self.requests() >= enough).then_some(()));
    }

    fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }
}

/// Lets the clients end also when the test fails in between: their scope waits for them.
struct StopAtEnd<'a>(&'a Load);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}
