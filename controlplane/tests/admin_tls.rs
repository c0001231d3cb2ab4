//! TLS on the Admin API: whom it serves, and that renewed files serve without a restart.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod api;
mod authority;
mod program;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use api::ADMIN;
use authority::Authority;
use program::{Program, WAIT_MAX};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const SERVER: &str = "subjectAltName=DNS:gateway.example\n";

struct Stand {
    files: Authority,
    program: Program,
    address: SocketAddr,
}

impl Stand {
    /// A control plane that shows `server.crt`, signed by `ca`.
    fn new(more: &[&str]) -> Stand {
        let files = Authority::new();
        files.root("ca", &[]).signed("ca", "server", SERVER);
        let directory = files.path("");
        let conf = files.path("routes.yaml");
        std::fs::write(&conf, "routes: []\n").unwrap();
        let path = |name: &str| files.path(name).display().to_string();
        let more: Vec<String> = more.iter().map(|word| word.replace("DIR", &path(""))).collect();
        let (file, certificate, key) = (path("routes.yaml"), path("server.crt"), path("server.key"));
        let own = ["--file", &file, "--admin-tls-cert", &certificate, "--admin-tls-key", &key];
        let arguments: Vec<&str> = own.into_iter().chain(more.iter().map(String::as_str)).collect();
        let (program, api) = api::start(&directory, "n1", &arguments);
        Stand { address: api.address(), files, program }
    }

    /// A GET with the admin's key: its answer's status, and the certificate that was shown.
    fn get(&self, client: Option<&str>) -> Result<(u16, CertificateDer<'static>), String> {
        let pem = |name: &str| CertificateDer::from_pem_file(self.files.path(name)).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(pem("ca.crt")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => config.with_no_client_auth(),
            Some(name) => {
                let key = PrivateKeyDer::from_pem_file(self.files.path(&format!("{name}.key"))).unwrap();
                config.with_client_auth_cert(vec![pem(&format!("{name}.crt"))], key).unwrap()
            }
        };
        let name = "gateway.example".try_into().unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        let request = format!(
            "GET /apisix/admin/routes HTTP/1.1\r\nHost: a\r\nX-API-KEY: {ADMIN}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(text)?;
        let shown = stream.conn.peer_certificates().unwrap()[0].clone().into_owned();
        Ok((status, shown))
    }

    fn own(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.files.path("server.crt")).unwrap()
    }
}

#[test]
fn it_speaks_tls_alone_and_takes_renewed_files_but_no_torn_pair() {
    let mut stand = Stand::new(&[]);
    let old = stand.own();
    assert_eq!(stand.get(None).unwrap(), (200, old.clone()));
    assert_eq!(stand.program.status()["admin_tls"], true);
    let mut plain = TcpStream::connect(stand.address).unwrap();
    plain.write_all(b"GET /apisix/admin/routes HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/"), "plain HTTP was answered");

    // A certificate whose key has not come yet.
    let key = std::fs::read(stand.files.path("server.key")).unwrap();
    stand.files.signed("ca", "server", SERVER);
    let new_key = std::fs::read(stand.files.path("server.key")).unwrap();
    std::fs::write(stand.files.path("server.key"), &key).unwrap();
    stand.program.wait_log("the one before stays in force");
    assert_eq!(stand.get(None).unwrap(), (200, old));
    std::fs::write(stand.files.path("server.key"), &new_key).unwrap();
    let deadline = Instant::now() + WAIT_MAX;
    while stand.get(None).unwrap().1 != stand.own() {
        assert!(Instant::now() < deadline, "{}", stand.program.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let log = stand.program.log();
    assert!(!log.contains("PRIVATE KEY") && !log.contains(ADMIN), "{log}");
}

#[test]
fn clients_without_a_certificate_of_the_ca_are_not_let_in() {
    let files = Authority::new();
    files.root("clients", &[]);
    let ca = files.path("clients.crt").display().to_string();
    let stand = Stand::new(&["--admin-tls-client-ca", &ca]);
    for name in ["clients.crt", "clients.key"] {
        std::fs::copy(files.path(name), stand.files.path(name)).unwrap();
    }
    stand.files.signed("clients", "tool", "extendedKeyUsage=clientAuth\n");
    stand.files.signed("ca", "stranger", "extendedKeyUsage=clientAuth\n");
    assert_eq!(stand.get(Some("tool")).unwrap().0, 200);
    assert!(stand.get(None).is_err());
    assert!(stand.get(Some("stranger")).is_err());
}

#[test]
fn a_pair_that_cannot_serve_ends_the_start_with_one_line() {
    let files = Authority::new();
    files.root("ca", &[]).root("other", &[]);
    let path = |name: &str| files.path(name).display().to_string();
    std::fs::write(files.path("keys"), format!("{ADMIN}\n")).unwrap();
    std::fs::write(files.path("routes.yaml"), "routes: []\n").unwrap();
    for (certificate, key, want) in [
        ("ca.crt", "other.key", "ca.crt"),
        ("ca.crt", "none.key", "none.key"),
        ("routes.yaml", "ca.key", "holds no certificate"),
    ] {
        let output = program::command()
            .args([
                "--file",
                &path("routes.yaml"),
                "--admin-key-file",
                &path("keys"),
                "--admin-listen",
                "127.0.0.1:0",
            ])
            .args(["--admin-tls-cert", &path(certificate), "--admin-tls-key", &path(key)])
            .args([
                "--feed-socket",
                &path("feed.sock"),
                "--control-socket",
                &path("c.sock"),
                "--state-dir",
                &path("s"),
            ])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = said.lines().last().unwrap_or_default();
        assert!(!output.status.success() && line.contains(want), "{certificate} {key}: {said}");
    }
}
