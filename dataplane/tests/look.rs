//! Requests whose route or plugins look into their body, through the real executable: where they go, and that nodes cannot tell.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use stand::{Gateway, node, read_message_text, wait_until};

fn at(address: SocketAddr) -> Value {
    json!({"nodes": {address.to_string(): 1}})
}

/// A node that answers with its name and tells what it was sent.
fn telling_node(name: &'static str) -> (SocketAddr, Receiver<String>) {
    let (tell, told) = channel();
    let address = node(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some(message) = read_message(&mut reader) {
            tell.send(message).unwrap();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    (address, told)
}

/// One message as it came, chunks and trailers too.
fn read_message(reader: &mut impl BufRead) -> Option<String> {
    let (mut message, mut body) = read_message_text(reader)?;
    if message.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        let lines = |reader: &mut dyn BufRead, body: &mut Vec<u8>| reader.read_until(b'\n', body).ok();
        loop {
            let size_at = body.len();
            lines(reader, &mut body)?;
            let size = String::from_utf8_lossy(&body[size_at..]).trim().to_owned();
            let size = usize::from_str_radix(&size, 16).unwrap();
            if size == 0 {
                break;
            }
            let data_at = body.len();
            body.resize(data_at + size + 2, 0);
            reader.read_exact(&mut body[data_at..]).ok()?;
        }
        loop {
            let line_at = body.len();
            lines(reader, &mut body)?;
            if &body[line_at..] == b"\r\n" {
                break;
            }
        }
    }
    message.push_str(&String::from_utf8_lossy(&body));
    Some(message)
}

fn body_of(message: &str) -> &str {
    message.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no message: {message:?}")).1
}

/// A gateway where `/chat` goes to `special` if the body says `{"model": "special"}`, and else to `usual`.
struct Rig {
    gateway: Gateway,
    special: Receiver<String>,
    usual: Receiver<String>,
}

impl Rig {
    fn start(flags: &[&str]) -> Rig {
        let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), flags);
        let (special_at, special) = telling_node("special");
        let (usual_at, usual) = telling_node("usual");
        gateway.configure(
            1,
            &[
                (
                    "routes",
                    "special",
                    json!({"uri": "/chat", "priority": 1, "upstream": at(special_at), "vars": [["post_arg.model", "==", "special"]]}),
                ),
                (
                    "routes",
                    "form",
                    json!({"uri": "/form", "priority": 1, "upstream": at(special_at), "vars": [["post_arg_k", "==", "a b"]]}),
                ),
                ("routes", "usual", json!({"uri": "/*", "upstream": at(usual_at)})),
            ],
        );
        Rig { gateway, special, usual }
    }

    /// What the client hears, one request a connection.
    fn ask(&self, request: &str) -> String {
        self.gateway.exchange(request.as_bytes())
    }
}

fn post(path: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Client connections, all cores together.
fn count(gateway: &Gateway, which: &str) -> u64 {
    let cores = gateway.ctl_json("show connections");
    cores.as_array().unwrap().iter().map(|core| core[which].as_u64().unwrap()).sum()
}

/// The sum of a metric over all cores.
fn metric(gateway: &Gateway, name: &str) -> u64 {
    let mut status = stand::connect(gateway.status);
    status.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let page = stand::read_to_close(&mut status);
    let values = page.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit_once(' '));
    values.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
}

const JSON: &str = "Content-Type: application/json\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const SPECIAL: &str = r#"{"model": "special", "n": [1, 2]}"#;
/// Long enough for whatever is left to be read.
const SLOW: &[&str] = &["--request-body-timeout-ms", "300"];

