//! TLS to a real PostgreSQL with certificates of our own: whom the control plane trusts, and what it says when it does not.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod authority;
mod cluster;
mod program;

use std::path::Path;

use authority::Authority;
use cluster::Cluster;
use program::Program;

const CONNECTED: &str = "select ssl, usename from pg_stat_ssl join pg_stat_activity using (pid) where application_name like 'ringway%'";

trait Serving {
    fn cluster(&self, name: &str) -> (Cluster, u16);
}

impl Serving for Authority {
    /// A cluster that shows the certificate of that name.
    fn cluster(&self, name: &str) -> (Cluster, u16) {
        let mut cluster = Cluster::start();
        cluster.give_file("server.crt", &self.path(&format!("{name}.crt")));
        cluster.give_file("server.key", &self.path(&format!("{name}.key")));
        cluster.give_file("clients.crt", &self.path("ca.crt"));
        cluster.sql("create role app login password 'hunter2'; grant create on database gateway to app");
        let port = cluster.listen_tcp(
            "ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\nssl_ca_file = 'clients.crt'",
        );
        (cluster, port)
    }
}

fn url(port: u16, host: &str, settings: &str) -> String {
    format!("host={host} hostaddr=127.0.0.1 port={port} dbname=gateway user=app password=hunter2 {settings}")
}

fn file(path: &Path) -> String {
    path.display().to_string()
}

#[track_caller]
fn connects(directory: &Path, node: &str, url: &str) {
    let mut program = Program::start(directory, node, &["--database-url", url]);
    program.wait_status("connected", |status| status["source"]["state"] == "connected");
    assert!(program.terminate().success());
}

#[track_caller]
fn is_refused(directory: &Path, node: &str, url: &str, line: &str) {
    let mut program = Program::start(directory, node, &["--database-url", url]);
    let status = program.wait_status(line, |status| {
        status["source"]["last_error"].as_str().is_some_and(|error| error.contains(line))
    });
    assert_eq!(status["source"]["state"], "disconnected");
    assert!(
        !program.log().contains("hunter2") && !program.log().contains("PRIVATE KEY"),
        "{}",
        program.log()
    );
}

#[test]
fn a_server_is_trusted_by_its_ca_and_its_name_as_the_mode_says() {
    let authority = Authority::new();
    authority.root("ca", &[]).root("other", &[]).signed("ca", "server", "subjectAltName=DNS:db.example.com");
    let (cluster, port) = authority.cluster("server");
    cluster.admit("hostssl all app 127.0.0.1/32 scram-sha-256\nhost all app 127.0.0.1/32 reject");
    let directory = program::directory();
    let here = directory.path();
    let (ca, other) = (file(&authority.path("ca.crt")), file(&authority.path("other.crt")));
    let full = format!("sslmode=verify-full sslrootcert={ca}");

    let bound = url(port, "db.example.com", &format!("{full} channel_binding=require"));
    let mut program = Program::start(here, "full", &["--database-url", &bound]);
    program.wait_status("connected", |status| status["source"]["state"] == "connected");
    assert_eq!(cluster.sql(CONNECTED), "t|app");
    assert!(program.terminate().success());
    connects(here, "ca", &url(port, "elsewhere.example.com", &format!("sslmode=verify-ca sslrootcert={ca}")));
    connects(here, "require", &url(port, "elsewhere.example.com", "sslmode=require"));
    connects(here, "prefer", &url(port, "127.0.0.1", ""));

    is_refused(
        here,
        "name",
        &url(port, "elsewhere.example.com", &full),
        "names other hosts; connect by a name in its",
    );
    is_refused(
        here,
        "wrong-ca",
        &url(port, "db.example.com", &format!("sslmode=verify-full sslrootcert={other}")),
        "no certificate of sslrootcert has signed the server's",
    );
    // In libpq too, require with a CA's certificate verifies.
    is_refused(
        here,
        "require-ca",
        &url(port, "db.example.com", &format!("sslmode=require sslrootcert={other}")),
        "no certificate of sslrootcert has signed the server's",
    );
    is_refused(
        here,
        "plain",
        &url(port, "db.example.com", "sslmode=disable"),
        "pg_hba.conf rejects connection",
    );

    // A server that takes no encrypted connection of ours is no reason to fail where TLS is only preferred.
    cluster.admit("hostssl all app 127.0.0.1/32 reject\nhostnossl all app 127.0.0.1/32 scram-sha-256");
    connects(here, "nossl", &url(port, "127.0.0.1", ""));
    is_refused(
        here,
        "needs-ssl",
        &url(port, "127.0.0.1", "sslmode=require"),
        "pg_hba.conf rejects connection",
    );
}

