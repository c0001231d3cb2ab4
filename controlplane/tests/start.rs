//! Starting and ending: many at once, wrong settings, missing rights, systemd.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cluster;
mod feed;
mod program;

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use cluster::Cluster;
use feed::Feed;
use program::{Program, WAIT_MAX};

#[test]
fn ten_at_once_on_an_empty_database_all_come_up() {
    let cluster = Cluster::start();
    let directory = program::directory();
    // A role of its own, not the superuser: what it has is the right to create.
    cluster.sql("create role app login; grant create on database gateway to app");
    let url = cluster.url_as("app");
    let mut programs: Vec<Program> = (0..10)
        .map(|n| Program::start(directory.path(), &format!("n{n}"), &["--database-url", &url]))
        .collect();
    for program in &mut programs {
        let status = program.wait_status("connected", |status| !status["version"].is_null());
        assert_eq!(status["version"]["revision"], 0);
        assert!(
            !program.log().contains("WARN") || !program.log().contains("PostgreSQL:"),
            "{}",
            program.log()
        );
    }
    assert_eq!(
        cluster.sql("select string_agg(number::text, ',' order by number) from ringway.migration"),
        "1,2,3,4,5,6,7"
    );
    // Whoever sees one of the tables sees all of them, with their triggers and the head.
    assert_eq!(cluster.sql("select count(distinct xmin::text) from ringway.migration"), "1");
    assert_eq!(cluster.sql("select count(*) from ringway.head"), "1");
    let applied: usize =
        programs.iter().map(|program| program.log().matches("applied a migration").count()).sum();
    assert_eq!(applied, 7, "each migration by one program");
    let connections =
        "select count(*) from pg_stat_activity where application_name like 'ringway-controlplane n%'";
    assert_eq!(cluster.sql(connections), "10", "one connection each");
    for program in &mut programs {
        assert!(program.terminate().success());
    }
}

#[test]
fn a_right_level_needs_no_right_but_to_read_and_waits_for_no_lock() {
    let cluster = Cluster::start();
    let directory = program::directory();
    let mut owner = Program::start(directory.path(), "owner", &["--database-url", &cluster.url()]);
    owner.wait_status("a version", |status| !status["version"].is_null());
    assert!(owner.terminate().success());
    cluster.sql(
        "create role reader login; grant usage on schema ringway to reader;
         grant select on all tables in schema ringway to reader;
         insert into ringway.resource (kind, id, spec) values ('routes', '1', '{\"uri\": \"nonsense\"}')",
    );
    // Somebody else holds the migrations' lock for as long as this takes.
    let holder =
        cluster.spawn_sql("begin; select pg_advisory_xact_lock(8244241983541967105); select pg_sleep(600)");
    let mut reader =
        Program::start(directory.path(), "reader", &["--database-url", &cluster.url_as("reader")]);
    reader.wait_status("the refusal", |status| !status["refused"].is_null());
    reader.wait_log("cannot write table ringway.refusal: permission denied");
    assert_eq!(reader.status()["source"]["state"], "connected");
    cluster.sql("update ringway.resource set spec = '{\"uri\": \"/a\"}'");
    reader.wait_status("healed", |status| status["refused"].is_null() && status["version"]["revision"] == 2);
    cluster.sql("select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()");
    holder.wait_with_output().expect("psql ends");
}

#[test]
fn missing_rights_a_newer_schema_and_a_foreign_one_are_one_clear_line_and_heal() {
    let cluster = Cluster::start();
    let directory = program::directory();
    cluster.sql("create role app login password 'hunter2'");
    let url = format!("postgresql://app:hunter2@/gateway?host={}", cluster.host());
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &url, "--poll-ms", "100"]);
    program.wait_log("needs CREATE on the database");
    cluster.sql("grant create on database gateway to app");
    program.wait_status("a version", |status| !status["version"].is_null());
    program.wait_log("PostgreSQL is back");
    assert!(program.terminate().success());

    cluster.sql("insert into ringway.migration (number, name, checksum) values (8, '0008_future', 'x')");
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &url]);
    program.wait_log("it is older than the schema; update it");
    let status = program.status();
    assert_eq!(status["source"]["state"], "disconnected");
    assert!(status["source"]["last_error"].as_str().unwrap().contains("level 8, this program knows up to 7"));
    cluster.sql("delete from ringway.migration where number = 8; update ringway.migration set checksum = 'y' where number = 1");
    program.wait_log("another text than this program's 0001_resource");
    assert!(!program.log().contains("hunter2") && !status.to_string().contains("hunter2"));
    assert!(program.log().matches("older than the schema").count() == 1, "said once:\n{}", program.log());
    assert!(program.terminate().success());
}

