//! The tool over TLS: whom it trusts, and that it finds a control plane of this host that speaks TLS.

use std::path::Path;
use std::process::Command;

use crate::stand::{ADMIN_KEY, Folder, Process, executables};

fn openssl(dir: &Path, line: &str) {
    let output = Command::new("openssl").current_dir(dir).args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A CA, and a certificate for 127.0.0.1 that it has signed.
fn certificates(dir: &Path) {
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(dir, &format!("req -x509 {new} -days 30 -subj /CN=ca -keyout ca.key -out ca.crt"));
    openssl(dir, &format!("req -x509 {new} -days 30 -subj /CN=other -keyout other.key -out other.crt"));
    openssl(dir, &format!("req {new} -subj /CN=gateway -keyout server.key -out server.csr"));
    std::fs::write(dir.join("extension"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        dir,
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile extension -out server.crt",
    );
}

#[test]
fn the_tool_speaks_tls_and_trusts_nobody_else() {
    let folder = Folder::new();
    let dir = &folder.path;
    certificates(dir);
    std::fs::write(dir.join("routes.yaml"), "routes:\n  - {id: one, uri: /a}\n").unwrap();
    std::fs::write(dir.join("keys"), format!("{ADMIN_KEY}\n")).unwrap();
    let path = |name: &str| dir.join(name).display().to_string();
    let (file, keys, feed, control) =
        (path("routes.yaml"), path("keys"), path("feed.sock"), path("control.sock"));
    let (certificate, key, state) = (path("server.crt"), path("server.key"), path("state"));
    let plane = Process::start(
        &executables().join("ringway-controlplane"),
        &[
            "--file",
            &file,
            "--feed-socket",
            &feed,
            "--control-socket",
            &control,
            "--state-dir",
            &state,
            "--admin-listen",
            "127.0.0.1:0",
            "--admin-key-file",
            &keys,
            "--admin-tls-cert",
            &certificate,
            "--admin-tls-key",
            &key,
        ],
        &[],
        &dir.join("plane.log"),
    );
    let port = plane.listening("admin").port();
    let get = |arguments: &[&str]| {
        let output = Command::new(executables().join("ringway"))
            .args(["get", "routes", "one"])
            .args(arguments)
            .env("RINGWAY_ADMIN_KEY", ADMIN_KEY)
            .env("RINGWAY_CONTROL_SOCKET", &control)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let (url, ca, other) = (format!("https://127.0.0.1:{port}"), path("ca.crt"), path("other.crt"));
    let (code, text) = get(&["--server", &url, "--ca", &ca]);
    assert!(code == Some(0) && text.contains("/a"), "{text}");
    // The status socket tells that it has TLS.
    let (code, text) = get(&["--ca", &ca]);
    assert!(code == Some(0) && text.contains("/a"), "{text}");
    let (code, text) = get(&["--server", &url, "--ca", &other]);
    assert!(code == Some(1) && text.contains("TLS:") && text.contains("--ca FILE"), "{text}");
    let (code, text) = get(&["--server", &format!("https://localhost:{port}"), "--ca", &ca]);
    assert!(code == Some(1) && text.contains("TLS:"), "{text}");
    let (code, text) = get(&["--server", &format!("http://127.0.0.1:{port}")]);
    assert!(code == Some(1) && text.contains("Then --server https://"), "{text}");
    assert!(!text.contains("whether it was written"), "nothing can have been: {text}");
}
