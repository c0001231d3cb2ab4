//! What a database can do wrong, one clear line each that says what to do, tried again with growing pauses and never given up.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cluster;
mod program;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cluster::Cluster;
use program::{Program, WAIT_MAX};

/// Something that listens where a PostgreSQL is looked for.
struct Impostor {
    port: u16,
    arrivals: Arc<Mutex<Vec<Instant>>>,
}

/// What it does with a connection.
#[derive(Clone)]
enum Manner {
    /// An error message of PostgreSQL's protocol, before any login.
    Error(&'static str, &'static str),
    /// These bytes.
    Bytes(&'static [u8]),
    /// Ends it at once.
    Close,
    /// Says nothing and ends nothing.
    Silence,
}

impl Impostor {
    fn new(manner: Manner) -> Impostor {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&arrivals);
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                seen.lock().unwrap().push(Instant::now());
                held.extend(treat(stream, &manner));
            }
        });
        Impostor { port, arrivals }
    }

    fn url(&self) -> String {
        format!("postgresql://app:hunter2@127.0.0.1:{}/gateway?sslmode=disable", self.port)
    }

    /// Waits for so many connections and gives the time from the first to the last of them.
    #[track_caller]
    fn spread(&self, count: usize) -> Duration {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let arrivals = self.arrivals.lock().unwrap().clone();
            if let Some(last) = arrivals.get(count - 1) {
                return *last - arrivals[0];
            }
            assert!(Instant::now() < deadline, "only {} attempts", arrivals.len());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn treat(mut stream: TcpStream, manner: &Manner) -> Option<TcpStream> {
    let mut startup = [0; 4096];
    match manner {
        Manner::Close => return None,
        Manner::Silence => return Some(stream),
        Manner::Bytes(bytes) => {
            let _ = stream.read(&mut startup);
            let _ = stream.write_all(bytes);
        }
        Manner::Error(code, message) => {
            let _ = stream.read(&mut startup);
            let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0");
            let mut packet = vec![b'E'];
            packet.extend(u32::try_from(fields.len() + 4).unwrap().to_be_bytes());
            packet.extend(fields.as_bytes());
            let _ = stream.write_all(&packet);
        }
    }
    None
}

#[test]
fn whatever_the_server_says_is_one_line_that_says_what_to_do() {
    let directory = program::directory();
    for (number, (manner, line)) in [
        (
            Manner::Error("57P03", "the database system is starting up"),
            "the database system is starting up; nothing to do, unless it lasts: then see the server's log (SQLSTATE 57P03)",
        ),
        (
            Manner::Error("57P03", "the database system is shutting down"),
            "the database system is shutting down; nothing to do, unless it lasts",
        ),
        (
            Manner::Error("57P01", "terminating connection due to administrator command"),
            "terminating connection due to administrator command; start it again, if nobody does",
        ),
        (Manner::Error("53300", "sorry, too many clients already"), "too many clients already; raise max_connections"),
        (
            Manner::Error("28000", "no pg_hba.conf entry for host \"127.0.0.1\""),
            "no pg_hba.conf entry for host \"127.0.0.1\"; check user and password",
        ),
        (Manner::Error("3D000", "database \"gateway\" does not exist"), "does not exist; create it, or correct"),
        (Manner::Error("XX000", "two\n  lines"), "two lines (SQLSTATE XX000)"),
        (Manner::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "is it PostgreSQL that listens there?"),
        (Manner::Close, "the connection to PostgreSQL was closed; is it PostgreSQL that listens there?"),
        (Manner::Silence, "no answer from PostgreSQL for 2 s while connecting; is the host up"),
    ]
    .into_iter()
    .enumerate()
    {
        let impostor = Impostor::new(manner);
        let url = impostor.url() + "&connect_timeout=1";
        let mut program = Program::start(directory.path(), &format!("n{number}"), &["--database-url", &url]);
        let status = program.wait_status(line, |status| {
            status["source"]["last_error"].as_str().is_some_and(|error| error.contains(line))
        });
        let told = status["source"]["last_error"].as_str().unwrap();
        assert!(told.starts_with(&format!("127.0.0.1:{}: ", impostor.port)) && told.lines().count() == 1, "{told}");
        assert_eq!(status["source"]["state"], "disconnected");
        assert!(program.terminate().success());
        assert!(!program.log().contains("hunter2"), "{}", program.log());
    }
}

#[test]
fn attempts_become_rarer_and_a_lasting_trouble_is_told_once() {
    let directory = program::directory();
    for (node, manner) in [
        ("passes", Manner::Error("57P03", "the database system is starting up")),
        ("stays", Manner::Error("28P01", "password authentication failed for user \"app\"")),
        ("closes", Manner::Close),
    ] {
        let impostor = Impostor::new(manner);
        let program = Program::start(directory.path(), node, &["--database-url", &impostor.url()]);
        // The pauses are at least half of 50, 100, 200, 400 and 800 ms.
        let spread = impostor.spread(6);
        assert!(spread >= Duration::from_millis(700), "{node}: six attempts within {spread:?}");
        assert_eq!(program.log().matches("WARN PostgreSQL:").count(), 1, "{}", program.log());
    }
}

#[test]
fn too_many_connections_heal_when_there_is_room() {
    let cluster = Cluster::start();
    let directory = program::directory();
    cluster.sql("create role app login connection limit 0; grant create on database gateway to app");
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &cluster.url_as("app")]);
    program.wait_log("too many connections for role \"app\"; raise max_connections or the role's limit");
    cluster.sql("alter role app connection limit 1");
    let status = program.wait_status("connected", |status| status["source"]["state"] == "connected");
    assert!(status["source"]["last_error"].is_null());
    program.wait_log("PostgreSQL is back");
}

#[test]
fn an_empty_database_that_only_reads_is_told_and_heals() {
    let cluster = Cluster::start();
    let directory = program::directory();
    cluster.sql("alter database gateway set default_transaction_read_only = on");
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &cluster.url()]);
    program.wait_log("the schema is missing or old and the server only reads");
    program.wait_log("is default_transaction_read_only on for server, database or role?");
    cluster.sql(
        "set default_transaction_read_only = off; alter database gateway reset default_transaction_read_only",
    );
    program.wait_status("connected", |status| status["source"]["state"] == "connected");
}

#[test]
fn a_role_that_may_read_nothing_is_told_what_it_lacks_and_heals() {
    let cluster = Cluster::start();
    let directory = program::directory();
    let mut owner = Program::start(directory.path(), "owner", &["--database-url", &cluster.url()]);
    owner.wait_status("a version", |status| !status["version"].is_null());
    assert!(owner.terminate().success());
    cluster.sql("create role app login");
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &cluster.url_as("app")]);
    program.wait_log("permission denied for schema ringway; grant it to the role of the database URL");
    cluster.sql("grant usage on schema ringway to app; grant select on ringway.migration to app");
    program.wait_log("permission denied for table head; grant it to the role of the database URL");
    cluster.sql("grant select on all tables in schema ringway to app");
    program.wait_status("a version", |status| !status["version"].is_null());
}