#[test]
fn a_wrong_database_role_or_server_is_one_clear_line_and_no_end() {
    let cluster = Cluster::start();
    let directory = program::directory();
    cluster.sql("create role app login");
    for (node, url, line) in [
        (
            "a",
            format!("postgresql:///nowhere?host={}&user=postgres", cluster.host()),
            "create it, or correct the database URL",
        ),
        (
            "b",
            format!("postgresql:///gateway?host={}&user=nobody9", cluster.host()),
            "role \"nobody9\" does not exist",
        ),
        ("c", "postgresql:///gateway?host=/tmp/nonexistent&user=x".to_owned(), "No such file or directory"),
        ("d", "postgresql://x@127.0.0.1:1/gateway".to_owned(), "127.0.0.1:1: Connection refused"),
    ] {
        let mut program = Program::start(directory.path(), node, &["--database-url", &url]);
        program.wait_log(line);
        assert_eq!(program.status()["source"]["state"], "disconnected");
        assert!(program.terminate().success());
    }
}

#[test]
fn a_wrong_password_is_told_once_without_it_and_heals_when_it_is_changed() {
    let cluster = Cluster::start();
    let directory = program::directory();
    cluster.sql("create role app login password 'other'; grant create on database gateway to app");
    cluster.ask_password("app");
    let url = format!("postgresql://app:hunter2@/gateway?host={}", cluster.host());
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &url, "--log", "debug"]);
    program.wait_log("password authentication failed for user \"app\"; check user and password");
    let status = program.status();
    assert_eq!(status["source"]["state"], "disconnected");
    cluster.sql("alter role app password 'hunter2'");
    let status =
        program.wait_status("connected", |status| status["source"]["state"] == "connected").to_string()
            + &status.to_string();
    assert_eq!(program.log().matches("password authentication failed").count(), 1, "{}", program.log());
    assert!(!program.log().contains("hunter2") && !status.contains("hunter2"));
}