#[test]
fn two_routes_are_told_apart_by_the_body_alone() {
    let rig = Rig::start(&[]);
    let parts = "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nspecial\r\n--x--\r\n";
    for (path, fields, body, want) in [
        ("/chat", JSON, SPECIAL, "special"),
        ("/chat", JSON, r#"{"model": "other"}"#, "usual"),
        ("/chat", JSON, r#"{"model": "special""#, "usual"),
        ("/chat", JSON, "", "usual"),
        ("/chat", "", SPECIAL, "usual"),
        ("/chat", FORM, "a=1&model=special", "special"),
        ("/chat", "Content-Type: multipart/form-data; boundary=x\r\n", parts, "special"),
        ("/form", FORM, "k=a+b&k=c", "special"),
        ("/form", FORM, "k=c&k=a+b", "usual"),
        ("/form", JSON, r#"{"k": "a b"}"#, "usual"),
    ] {
        let heard = rig.ask(&post(path, fields, body));
        assert_eq!(body_of(&heard), want, "{path} {fields} {body}: {heard}");
        let told = if want == "special" { &rig.special } else { &rig.usual }.recv().unwrap();
        assert_eq!(body_of(&told), body, "{told}");
    }
    let heard = rig.ask("GET /chat HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!(body_of(&heard), "usual");
    let told = rig.gateway.ctl_json("explain POST h /chat Content-Type:application/json");
    assert_eq!(told["steps"][1]["outcome"], "vars do not hold without a body", "{told}");
    assert!(told["body"].is_string(), "{told}");
    assert!(rig.gateway.ctl_json("explain GET h /other")["body"].is_null());
}

#[test]
fn wherever_a_request_is_cut_it_goes_where_its_body_says_and_what_follows_it_is_the_next() {
    let rig = Rig::start(&[]);
    let length = SPECIAL.len();
    let plain = format!("POST /chat HTTP/1.1\r\nHost: h\r\n{JSON}Content-Length: {length}\r\n\r\n{SPECIAL}");
    let (one, two) = SPECIAL.split_at(11);
    let chunked = format!(
        "POST /chat HTTP/1.1\r\nHost: h\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x};e=1\r\n{two}\r\n0\r\nX-T: 1\r\n\r\n",
        one.len(),
        two.len()
    );
    let next = "GET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    for request in [plain, chunked] {
        let head = request.find("\r\n\r\n").unwrap();
        for cut in (head - 1..request.len() + 2).step_by(3) {
            let bytes = [&request, next].concat();
            let (first, rest) = bytes.split_at(cut);
            let mut client = rig.gateway.connect();
            client.write_all(first.as_bytes()).unwrap();
            // The gateway has taken it in: this is answered behind it on the same core or another one.
            assert_eq!(body_of(&rig.ask(&post("/other", "", ""))), "usual");
            rig.usual.recv().unwrap();
            client.write_all(rest.as_bytes()).unwrap();
            let heard = stand::read_to_close(&mut client);
            assert_eq!(heard.matches("HTTP/1.1 200 OK").count(), 2, "cut at {cut}: {heard}");
            let told = rig.special.recv().unwrap();
            let sent = unchunked(body_of(&told), told.contains("chunked"));
            assert_eq!(sent, SPECIAL, "cut at {cut}: {told}");
            assert!(rig.usual.recv().unwrap().starts_with("GET /next "), "cut at {cut}");
        }
    }
}

/// The payload of a chunked body whose trailers came along.
fn unchunked(body: &str, is_chunked: bool) -> String {
    if !is_chunked {
        return body.to_owned();
    }
    let (mut rest, mut payload) = (body, String::new());
    loop {
        let (size, behind) = rest.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            assert_eq!(behind.to_ascii_lowercase(), "x-t: 1\r\n\r\n");
            return payload;
        }
        payload.push_str(&behind[..size]);
        rest = &behind[size + 2..];
    }
}

/// Sends a head, and the body once the client may; what is heard after that.
fn with_leave(gateway: &Gateway, head: &str, body: &str) -> String {
    let mut client = gateway.connect();
    client.write_all(head.as_bytes()).unwrap();
    let mut leave = [0; 25];
    client.read_exact(&mut leave).unwrap();
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(body.as_bytes()).unwrap();
    stand::read_to_close(&mut client)
}

#[test]
fn a_client_that_waits_for_leave_gets_it_from_the_gateway() {
    let rig = Rig::start(&[]);
    let request = post("/chat", &format!("{JSON}Expect: 100-continue\r\n"), SPECIAL);
    let (head, body) = request.split_at(request.len() - SPECIAL.len());
    let heard = with_leave(&rig.gateway, head, body);
    assert!(heard.starts_with("HTTP/1.1 200 ") && heard.ends_with("special"), "{heard}");
    let told = rig.special.recv().unwrap();
    assert!(!told.to_ascii_lowercase().contains("expect") && body_of(&told) == SPECIAL, "{told}");
}

#[test]
fn a_body_over_the_limit_is_as_none_and_streams_unchanged() {
    let rig = Rig::start(&["--looked-body-bytes-max", "1000"]);
    let fits = format!("{{\"model\": \"special\", \"pad\": \"{}\"}}", "p".repeat(969));
    assert_eq!(fits.len(), 1_000);
    assert_eq!(body_of(&rig.ask(&post("/chat", JSON, &fits))), "special");
    assert_eq!(body_of(&rig.special.recv().unwrap()), fits);
    for bytes in [1_001, 300_000] {
        let large = format!("{{\"model\": \"special\", \"pad\": \"{}\"}}", "p".repeat(bytes - 31));
        assert_eq!(body_of(&rig.ask(&post("/chat", JSON, &large))), "usual");
        assert_eq!(body_of(&rig.usual.recv().unwrap()), large);
        // Leave is then between client and node as ever: the node hears of it, and is waited for before the gateway gives it.
        let request = post("/chat", &format!("{JSON}Expect: 100-continue\r\n"), &large);
        let (head, body) = request.split_at(request.len() - large.len());
        let heard = with_leave(&rig.gateway, head, body);
        assert!(heard.ends_with("usual"), "{heard}");
        let told = rig.usual.recv().unwrap();
        assert!(told.to_ascii_lowercase().contains("expect: 100-continue") && body_of(&told) == large);
        let chunked = format!(
            "POST /chat HTTP/1.1\r\nHost: h\r\n{JSON}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n{bytes:x}\r\n{large}\r\n0\r\nX-T: 1\r\n\r\n"
        );
        assert_eq!(body_of(&rig.ask(&chunked)), "usual");
        assert_eq!(unchunked(body_of(&rig.usual.recv().unwrap()), true), large);
    }
    assert_eq!(metric(&rig.gateway, "ringway_request_bodies_looked_into_total"), 1);
    assert_eq!(metric(&rig.gateway, "ringway_request_bodies_too_large_to_look_into_total"), 6);
}

#[test]
fn a_body_that_does_not_come_or_is_framed_wrongly_is_answered_without_a_node() {
    let rig = Rig::start(SLOW);
    let slow = format!("POST /chat HTTP/1.1\r\nHost: h\r\n{JSON}Content-Length: 50\r\n\r\n{{\"model\"");
    let heard = rig.ask(&slow);
    assert!(heard.starts_with("HTTP/1.1 408 ") && heard.contains("did not come in time"), "{heard}");
    for bad in ["zz\r\n", "5\r\nabcdefgh\r\n", "3\r\nabcX"] {
        let request =
            format!("POST /chat HTTP/1.1\r\nHost: h\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n{bad}");
        let heard = rig.ask(&request);
        assert!(heard.starts_with("HTTP/1.1 400 ") && heard.contains("bad_body"), "{bad:?}: {heard}");
    }
    assert!(rig.special.try_recv().is_err() && rig.usual.try_recv().is_err());
}

#[test]
fn a_client_that_leaves_in_the_middle_costs_nobody_anything() {
    let rig = Rig::start(&[]);
    let mut client = rig.gateway.connect();
    client
        .write_all(
            format!("POST /chat HTTP/1.1\r\nHost: h\r\n{JSON}Content-Length: 50\r\n\r\n{{\"model\"")
                .as_bytes(),
        )
        .unwrap();
    wait_until("the request", || Some(()).filter(|()| count(&rig.gateway, "busy") == 1));
    drop(client);
    wait_until("its end", || Some(()).filter(|()| count(&rig.gateway, "open") == 0));
    assert_eq!(body_of(&rig.ask(&post("/chat", JSON, SPECIAL))), "special");
    assert!(rig.usual.try_recv().is_err() && rig.special.try_iter().count() == 1);
}

#[test]
fn a_request_whose_body_is_awaited_goes_by_the_version_that_it_began_with() {
    let rig = Rig::start(&[]);
    let mut client = rig.gateway.connect();
    let request = post("/chat", JSON, SPECIAL);
    let (first, rest) = request.split_at(request.len() - 5);
    client.write_all(first.as_bytes()).unwrap();
    wait_until("the request", || Some(()).filter(|()| count(&rig.gateway, "busy") == 1));
    let (other_at, other) = telling_node("other");
    rig.gateway.configure(2, &[("routes", "all", json!({"uri": "/*", "upstream": at(other_at)}))]);
    assert_eq!(body_of(&rig.ask(&post("/chat", JSON, SPECIAL))), "other");
    client.write_all(rest.as_bytes()).unwrap();
    assert_eq!(body_of(&stand::read_to_close(&mut client)), "special");
    assert_eq!(other.try_iter().count(), 1);
}

#[test]
fn a_request_whose_body_is_awaited_is_served_before_the_process_ends() {
    let mut rig = Rig::start(&[]);
    let mut client = rig.gateway.connect();
    let request = post("/chat", JSON, SPECIAL);
    let (first, rest) = request.split_at(request.len() - 5);
    client.write_all(first.as_bytes()).unwrap();
    wait_until("the request", || Some(()).filter(|()| count(&rig.gateway, "busy") == 1));
    rig.gateway.ctl("shutdown");
    client.write_all(rest.as_bytes()).unwrap();
    assert_eq!(body_of(&stand::read_to_close(&mut client)), "special");
    rig.gateway.wait();
}

/// A node that reads requests and closes without an answer, and tells each.
fn closing_node() -> (SocketAddr, Receiver<String>) {
    let (tell, told) = channel();
    let address = node(move |stream: TcpStream| {
        let mut reader = BufReader::new(stream);
        if let Some(message) = read_message(&mut reader) {
            tell.send(message).unwrap();
        }
    });
    (address, told)
}

#[test]
fn a_body_that_was_looked_into_is_sent_again_where_the_method_allows_it_and_only_there() {
    let gateway = Gateway::start();
    let ((closing, closed), (good, served)) = (closing_node(), telling_node("good"));
    let nodes = json!([{"host": "127.0.0.1", "port": closing.port(), "weight": 1, "priority": 1},
        {"host": "127.0.0.1", "port": good.port(), "weight": 1, "priority": 0}]);
    gateway.configure(
        1,
        &[(
            "routes",
            "r",
            json!({"uri": "/*", "vars": [["post_arg.model", "==", "special"]], "upstream": {"nodes": nodes}}),
        )],
    );
    let put = post("/", JSON, SPECIAL).replacen("POST", "PUT", 1);
    assert_eq!(body_of(&gateway.exchange(put.as_bytes())), "good");
    assert_eq!(body_of(&closed.recv().unwrap()), SPECIAL);
    assert_eq!(body_of(&served.recv().unwrap()), SPECIAL);
    let heard = gateway.exchange(post("/", JSON, SPECIAL).as_bytes());
    assert!(heard.starts_with("HTTP/1.1 502 "), "{heard}");
    assert_eq!((closed.try_iter().count(), served.try_iter().count()), (1, 0));
}

#[test]
fn plugins_look_into_bodies_also_where_routes_do_not_and_also_when_the_answer_comes() {
    let gateway = Gateway::start();
    let ((usual_at, usual), (other_at, other)) = (telling_node("usual"), telling_node("other"));
    let is = |name: &str| json!([["post_arg.model", "==", name]]);
    let split = json!({"rules": [{"match": [{"vars": is("split")}], "weighted_upstreams": [{"upstream": at(other_at)}]}]});
    let rewrite = json!({"vars": is("rewrite"), "headers": {"set": {"X-Rewritten": "$post_arg_k."}}});
    let abort = json!({"abort": {"http_status": 418, "vars": [is("teapot")]}});
    gateway.configure(
        1,
        &[
            (
                "routes",
                "r",
                json!({"uri": "/*", "upstream": at(usual_at), "plugins": {"traffic-split": split, "response-rewrite": rewrite}}),
            ),
            ("routes", "k", json!({"uri": "/k", "upstream": at(usual_at), "plugins": {"key-auth": {}}})),
            ("consumers", "c", json!({"username": "c", "plugins": {"key-auth": {"key": "key"}, "fault-injection": abort}})),
        ],
    );
    let ask = |path: &str, body: &str| {
        gateway.exchange(post(path, &format!("{FORM}apikey: key\r\n"), body).as_bytes())
    };
    assert_eq!(body_of(&ask("/", "model=split")), "other");
    assert_eq!(body_of(&other.recv().unwrap()), "model=split");
    assert_eq!(body_of(&ask("/", "model=none")), "usual");
    let heard = ask("/", "k=v&model=rewrite");
    assert!(heard.contains("X-Rewritten: v.\r\n") && heard.ends_with("usual"), "{heard}");
    assert!(ask("/k", "model=teapot").starts_with("HTTP/1.1 418 "));
    assert_eq!(body_of(&ask("/k", "model=tea")), "usual");
    assert_eq!(usual.try_iter().count(), 3);
}

#[test]
fn a_field_of_the_form_decides_which_node_gets_the_request() {
    let gateway = Gateway::start();
    let ((one_at, one), (two_at, two)) = (telling_node("one"), telling_node("two"));
    let nodes = json!({one_at.to_string(): 1, two_at.to_string(): 1});
    let upstream =
        json!({"type": "chash", "hash_on": "vars_combinations", "key": "$post_arg_user", "nodes": nodes});
    gateway.configure(1, &[("routes", "r", json!({"uri": "/*", "upstream": upstream}))]);
    let of = |user: u32| {
        let heard = gateway.exchange(post("/", FORM, &format!("user={user}&n=1")).as_bytes());
        body_of(&heard).to_owned()
    };
    let nodes: Vec<String> = (0..40).map(of).collect();
    assert_eq!(nodes, (0..40).map(of).collect::<Vec<_>>());
    assert!(one.try_iter().count() > 0 && two.try_iter().count() > 0);
}

#[test]
fn what_a_core_holds_of_bodies_is_bounded_and_given_back() {
    let rig = Rig::start(&["--workers", "1", "--looked-body-bytes-max", "16777216"]);
    let held = 15 << 20;
    let begun = format!("POST /chat HTTP/1.1\r\nHost: h\r\n{JSON}Content-Length: {}\r\n\r\n", held + 1);
    let mut clients = Vec::new();
    let in_hand = |gateway: &Gateway| metric(gateway, "ringway_looked_into_bytes_held");
    for number in 1..=4u64 {
        let mut client = rig.gateway.connect();
        client.write_all(begun.as_bytes()).unwrap();
        client.write_all(&vec![b' '; held]).unwrap();
        clients.push(client);
        wait_until("it is held", || Some(()).filter(|()| in_hand(&rig.gateway) >= number * held as u64));
    }
    let mut last = rig.gateway.connect();
    last.write_all(begun.as_bytes()).unwrap();
    let mut sender = last.try_clone().unwrap();
    // The gateway answers before it has all, and takes no more than it drops.
    std::thread::spawn(move || {
        let _ = sender.write_all(&vec![b' '; held]);
    });
    let mut heard = [0; 13];
    last.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"HTTP/1.1 503 ");
    drop((clients, last));
    wait_until("all is given back", || Some(()).filter(|()| in_hand(&rig.gateway) == 0));
    assert_eq!(body_of(&rig.ask(&post("/chat", JSON, SPECIAL))), "special");
}
