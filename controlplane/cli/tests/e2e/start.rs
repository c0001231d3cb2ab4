//! What cannot start says why in one line and ends with an exit code that is not 0.

use std::net::TcpListener;
use std::path::Path;

use crate::stand::{Folder, Process, executables};

/// The exit code and the lines of a program that is expected to end.
fn ended(program: &str, arguments: &[&str], folder: &Folder) -> (Option<i32>, Vec<String>) {
    let log = folder.path.join("start.log");
    let mut process = Process::start(&executables().join(program), arguments, &[], &log);
    let code = process.wait().code();
    (code, process.log().lines().map(ToOwned::to_owned).collect())
}

fn refused_with_one_line(program: &str, arguments: &[&str], folder: &Folder, told: &[&str]) {
    let (code, lines) = ended(program, arguments, folder);
    assert!(!matches!(code, None | Some(0)), "{program} {arguments:?} ends with {code:?}: {lines:?}");
    let last = lines.last().cloned().unwrap_or_default();
    for told in told {
        assert!(last.contains(told), "{told:?} is not in {last:?}");
    }
    let errors = lines.iter().filter(|line| !line.contains("listening ")).count();
    assert_eq!(errors, 1, "{lines:#?}");
}

fn socket(folder: &Folder, name: &str) -> String {
    folder.path.join(name).display().to_string()
}

#[test]
fn a_data_plane_whose_port_is_in_use() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let listen = format!("127.0.0.1:{port}");
    let (snapshots, feed, admin) =
        (socket(&folder, "snapshots"), socket(&folder, "feed.sock"), socket(&folder, "admin.sock"));
    refused_with_one_line(
        "ringway-dataplane",
        &[
            "--listen",
            &listen,
            "--status",
            "127.0.0.1:0",
            "--workers",
            "1",
            "--snapshot-dir",
            &snapshots,
            "--feed-socket",
            &feed,
            "--admin-socket",
            &admin,
        ],
        &folder,
        &[&port],
    );
}

#[test]
fn a_data_plane_whose_socket_cannot_be_made() {
    let folder = Folder::new();
    let snapshots = socket(&folder, "snapshots");
    let (nowhere, admin) = (socket(&folder, "no/such/folder/feed.sock"), socket(&folder, "admin.sock"));
    // A file where a folder is needed fails for root as well.
    std::fs::write(folder.path.join("no"), "").unwrap();
    refused_with_one_line(
        "ringway-dataplane",
        &[
            "--listen",
            "127.0.0.1:0",
            "--status",
            "127.0.0.1:0",
            "--workers",
            "1",
            "--snapshot-dir",
            &snapshots,
            "--feed-socket",
            &nowhere,
            "--admin-socket",
            &admin,
        ],
        &folder,
        &[&nowhere],
    );
}

#[test]
fn a_control_plane_with_a_bad_url_or_no_source() {
    let folder = Folder::new();
    let (feed, control) = (socket(&folder, "feed.sock"), socket(&folder, "control.sock"));
    let sockets = ["--feed-socket", &feed, "--control-socket", &control];
    let with = |more: &[&'static str]| [more, &sockets.map(|word| -> &str { word })].concat();
    refused_with_one_line(
        "ringway-controlplane",
        &with(&["--database-url", "postgresql://host:notaport/db"]),
        &folder,
        &["port"],
    );
    refused_with_one_line("ringway-controlplane", &with(&[]), &folder, &["--database-url", "--file"]);
}

#[test]
fn up_with_a_port_in_use_a_bad_url_or_a_missing_file() {
    let folder = Folder::new();
    let dir = socket(&folder, "d");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let (listen, port) = (addr.to_string(), addr.port().to_string());
    let up = |more: &[&str]| -> Vec<String> {
        let fixed = ["up", "--dir", &dir, "--status", "127.0.0.1:0"];
        let off = if more.contains(&"--admin-listen") { &[][..] } else { &["--admin-listen", "off"][..] };
        fixed.iter().chain(off).chain(more).map(ToString::to_string).collect()
    };
    for (arguments, told) in [
        (up(&["--listen", &listen]), vec![port.as_str(), "in use", "--listen"]),
        (up(&["--listen", "127.0.0.1:0", "--database-url", "postgresql://h:x/d"]), vec!["--database-url"]),
        (
            up(&["--listen", "127.0.0.1:0", "--admin-listen", &listen]),
            vec![port.as_str(), "in use", "--admin-listen"],
        ),
        (up(&["--listen", "127.0.0.1:0", "--file", "/no/such/file.yaml"]), vec!["/no/such/file.yaml"]),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        refused_with_one_line("ringway", &arguments, &folder, &told);
    }
    assert!(!Path::new(&dir).join("log").exists(), "something was started");
}

#[test]
fn status_and_ctl_without_a_gateway() {
    let folder = Folder::new();
    let dir = socket(&folder, "nothing");
    let (code, lines) = ended("ringway", &["status", "--dir", &dir], &folder);
    assert_eq!(code, Some(2), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("is the data plane running?")), "{lines:?}");
    refused_with_one_line(
        "ringway",
        &["ctl", "--dir", &dir, "show", "info"],
        &folder,
        &["admin.sock", "--dir"],
    );
}

#[test]
fn up_without_the_executables_of_the_planes() {
    let folder = Folder::new();
    let alone = folder.path.join("ringway");
    std::fs::copy(executables().join("ringway"), &alone).unwrap();
    let output =
        std::process::Command::new(&alone).args(["up", "--dir", &socket(&folder, "d")]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{told}");
    assert!(told.contains("ringway-dataplane is missing") && told.contains("cargo build"), "{told}");
    assert!(!Path::new(&socket(&folder, "d")).exists(), "it has made its folder");
}