#[test]
fn a_certificate_that_signs_itself_as_postgresqls_manual_makes_it_is_trusted_where_it_is_given() {
    let authority = Authority::new();
    authority.root("ca", &["-addext", "subjectAltName=DNS:db.example.com"]);
    let (_cluster, port) = authority.cluster("ca");
    let directory = program::directory();
    let full = format!("sslmode=verify-full sslrootcert={}", file(&authority.path("ca.crt")));
    connects(directory.path(), "good", &url(port, "db.example.com", &full));
    is_refused(directory.path(), "name", &url(port, "other.example.com", &full), "names other hosts");
}

#[test]
fn a_client_certificate_is_shown_and_asked_for_by_name() {
    let authority = Authority::new();
    authority.root("ca", &[]).root("other", &[]);
    authority.signed("ca", "server", "subjectAltName=DNS:db.example.com");
    authority.signed("ca", "app", "extendedKeyUsage=clientAuth").signed(
        "other",
        "stranger",
        "extendedKeyUsage=clientAuth",
    );
    let (cluster, port) = authority.cluster("server");
    cluster.admit("hostssl all app 127.0.0.1/32 cert\nhost all app 127.0.0.1/32 reject");
    let directory = program::directory();
    let here = directory.path();
    let full = format!("sslmode=verify-full sslrootcert={}", file(&authority.path("ca.crt")));
    let with = |certificate: &str, key: &str| {
        let (certificate, key) = (file(&authority.path(certificate)), file(&authority.path(key)));
        url(port, "db.example.com", &format!("{full} sslcert={certificate} sslkey={key}"))
    };
    connects(here, "good", &with("app.crt", "app.key"));
    is_refused(
        here,
        "none",
        &url(port, "db.example.com", &full),
        "give sslcert and sslkey in the database URL",
    );
    is_refused(
        here,
        "stranger",
        &with("stranger.crt", "stranger.key"),
        "the server refuses our client certificate",
    );

    // A pair that does not fit ends the start.
    let mut program = Program::start(here, "pair", &["--database-url", &with("app.crt", "stranger.key")]);
    assert!(!program.wait_end().success());
    assert!(program.log().contains("sslcert with sslkey"), "{}", program.log());
}

#[test]
fn a_renewed_ca_needs_no_restart() {
    let authority = Authority::new();
    authority.root("ca", &[]).root("other", &[]).signed("ca", "server", "subjectAltName=DNS:db.example.com");
    let (_cluster, port) = authority.cluster("server");
    let directory = program::directory();
    let trusted = authority.path("trusted.crt");
    std::fs::copy(authority.path("other.crt"), &trusted).unwrap();
    let url = url(port, "db.example.com", &format!("sslmode=verify-full sslrootcert={}", file(&trusted)));
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &url]);
    program.wait_log("no certificate of sslrootcert has signed the server's");
    std::fs::copy(authority.path("ca.crt"), &trusted).unwrap();
    program.wait_status("connected", |status| status["source"]["state"] == "connected");
}

#[test]
fn a_server_without_tls_is_refused_where_tls_is_required_and_used_where_it_is_preferred() {
    let mut cluster = Cluster::start();
    cluster.sql("create role app login password 'hunter2'; grant create on database gateway to app");
    let port = cluster.listen_tcp("");
    cluster.admit("host all app 127.0.0.1/32 scram-sha-256");
    let directory = program::directory();
    let here = directory.path();
    connects(here, "prefer", &url(port, "127.0.0.1", ""));
    is_refused(
        here,
        "require",
        &url(port, "127.0.0.1", "sslmode=require"),
        "the server offers no TLS; set ssl = on",
    );
    is_refused(
        here,
        "binding",
        &url(port, "127.0.0.1", "channel_binding=require"),
        "channel_binding=require in the database URL needs TLS",
    );
}