#[test]
fn wrong_settings_end_the_start_with_one_line() {
    let directory = program::directory();
    let here = directory.path().display().to_string();
    let feed = format!("{here}/feed.sock");
    let control = format!("{here}/control.sock");
    std::fs::write(directory.path().join("a.yaml"), "").unwrap();
    let file = format!("{here}/a.yaml");
    let missing = format!("{here}/missing.yaml");
    let sockets = ["--feed-socket", &feed, "--control-socket", &control];
    for (arguments, line) in [
        (vec![], "give --database-url URL or --file FILE"),
        (vec!["--file", &file, "--database-url", "postgresql://h/d"], "keep one"),
        (vec!["--database-url", "nonsense"], "the form is postgresql://"),
        (vec!["--database-url", "postgresql://h/d?sslmode=verify-full"], "need sslrootcert"),
        (vec!["--database-url", "postgresql://h/d?sslmode=require&sslcert=/x&sslkey=/y"], "sslcert /x"),
        (vec!["--database-url", "postgresql://h/d?passfile=/x"], "passfile is not supported"),
        (vec!["--file", &missing], "correct --file"),
        (vec!["--file", &here], "correct --file"),
        (vec!["--file", &file, "--poll-ms", "0"], "poll-ms is 0"),
        (vec!["--file", &file, "--log", "=="], "--log"),
        (vec!["--file", &file, "--config", "/nonexistent.yaml"], "/nonexistent.yaml"),
        (
            vec!["--file", &file, "--feed-socket", "/nonexistent/f.sock", "--control-socket", &control],
            "--feed-socket",
        ),
        (
            vec!["--file", &file, "--feed-socket", &feed, "--control-socket", "/nonexistent/c.sock"],
            "--control-socket",
        ),
    ] {
        let mut command = program::command();
        command.args(&arguments);
        if !arguments.contains(&"--control-socket") {
            command.args(sockets);
        }
        let output = command.stdin(Stdio::null()).output().expect("runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = text.lines().last().unwrap_or_default();
        assert!(!output.status.success(), "{arguments:?} was accepted: {text}");
        assert!(last.contains(line) && last.starts_with("ringway-controlplane: "), "{arguments:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
    }
}

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let directory = program::directory();
    let here = directory.path();
    std::fs::write(here.join("a.yaml"), "routes: []\n").unwrap();
    let config = format!(
        "file: {0}/a.yaml\nnode: from-file\nlog_format: json\nfeed_socket: {0}/feed.sock\n",
        here.display()
    );
    std::fs::write(here.join("config.yaml"), config).unwrap();
    let feed = Feed::listen(&here.join("feed.sock"));
    for (name, environment, flag) in [
        ("from-file", None, None),
        ("from-env", Some("from-env"), None),
        ("from-flag", Some("from-env"), Some("from-flag")),
    ] {
        let mut command = program::command();
        command
            .arg("--config")
            .arg(here.join("config.yaml"))
            .arg("--control-socket")
            .arg(here.join("control.sock"));
        command.arg("--state-dir").arg(here.join("state"));
        command.envs(environment.map(|node| ("RINGWAY_NODE", node)));
        command.args(flag.map(|node| ["--node", node]).into_iter().flatten());
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
        let link = feed.accept(None);
        assert_eq!(link.peer.node, name);
        child.kill().expect("kill");
        let output = child.wait_with_output().expect("ends");
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let first: serde_json::Value =
            serde_json::from_str(log.lines().next().expect("a line")).expect("JSON");
        assert_eq!((&first["node"], &first["level"]), (&name.into(), &"INFO".into()));
    }
}

#[test]
fn systemd_hears_of_the_start_and_of_the_end() {
    let directory = program::directory();
    let here = directory.path();
    std::fs::write(here.join("a.yaml"), "routes: []\n").unwrap();
    let systemd = UnixDatagram::bind(here.join("notify.sock")).unwrap();
    systemd.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let mut child = program::command()
        .arg("--file")
        .arg(here.join("a.yaml"))
        .arg("--state-dir")
        .arg(here.join("state"))
        .arg("--feed-socket")
        .arg(here.join("feed.sock"))
        .arg("--control-socket")
        .arg(here.join("control.sock"))
        .env("NOTIFY_SOCKET", here.join("notify.sock"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let wait_for = |text: &str| {
        let mut buffer = [0; 4096];
        loop {
            let bytes = systemd.recv(&mut buffer).unwrap_or_else(|error| panic!("{text}: {error}"));
            if String::from_utf8_lossy(&buffer[..bytes]).contains(text) {
                return;
            }
        }
    };
    wait_for("READY=1");
    wait_for("STATUS=source connected; version ");
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    wait_for("STOPPING=1");
    assert!(child.wait().expect("ends").success(), "SIGINT is a clean end too");
    assert!(!here.join("control.sock").exists());
}

#[test]
fn a_second_one_on_the_same_status_socket_is_refused() {
    let directory = program::directory();
    let file = directory.path().join("a.yaml");
    std::fs::write(&file, "routes: []\n").unwrap();
    let file = file.display().to_string();
    let mut first = Program::start(directory.path(), "n1", &["--file", &file]);
    first.wait_status("running", |status| !status.is_null());
    let mut second = Program::start(directory.path(), "n1", &["--file", &file]);
    assert!(!second.wait_end().success());
    assert!(second.log().contains("a control plane already answers at"), "{}", second.log());
    assert!(!first.status().is_null());
    // What a killed one leaves behind is no hindrance.
    drop(first);
    let mut third = Program::start(directory.path(), "n1", &["--file", &file]);
    third.wait_status("running", |status| !status.is_null());
}
