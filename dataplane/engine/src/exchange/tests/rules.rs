//! When a request is repeated, and when a connection is used again.

use super::{GET, HEAD, Node, POST, SOCKET, begun, client_sends};
use crate::exchange::UpstreamFault;
use crate::http1::{BodyError, HeadError, Method};

const TRANSPORT: [UpstreamFault; 5] = [
    UpstreamFault::Connect,
    UpstreamFault::ConnectTimeout,
    UpstreamFault::Closed,
    UpstreamFault::SendTimeout,
    UpstreamFault::ReadTimeout,
];
const ANSWERS: [UpstreamFault; 4] = [
    UpstreamFault::Head(HeadError::BareLf),
    UpstreamFault::Body(BodyError::Truncated),
    UpstreamFault::Interims,
    UpstreamFault::UnaskedUpgrade,
];

#[test]
fn a_request_is_repeated_only_where_that_cannot_do_it_twice() {
    let idempotent = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
    let others = ["POST", "PATCH", "CONNECT", "get", "PROPFIND"];
    for method in idempotent.into_iter().chain(others) {
        let target = if method == "CONNECT" { "a:1" } else { "/" };
        let head = format!("{method} {target} HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\n\r\n");
        for sent in [false, true] {
            for repeatable in [false, true] {
                let expected = !sent || (idempotent.contains(&method) && repeatable);
                for fault in TRANSPORT {
                    let exchange = begun(&head);
                    assert_eq!(exchange.may_retry(&fault, sent, repeatable), expected, "{method} {fault}");
                }
                for fault in ANSWERS {
                    assert!(!begun(&head).may_retry(&fault, sent, repeatable), "{method} {fault}");
                }
            }
        }
    }
}

#[test]
fn a_request_of_whose_answer_a_byte_came_is_never_repeated() {
    for bytes in ["H", "HTTP/1.1 100 C\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"] {
        let mut exchange = begun(GET);
        assert!(exchange.may_retry(&UpstreamFault::Closed, true, true));
        Node::new(&mut exchange).says(bytes.as_bytes()).unwrap();
        assert!(!exchange.may_retry(&UpstreamFault::Closed, true, true), "{bytes}");
        assert!(!exchange.may_retry(&UpstreamFault::Closed, false, true), "{bytes}");
    }
}

#[test]
fn a_timeout_is_a_504_and_everything_else_a_502() {
    for fault in TRANSPORT.into_iter().chain(ANSWERS) {
        let late = matches!(
            fault,
            UpstreamFault::ConnectTimeout | UpstreamFault::SendTimeout | UpstreamFault::ReadTimeout
        );
        assert_eq!(fault.status(), if late { 504 } else { 502 }, "{fault}");
    }
}

#[test]
fn a_node_s_connection_is_used_again_only_after_two_clean_ends() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let rows: [(&str, &str, &str, bool); 17] = [
        ("plain", GET, OK, true),
        ("chunked", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true),
        ("no content", GET, "HTTP/1.1 204 N\r\n\r\n", true),
        ("not modified with a length", GET, "HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n", true),
        ("HEAD with a length", HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true),
        ("HEAD with a body", HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false),
        ("says close", GET, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", false),
        ("old", GET, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false),
        ("old but kept", GET, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", true),
        ("a second answer", GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n", false),
        ("one byte more", GET, "HTTP/1.1 204 N\r\n\r\n\n", false),
        ("behind chunks", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx", false),
        ("no content but a length", GET, "HTTP/1.1 204 N\r\nContent-Length: 2\r\n\r\n", false),
        ("half", GET, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", false),
        ("a tunnel", SOCKET, "HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n", false),
        (
            "an interim with a body",
            GET,
            "HTTP/1.1 103 H\r\nContent-Length: 4\r\n\r\nHTTP/1.1 204 N\r\n\r\n",
            false,
        ),
        (
            "an interim that closes",
            GET,
            "HTTP/1.1 103 H\r\nConnection: close\r\n\r\nHTTP/1.1 204 N\r\n\r\n",
            false,
        ),
    ];
    for (name, request, node_says, reusable) in rows {
        let mut exchange = begun(request);
        Node::new(&mut exchange).says(node_says.as_bytes()).unwrap();
        assert_eq!(exchange.upstream_reusable(), reusable, "{name}");
    }
}

#[test]
fn bytes_behind_the_answer_count_also_when_they_come_later() {
    let mut exchange = begun(GET);
    let mut node = Node::new(&mut exchange);
    node.says(b"HTTP/1.1 204 N\r\n\r\n").unwrap();
    assert!(node.exchange.upstream_reusable());
    node.says(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    assert!(!exchange.upstream_reusable());
}

#[test]
fn an_answer_that_overtakes_the_request_leaves_a_connection_that_is_not_used_again() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    // Part of the body is still with the client.
    let mut exchange = begun(POST);
    Node::new(&mut exchange).says(OK).unwrap();
    assert!(!exchange.upstream_reusable());
    // All of it was read, but its last bytes are not with the node.
    let mut exchange = begun(POST);
    client_sends(&mut exchange, b"hello");
    Node::new(&mut exchange).says(OK).unwrap();
    assert!(exchange.request.is_complete() && !exchange.upstream_reusable());
    exchange.request.sent();
    assert!(exchange.upstream_reusable());
    // The rest was thrown away.
    let mut exchange = begun(POST);
    Node::new(&mut exchange).says(OK).unwrap();
    exchange.request.discard();
    client_sends(&mut exchange, b"hello");
    assert!(!exchange.upstream_reusable());
}

#[test]
fn the_body_that_a_node_sends_where_the_client_said_head_is_not_the_next_ones_answer() {
    // Whether or not the body's bytes are there already: they belong to this exchange.
    for behind in ["", "hi"] {
        let mut exchange = begun(HEAD);
        exchange.sends(Method::Get);
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{behind}");
        Node::new(&mut exchange).says(answer.as_bytes()).unwrap();
        assert!(exchange.response.is_done() && !exchange.upstream_reusable(), "{behind:?}");
    }
    // It had none.
    for answer in ["HTTP/1.1 204 N\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"] {
        let mut exchange = begun(HEAD);
        exchange.sends(Method::Get);
        Node::new(&mut exchange).says(answer.as_bytes()).unwrap();
        assert!(exchange.upstream_reusable(), "{answer}");
    }
}
