//! From the client to the node.

use super::{GET, POST, POST_CHUNKED, POST_WAITING, SOCKET, begin, begun, client_sends};
use crate::exchange::{Exchange, Expectation};
use crate::http1::BodyHeader;

#[test]
fn a_request_is_delivered_when_its_last_byte_was_sent_and_not_before() {
    let mut exchange = Exchange::default();
    begin(&mut exchange, GET);
    assert!(exchange.request.is_complete() && !exchange.request.is_delivered());
    exchange.request.sent();
    assert!(exchange.request.is_delivered());

    let mut exchange = begun(POST);
    assert!(!exchange.request.is_complete());
    client_sends(&mut exchange, b"he");
    exchange.request.sent();
    assert!(!exchange.request.is_delivered());
    client_sends(&mut exchange, b"llo");
    assert!(exchange.request.is_complete() && !exchange.request.is_delivered());
    exchange.request.sent();
    assert!(exchange.request.is_delivered());
}

#[test]
fn another_try_has_delivered_nothing() {
    let mut exchange = begun(GET);
    exchange.begin_try();
    assert!(!exchange.request.is_delivered());
}

#[test]
fn a_discarded_body_is_complete_but_never_delivered() {
    let mut exchange = begun(POST);
    exchange.request.discard();
    assert_eq!(client_sends(&mut exchange, b"helloGET"), (Vec::new(), b"GET".to_vec()));
    exchange.request.sent();
    assert!(exchange.request.is_complete() && !exchange.request.is_delivered());
}

#[test]
fn what_follows_a_body_is_left_for_the_next_request() {
    let mut exchange = begun(POST);
    assert_eq!(client_sends(&mut exchange, b"helloGET /"), (b"hello".to_vec(), b"GET /".to_vec()));
    let mut exchange = begun(POST_CHUNKED);
    let (sent, rest) = client_sends(&mut exchange, b"2;x=y\r\nhi\r\n0\r\nT: v\r\n\r\nGET /");
    assert_eq!(String::from_utf8_lossy(&sent), "2\r\nhi\r\n0\r\nT: v\r\n\r\n");
    assert_eq!(rest, b"GET /");
}

#[test]
fn the_node_s_framing_field_is_the_client_s() {
    let rows = [
        (GET, BodyHeader::None),
        (POST, BodyHeader::Length(5)),
        (POST_CHUNKED, BodyHeader::Chunked),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", BodyHeader::Length(0)),
        ("POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\n", BodyHeader::Length(3)),
    ];
    for (head, header) in rows {
        assert_eq!(begun(head).request.body_header(), header, "{head}");
    }
}

#[test]
fn a_client_waits_for_leave_until_it_is_told_or_goes_on_by_itself() {
    let mut exchange = begun(POST_WAITING);
    assert_eq!(exchange.request.expectation(), Expectation::Waiting);
    exchange.request.release();
    assert_eq!(exchange.request.expectation(), Expectation::None);
    let mut exchange = begun(POST_WAITING);
    client_sends(&mut exchange, b"h");
    assert_eq!(exchange.request.expectation(), Expectation::None);
    // Nothing to wait for, or nobody who can mean it.
    for head in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
        "POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
    ] {
        assert_eq!(begun(head).request.expectation(), Expectation::None, "{head}");
    }
}

#[test]
fn a_switch_of_protocols_is_only_offered_by_a_get_without_content() {
    let rows = [
        (SOCKET.to_owned(), true),
        (SOCKET.replace("GET", "POST"), false),
        (SOCKET.replace("GET", "get"), false),
        (SOCKET.replace("Host: a\r\n", "Host: a\r\nContent-Length: 5\r\n"), false),
        (SOCKET.replace("Host: a\r\n", "Host: a\r\nTransfer-Encoding: chunked\r\n"), false),
        (SOCKET.replace("Host: a\r\n", "Host: a\r\nContent-Length: 0\r\n"), true),
        (SOCKET.replace("websocket", "h2c"), false),
        (SOCKET.replace("websocket", "websocket, h2c"), false),
        (SOCKET.replace("Connection: Upgrade\r\n", ""), false),
        (SOCKET.replace("HTTP/1.1", "HTTP/1.0"), false),
    ];
    for (head, may_upgrade) in rows {
        assert_eq!(begun(&head).response.facts().may_upgrade, may_upgrade, "{head}");
    }
}
