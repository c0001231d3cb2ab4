//! The commands that change the configuration through the Admin API: `apply`, `diff`, `dump`, `get`, `put`, `delete`, `history`, `rollback`.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use serde_json::Value;

use crate::stand::{ADMIN_KEY, Stand};

/// A stand with files in its folder.
struct Desk(Stand);

impl Desk {
    fn new() -> Desk {
        Desk(Stand::whole())
    }

    /// Writes a file and tells its path.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.dir().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// A command that ends with this code; its output and its errors.
    #[track_caller]
    fn ends(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let output = self.0.tool("control", arguments).output().unwrap();
        let own = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (own(&output.stdout), own(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{err}");
        (out, err)
    }

    /// The one line that it fails with.
    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let (_, err) = self.ends(code, arguments);
        assert!(err.starts_with("ringway: ") && err.lines().count() == 1, "{arguments:?}: {err}");
        err
    }

    fn head(&self) -> u64 {
        self.0.cluster.sql().number("select revision from ringway.head")
    }

    fn objects(&self) -> String {
        self.0
            .cluster
            .sql()
            .text("select kind || '/' || id || ' ' || spec::text from ringway.resource order by 1")
    }

    /// What a request for this path is answered with.
    fn served(&self, path: &str) -> u16 {
        self.0.client().get("any", path).status
    }
}

const SHOP: &str = "
upstreams:
- id: shop
  nodes: {NODE: 1}
  retries: 1
routes:
- {id: cart, uri: /cart, upstream_id: shop, methods: [GET]}
- {id: 7, uri: /seven, upstream_id: shop, labels: {on: 'yes', n: '1.0'}}
";

#[test]
fn apply_is_one_transaction_that_is_shown_first_and_a_second_one_changes_nothing() {
    let mut desk = Desk::new();
    let node = desk.0.backend("blue").to_string();
    let file = desk.file("f/shop.yaml", &SHOP.replace("NODE", &format!("\"{node}\"")));

    let told = desk.fails(1, &["apply", "-f", &file]);
    assert!(told.contains("no terminal") && told.contains("--yes"), "{told}");
    assert_eq!(desk.head(), 0);
    let (out, _) = desk.ends(0, &["apply", "-f", &file, "--yes", "--wait", "30s"]);
    for line in ["+ routes/cart", "    + /uri: \"/cart\"", "+ routes/7", "+ upstreams/shop"] {
        assert!(out.lines().any(|own| own == line), "{line} in {out}");
    }
    assert!(out.contains("3 created, 0 changed, 0 deleted; reaches 2 routes: 7, cart"), "{out}");
    assert!(out.contains("every node serves it: stand"), "{out}");
    assert_eq!((desk.head(), desk.served("/cart"), desk.served("/seven")), (1, 200, 200));

    let (out, _) = desk.ends(0, &["apply", "-f", &file]);
    assert!(out.contains("no changes: revision 1 has the 3 objects"), "{out}");
    assert_eq!(desk.head(), 1);

    // What is in no file stays, unless it is pruned.
    let changed =
        desk.file("f/shop.yaml", &SHOP.replace("NODE", &format!("\"{node}\"")).replace("/cart,", "/basket,"));
    desk.0.cluster.sql().run(
        "insert into ringway.resource (kind, id, spec) values ('routes', 'by-hand', '{\"uri\": \"/hand\"}')",
    );
    let folder = desk.0.dir().join("f").display().to_string();
    let (out, _) = desk.ends(1, &["diff", "-f", &folder]);
    assert!(out.contains("~ routes/cart\n    ~ /uri: \"/cart\" -> \"/basket\"\n"), "{out}");
    assert!(!out.contains("by-hand"), "{out}");
    let (out, _) = desk.ends(0, &["apply", "-f", &changed, "--prune", "--yes", "--json", "--wait", "30s"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    let ops: Vec<&str> = document["plan"]["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["op"].as_str().unwrap())
        .collect();
    assert_eq!(ops, ["delete", "change"], "{out}");
    assert_eq!(document["result"]["revision"], 3, "{out}");
    assert_eq!((desk.served("/cart"), desk.served("/basket"), desk.served("/hand")), (404, 200, 404));
    desk.ends(0, &["diff", "-f", &folder, "--prune"]);

    let empty = desk.file("empty.yaml", "routes: []\n");
    assert!(desk.fails(1, &["apply", "-f", &empty, "--prune", "--yes"]).contains("would delete everything"));
    assert_eq!(desk.head(), 3);
}

/// `apply` at a terminal of its own: when it asks, `meanwhile` happens, and then it is answered.
fn at_a_terminal(desk: &Desk, file: &str, answer: &str, meanwhile: impl FnOnce()) -> (Option<i32>, String) {
    let ringway = desk.0.tool("control", &[]);
    let line = format!("'{}' apply -f '{file}'", ringway.get_program().display());
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &line, "/dev/null"]);
    for (name, value) in ringway.get_envs() {
        command.env(name, value.unwrap());
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script(1)");
    let (mut out, mut text) = (child.stdout.take().unwrap(), Vec::new());
    let mut byte = [0];
    while !text.ends_with(b"[y/N] ") {
        assert_eq!(
            out.read(&mut byte).unwrap(),
            1,
            "it ended without asking: {}",
            String::from_utf8_lossy(&text)
        );
        text.push(byte[0]);
    }
    meanwhile();
    child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
    out.read_to_end(&mut text).unwrap();
    (child.wait().unwrap().code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn at_a_terminal_apply_asks_and_writes_what_was_shown_or_nothing() {
    let desk = Desk::new();
    let file = desk.file("a.yaml", "routes: [{id: a, uri: /a}]\n");
    for answer in ["n\n", "\n"] {
        let (code, text) = at_a_terminal(&desk, &file, answer, || ());
        assert!(text.contains("+ routes/a") && text.contains("nothing was written"), "{text}");
        assert_eq!((code, desk.head()), (Some(1), 0), "{answer:?}: {text}");
    }
    let insert =
        "insert into ringway.resource (kind, id, spec) values ('routes', 'a', '{\"uri\": \"/theirs\"}')";
    let (code, text) = at_a_terminal(&desk, &file, "y\n", || desk.0.cluster.sql().run(insert));
    assert!(text.contains("somebody else has changed") && text.contains("run it again"), "{text}");
    assert_eq!((code, desk.objects().as_str()), (Some(1), "routes/a {\"uri\": \"/theirs\"}"), "{text}");
    let (code, text) = at_a_terminal(&desk, &file, "y\n", || ());
    assert_eq!((code, desk.objects().as_str()), (Some(0), "routes/a {\"uri\": \"/a\"}"), "{text}");
}

#[test]
fn a_dump_can_be_applied_and_changes_nothing() {
    let desk = Desk::new();
    // As a DBA or another client may have written it: defaults left out or given, numbers of both sorts, odd texts.
    desk.0.cluster.sql().run(
        r#"insert into ringway.resource (kind, id, spec) values
            ('upstreams', 'u', '{"nodes": {"10.0.0.5:80": 1}, "timeout": {"connect": 1.5, "send": 60, "read": 6.0}}'),
            ('upstreams', '8', '{"nodes": [{"host": "10.0.0.6", "port": 80, "weight": 0}], "type": "roundrobin"}'),
            ('services', 's', '{"upstream_id": "u", "hosts": ["*.example.com", "yes"], "desc": "a: b # c\n\"d\" \\ é\u0085"}'),
            ('routes', 'r', '{"uri": "/*", "priority": 0, "service_id": "s", "labels": {"null": "null", "1": "true"}}')"#,
    );
    desk.0.wait_for_every_core(1);
    let before = desk.objects();
    let path = desk.0.dir().join("dump.yaml").display().to_string();
    let (_, told) = desk.ends(0, &["dump", "-o", &path]);
    assert!(told.starts_with("4 objects in "), "{told}");
    let (out, _) = desk.ends(0, &["diff", "-f", &path, "--prune"]);
    assert_eq!(out, "");
    let (out, _) = desk.ends(0, &["apply", "-f", &path, "--prune"]);
    assert!(out.contains("no changes"), "{out}");
    let (json, _) = desk.ends(0, &["dump", "--json"]);
    let json = desk.file("dump.json", &json);
    desk.ends(0, &["diff", "-f", &json, "--prune"]);
    assert!(desk.0.ringway(&["validate", &path]).0 == 0);

    desk.0.cluster.sql().run("delete from ringway.resource");
    desk.ends(0, &["apply", "-f", &path, "--yes"]);
    assert_eq!(desk.objects(), before);
    let (again, _) = desk.ends(0, &["dump"]);
    assert_eq!(again, std::fs::read_to_string(&path).unwrap());
}

#[test]
fn a_refusal_names_object_field_and_file_and_nothing_is_written() {
    let desk = Desk::new();
    let good = desk.file("a.yaml", "upstreams: [{id: u, nodes: {'127.0.0.1:1': 1}}]\n");
    for (text, want) in [
        (
            "routes: [{id: r, uri: /a, upstream_id: nobody}]",
            &["routes/r at /upstream_id", "upstreams/nobody, which does not exist"][..],
        ),
        ("routes: [{id: r, uri: '/a/*/b'}]", &["routes/r at /uri: "]),
        ("routes: [{id: r, uri: 5}]", &["routes/r: ", "\"uri\""]),
        ("routes: [{id: r, uri: /a, vrs: []}]", &["routes/r", "vrs"]),
        ("ssls: [{id: c, cert: c, key: k, snis: [a]}]", &["ssls/c: ", "not supported by this release"]),
    ] {
        let bad = desk.file("bad.yaml", text);
        let told = desk.fails(1, &["apply", "-f", &good, "-f", &bad, "--yes"]);
        assert!(
            told.contains("nothing was written")
                && told.contains("correct it in ")
                && told.contains("bad.yaml"),
            "{text}: {told}"
        );
        assert!(want.iter().all(|want| told.contains(want)), "{text}: {told}");
        desk.fails(2, &["diff", "-f", &good, &bad]);
        assert_eq!(desk.objects(), "");
    }
    let (out, _) =
        desk.ends(2, &["diff", "--json", "-f", &desk.file("bad.yaml", "routes: [{id: r, uri: x}]")]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["answer"]["errors"][0]["pointer"], "/uri", "{out}");
    assert!(desk.fails(2, &["diff", "-f", "/nonexistent.yaml"]).contains("/nonexistent.yaml"));
    assert!(desk.fails(2, &["diff", "-f", &good, "--key", "wrong"]).contains("does not know this key"));
    let gone = desk.fails(2, &["diff", "-f", &good, "--server", "http://127.0.0.1:1"]);
    assert!(gone.contains("cannot reach the Admin API at http://127.0.0.1:1"), "{gone}");
    assert!(!gone.contains(ADMIN_KEY));
}

#[test]
fn single_objects_history_and_rollback() {
    let mut desk = Desk::new();
    let node = desk.0.backend("blue");
    let upstream = desk.file("u.yaml", &format!("nodes: {{\"{node}\": 1}}\n"));
    let route = desk.file("r.json", r#"{"uri": "/a", "upstream_id": "u"}"#);
    let (out, _) = desk.ends(0, &["put", "upstream", "u", "-f", &upstream]);
    assert_eq!(out, "upstreams/u is written; its revision is 1\n");
    desk.ends(0, &["put", "routes", "r", "-f", &route, "--wait", "30s"]);
    assert_eq!(desk.served("/a"), 200);
    let (out, _) = desk.ends(0, &["get", "routes"]);
    assert_eq!(out, "ID  REVISION  WHAT\nr          2  /a -> upstreams/u\n");
    let (out, _) = desk.ends(0, &["get", "routes", "r"]);
    assert!(out.starts_with("id: r\n") && out.contains("\nuri: /a\n"), "{out}");
    let (out, _) = desk.ends(0, &["get", "routes", "r", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["modifiedIndex"], 2);
    assert!(
        desk.fails(1, &["get", "routes", "none"]).contains("there is no routes/none; `ringway get routes`")
    );
    assert!(desk.fails(1, &["get", "credentials"]).contains("`ringway get credentials NAME`"));

    let told = desk.fails(1, &["delete", "upstreams", "u"]);
    assert!(told.contains("routes/r at /upstream_id: refers to upstreams/u"), "{told}");
    let (out, _) = desk.ends(0, &["delete", "upstreams", "u", "--force", "--wait", "30s"]);
    assert!(out.contains("upstreams/u is deleted\nroutes/r no longer refers to it\n"), "{out}");
    assert_eq!((desk.served("/a"), desk.head()), (503, 3));

    let (out, _) = desk.ends(0, &["history", "-n", "2"]);
    assert_eq!(out.lines().count(), 3, "{out}");
    let (out, _) = desk.ends(0, &["history", "--object", "routes/r", "--fields"]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[1].starts_with("       3 ") && lines[1].ends_with("~ routes/r"), "{out}");
    assert_eq!(lines[2], "    - /upstream_id: \"u\"", "{out}");
    assert!(lines[3].starts_with("       2 ") && lines[3].ends_with("+ routes/r"), "{out}");
    assert!(desk.fails(1, &["history", "--object", "rout/r"]).contains("rout"));

    let (out, _) = desk.ends(0, &["rollback", "2", "--wait", "30s"]);
    assert!(
        out.contains("revision 4: 2 objects as in revision 2; `ringway rollback 3` takes it back"),
        "{out}"
    );
    assert_eq!(desk.served("/a"), 200);
    assert!(desk.fails(1, &["rollback", "99"]).contains("there is no revision 99"));
    assert!(desk.ends(0, &["rollback", "2"]).0.contains("no changes"));

    let (out, _) = desk.ends(0, &["explain", "GET", "any", "/a", "--json"]);
    let explained: Value = serde_json::from_str(&out).unwrap();
    assert!(explained.to_string().contains("\"r\""), "{out}");
    assert!(desk.fails(1, &["explain", "GET", "any", "/a; shutdown"]).contains("cannot be asked"));
}

#[test]
fn completions_are_scripts_that_the_shell_reads() {
    let script = std::process::Command::new(crate::stand::executables().join("ringway"))
        .args(["completions", "bash"])
        .output()
        .unwrap()
        .stdout;
    let script = String::from_utf8(script).unwrap();
    assert!(!script.contains("demo-backend"), "hidden commands are shown");
    let tried = format!(
        "{script}\nCOMP_WORDS=(ringway app); COMP_CWORD=1; _ringway ringway app ringway; echo \"${{COMPREPLY[@]}}\""
    );
    let output = std::process::Command::new("bash").args(["-c", &tried]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "apply", "{output:?}");
}
