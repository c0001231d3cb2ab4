//! Health checks over TLS, against real TLS servers with certificates of an authority of their own: what is good, what is not, and that the cause
//! of each failure is told.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use stand::{Gateway, PATIENCE, node, wait_until};

/// A folder of certificates and keys, made by openssl.
struct Authority(tempfile::TempDir);

impl Authority {
    fn new() -> Authority {
        let authority = Authority(tempfile::tempdir().unwrap());
        for name in ["trusted", "strange"] {
            authority.openssl(&format!(
                "req -x509 {EC} -nodes -days 30 -subj /CN={name} -keyout {name}.key -out {name}.crt"
            ));
        }
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A certificate that `ca` signs, for so many days.
    fn signed(&self, ca: &str, name: &str, names: &str, days: i32) {
        self.openssl(&format!("req {EC} -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        std::fs::write(self.path("extension"), format!("subjectAltName={names}\n")).unwrap();
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {ca}.crt -CAkey {ca}.key -CAcreateserial -days {days} -extfile extension -out {name}.crt"
        ));
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").current_dir(self.0.path()).args(arguments.split(' ')).output();
        let output = output.expect("openssl is on this machine");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A node that speaks TLS with that certificate, answers with that status, and tells the name and the head that it was asked with.
    fn serve(
        &self,
        name: &str,
        status: &Arc<AtomicU16>,
        asked: Sender<(Option<String>, String)>,
    ) -> SocketAddr {
        let chain = vec![CertificateDer::from_pem_file(self.path(&format!("{name}.crt"))).unwrap()];
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let (config, status) = (Arc::new(config), Arc::clone(status));
        node(move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let (mut head, mut bytes) = (Vec::new(), [0; 4096]);
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read(&mut bytes) {
                    Ok(count @ 1..) => head.extend_from_slice(&bytes[..count]),
                    _ => return,
                }
            }
            let name = stream.conn.server_name().map(str::to_owned);
            // Nobody may listen any more.
            let _ = asked.send((name, String::from_utf8_lossy(&head).into_owned()));
            let answer = format!("HTTP/1.1 {} X\r\nContent-Length: 0\r\n\r\n", status.load(SeqCst));
            let _ = stream.write_all(answer.as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        })
    }
}

const EC: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1";

fn upstream(address: SocketAddr, more: &Value) -> Value {
    let mut active = json!({
        "type": "https", "host": "good.test", "http_path": "/status", "timeout": 2,
        "healthy": {"interval": 1, "successes": 1},
        "unhealthy": {"interval": 1, "tcp_failures": 1, "timeouts": 1, "http_failures": 1}
    });
    active.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    active.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    json!({"nodes": {address.to_string(): 1}, "checks": {"active": active}})
}

fn last_probe(gateway: &Gateway, id: &str) -> Value {
    gateway.ctl_json(&format!("show upstream {id}"))["nodes"][0]["checks"]["last_probe"].clone()
}

fn start(authority: &Authority, configured: &[(&str, Value)]) -> Gateway {
    let roots = authority.path("trusted.crt").display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_with(folder, &["--workers", "1"], &[("SSL_CERT_FILE".to_owned(), roots)]);
    let objects: Vec<_> = configured.iter().map(|(id, spec)| ("upstreams", *id, spec.clone())).collect();
    gateway.configure(1, &objects);
    gateway
}

#[test]
fn a_good_certificate_is_taken_and_the_node_is_asked_by_its_name() {
    let authority = Authority::new();
    authority.signed("trusted", "good", "DNS:good.test", 30);
    authority.signed("trusted", "ip", "IP:127.0.0.1", 30);
    let status = Arc::new(AtomicU16::new(200));
    let (asked, heard) = channel();
    let good = authority.serve("good", &status, asked.clone());
    let ip = authority.serve("ip", &Arc::new(AtomicU16::new(200)), channel().0);
    let gateway = start(
        &authority,
        &[("good", upstream(good, &json!({}))), ("ip", upstream(ip, &json!({"host": null})))],
    );
    let (name, head) = heard.recv_timeout(PATIENCE).expect("a probe");
    assert_eq!(name.as_deref(), Some("good.test"));
    assert!(head.starts_with("GET /status HTTP/1.1\r\nHost: good.test\r\n"), "{head}");
    for id in ["good", "ip"] {
        wait_until(&format!("a good answer of {id}"), || (last_probe(&gateway, id) == 200).then_some(()));
    }
    let told = gateway.ctl_json("show upstream good");
    assert_eq!((&told["checks_type"], &told["checks_certificate"]), (&json!("https"), &json!("verified")));
    status.store(503, SeqCst);
    let history = format!("show health good/{good} history");
    wait_until("the node to be unhealthy", || {
        gateway.ctl(&history).contains("unhealthy: bad statuses of probes; the last one: 503").then_some(())
    });
    status.store(200, SeqCst);
    wait_until("the node to be healthy", || {
        gateway.ctl(&history).contains("healthy: good answers").then_some(())
    });
}

#[test]
fn each_failure_of_tls_is_told_with_its_cause() {
    let authority = Authority::new();
    authority.signed("trusted", "expired", "DNS:good.test", -1);
    authority.signed("strange", "unknown", "DNS:good.test", 30);
    authority.signed("trusted", "other", "DNS:other.test", 30);
    let serve = |name: &str| authority.serve(name, &Arc::new(AtomicU16::new(200)), channel().0);
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    let closes = node(|_| {});
    let plain = node(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unknown = serve("unknown");
    let cases = [
        ("expired", serve("expired"), "failed: its certificate has expired"),
        ("unknown", unknown, "failed: its certificate is of no authority that this host trusts"),
        ("other", serve("other"), "failed: its certificate is made out to another name"),
        ("plain", plain, "failed: it does not speak TLS"),
        ("hangs", hangs.local_addr().unwrap(), "timed out in the TLS handshake"),
        ("closes", closes, "failed: the connection ended before an answer"),
        ("gone", gone, "failed: no connection was made"),
    ];
    let mut configured: Vec<_> =
        cases.map(|(id, address, _)| (id, upstream(address, &json!({"timeout": 0.5})))).to_vec();
    configured.push(("blind", upstream(unknown, &json!({"https_verify_certificate": false}))));
    let gateway = start(&authority, &configured);
    for (id, address, cause) in cases {
        wait_until(&format!("{id}: {cause}"), || (last_probe(&gateway, id) == cause).then_some(()));
        let history = gateway.ctl(&format!("show health {id}/{address} history"));
        assert!(history.contains("unhealthy: ") && history.contains(cause), "{id}: {history}");
        let told = gateway.ctl_json(&format!("show upstream {id}"));
        assert_eq!(told["nodes"][0]["state"], "unhealthy", "{told}");
    }
    wait_until("the one that is not verified", || (last_probe(&gateway, "blind") == 200).then_some(()));
    let told = gateway.ctl("show upstream blind");
    assert!(
        told.contains("checks_certificate=not verified: any will do") && told.contains("state=ready"),
        "{told}"
    );
}

#[test]
fn without_trusted_certificates_no_node_is_blamed() {
    let authority = Authority::new();
    authority.signed("trusted", "good", "DNS:good.test", 30);
    let good = authority.serve("good", &Arc::new(AtomicU16::new(200)), channel().0);
    std::fs::write(authority.path("trusted.crt"), "").unwrap();
    let gateway = start(&authority, &[("good", upstream(good, &json!({})))]);
    let cause = "not made: this host has no file of trusted certificates";
    wait_until("what is lacking to be told", || (last_probe(&gateway, "good") == cause).then_some(()));
    assert_eq!(gateway.ctl_json("show upstream good")["nodes"][0]["state"], "ready");
}
