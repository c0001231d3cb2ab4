//! From the node to the client.

use std::sync::Arc;

use ringway_snapshot::Plugin;

use super::{GET, GET_OLD, GET_TRAILERS, HEAD, Node, POST, POST_WAITING, SOCKET, begin, begun, context};
use crate::exchange::{Exchange, ResponseContext, UpstreamFault};
use crate::facts::{Facts, Known};
use crate::http1::{BodyError, HeadError, Method, RequestHead};
use crate::plugin::{Answering, Chain, Chains, Step};

/// A request, what the node says, whether it then ends, and what the client gets behind the head's own fields.
type Row = (&'static str, &'static str, bool, &'static str);

const WHOLE: [Row; 15] = [
    (GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false, "200 OK|Content-Length: 2||hi"),
    (GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, "200 OK|Content-Length: 0||"),
    (GET, "HTTP/1.0 200 OK\r\n\r\nhi", true, "200 OK|Transfer-Encoding: chunked||2|hi|0||"),
    (GET, "HTTP/1.1 200 OK\r\n\r\n", true, "200 OK|Transfer-Encoding: chunked||0||"),
    (
        GET,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a\r\nhi\r\n0\r\nX: y\r\n\r\n",
        false,
        "200 OK|Transfer-Encoding: chunked||2|hi|0||",
    ),
    (
        GET_TRAILERS,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n",
        false,
        "200 OK|Transfer-Encoding: chunked||2|hi|0|X: y||",
    ),
    (
        GET_OLD,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        false,
        "200 OK|Connection: close||hi",
    ),
    (GET_OLD, "HTTP/1.1 200 OK\r\n\r\nhi", true, "200 OK|Connection: close||hi"),
    (
        GET_OLD,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        false,
        "200 OK|Content-Length: 2|Connection: keep-alive||hi",
    ),
    (GET, "HTTP/1.1 204 No\r\n\r\n", false, "204 No||"),
    (GET, "HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n", false, "304 Same|Content-Length: 9||"),
    (HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", false, "200 OK|Content-Length: 9||"),
    (HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, "200 OK||"),
    (HEAD, "HTTP/1.1 200 OK\r\n\r\n", false, "200 OK||"),
    (
        GET_OLD,
        "HTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        false,
        "200 OK|Content-Length: 0|Connection: keep-alive||",
    ),
];

fn pretty(client: &str) -> String {
    client.replace("Date: now\r\n", "").replace("HTTP/1.1 ", "").replace("\r\n", "|")
}

/// Chunks depend on the cuts; the bodies in them do not.
fn without_chunks(client: &str) -> String {
    let Some((head, body)) = client.split_once("||").filter(|(head, _)| head.contains("chunked")) else {
        return client.to_owned();
    };
    let (body, end) = body.split_once("0|").expect("the last chunk");
    let data = body.split('|').skip(1).step_by(2);
    format!("{head}||{}0|{end}", data.collect::<String>())
}

#[test]
fn every_framing_comes_out_as_this_client_understands_it_however_it_is_cut() {
    for (request, node_says, ends, expected) in WHOLE {
        let mut exchange = begun(request);
        let mut node = Node::new(&mut exchange);
        node.says(node_says.as_bytes()).unwrap();
        if ends {
            node.ends().unwrap();
        }
        assert_eq!(pretty(&node.client()), expected, "{node_says}");
        assert!(exchange.response.is_done(), "{node_says}");
        let mut exchange = begun(request);
        let mut node = Node::new(&mut exchange);
        node.drips(node_says.as_bytes()).unwrap();
        if ends {
            node.ends().unwrap();
        }
        assert_eq!(without_chunks(&pretty(&node.client())), without_chunks(expected), "{node_says}");
        assert!(exchange.response.is_done() && exchange.response.status().is_some());
    }
}

#[test]
fn interim_heads_pass_in_order_and_only_a_100_lets_the_client_go_on() {
    let mut exchange = begun(POST_WAITING);
    let mut node = Node::new(&mut exchange);
    node.says(b"HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 103 Hints\r\nLink: a\r\n\r\nHTTP/1.1 1").unwrap();
    assert!(!node.went_on);
    assert_eq!(pretty(&node.client()), "102 Wait||103 Hints|Link: a||");
    node.says(b"00 Go\r\nContent-Length: 7\r\n\r\n").unwrap();
    assert!(node.went_on);
    assert!(
        node.client().ends_with("HTTP/1.1 100 Go\r\n\r\n"),
        "no framing field in a 1xx: {}",
        node.client()
    );
    assert_eq!(node.exchange.response.status(), None);
    assert_eq!(node.says(b"HTTP/1.1 102 Wait\r\n\r\n"), Err(UpstreamFault::Interims));
}

#[test]
fn an_unanswered_expectation_closes_the_client_s_connection() {
    let ok: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for (before, awaits_leave, closes) in [
        ("", true, true),
        ("HTTP/1.1 102 W\r\n\r\n", true, true),
        ("HTTP/1.1 100 C\r\n\r\n", true, false),
        ("", false, false),
    ] {
        let mut exchange = begun(POST_WAITING);
        let mut node = Node::new(&mut exchange);
        node.context = ResponseContext { awaits_leave, ..context() };
        node.says(&[before.as_bytes(), ok].concat()).unwrap();
        assert_eq!(node.client().contains("Connection: close\r\n"), closes, "{before}");
        assert_eq!(exchange.response.closes_downstream(), closes, "{before}");
    }
}

#[test]
fn a_switch_of_protocols_must_be_the_one_that_was_asked_for() {
    let asked = "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
    let unasked = Err(UpstreamFault::UnaskedUpgrade);
    let rows = [
        (SOCKET, asked.to_owned(), Ok(())),
        (GET, asked.to_owned(), unasked),
        (POST_WAITING, asked.to_owned(), unasked),
        (SOCKET, asked.replace("WebSocket", "h2c"), unasked),
        (SOCKET, asked.replace("WebSocket", "websocket, h2c"), unasked),
        (SOCKET, asked.replace("Upgrade: WebSocket\r\n", ""), unasked),
        (SOCKET, asked.replace("\r\n\r\n", "\r\nUpgrade: websocket\r\n\r\n"), unasked),
    ];
    for (request, node_says, expected) in rows {
        let mut exchange = begun(request);
        let mut node = Node::new(&mut exchange);
        assert_eq!(node.says(node_says.as_bytes()), expected, "{node_says}");
        assert_eq!(node.client.is_empty(), expected.is_err());
        assert_eq!(exchange.response.is_tunnel(), expected.is_ok());
    }
}

#[test]
fn bytes_behind_a_101_belong_to_the_tunnel_and_go_on_as_they_are() {
    let mut exchange = begun(SOCKET);
    let mut node = Node::new(&mut exchange);
    node.says(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n\x81\x02hi").unwrap();
    node.says(b"more").unwrap();
    assert!(
        node.client().ends_with("\r\n\r\n\u{81}\u{2}himore")
            || node.client.ends_with(b"\r\n\r\n\x81\x02himore")
    );
    assert!(exchange.response.closes_downstream() && !exchange.upstream_reusable());
}

#[test]
fn a_truncated_answer_is_an_error_in_every_framing_that_can_show_it() {
    let truncated = UpstreamFault::Body(BodyError::Truncated);
    let rows = [
        ("", UpstreamFault::Closed),
        ("HTTP/1.1 200 OK\r\nContent-Le", UpstreamFault::Closed),
        ("HTTP/1.1 103 H\r\n\r\n", UpstreamFault::Closed),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", truncated),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", truncated),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", truncated),
    ];
    for request in [GET, GET_OLD] {
        for (node_says, fault) in rows {
            let mut exchange = begun(request);
            let mut node = Node::new(&mut exchange);
            node.says(node_says.as_bytes()).unwrap();
            assert_eq!(node.ends(), Err(fault), "{node_says}");
            assert!(!node.client().ends_with("0\r\n\r\n"));
            assert!(!exchange.upstream_reusable() && exchange.response.closes_downstream());
        }
    }
}

#[test]
fn an_answer_that_is_not_http_gives_the_client_nothing_of_that_read() {
    let rows = [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            HeadError::ContentLengthDuplicate,
        ),
        ("HTTP/1.1 200 OK\r\nA: b\n\r\n", HeadError::BareLf),
        ("HTTP/1.1 103 H\r\n\r\nhi there, ", HeadError::VersionMalformed),
    ];
    for (node_says, error) in rows {
        let mut exchange = begun(GET);
        let mut node = Node::new(&mut exchange);
        assert_eq!(node.says(node_says.as_bytes()), Err(UpstreamFault::Head(error)), "{node_says}");
        assert!(node.client.is_empty());
        assert_eq!(node.says(b"HTTP/1.1 200 OK\r\n\r\n"), Err(UpstreamFault::Closed));
    }
}

#[test]
fn a_body_that_is_wrong_from_its_first_byte_is_a_bad_gateway_and_not_a_broken_200() {
    let mut exchange = begun(GET);
    let mut node = Node::new(&mut exchange);
    let fault = node.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").unwrap_err();
    assert_eq!((fault, fault.status()), (UpstreamFault::Body(BodyError::ChunkSize), 502));
    assert!(node.client.is_empty());
    assert_eq!(exchange.response.status(), None);
}

#[test]
fn what_ended_one_answer_is_not_sent_in_front_of_the_next() {
    let mut exchange = begun(GET_TRAILERS);
    let mut node = Node::new(&mut exchange);
    // The trailers come in two reads, so that their end finds no room in place.
    node.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: a long one, a long")
        .unwrap();
    node.says(b" one\r\n\r\n").unwrap();
    assert!(node.client().ends_with("0\r\nX: a long one, a long one\r\n\r\n"));
    assert!(exchange.upstream_reusable());
    begin(&mut exchange, GET_TRAILERS);
    let mut node = Node::new(&mut exchange);
    node.says(b"HTTP/1.1 200 O").unwrap();
    assert_eq!(node.client(), "");
    node.says(b"K\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert!(node.client().starts_with("HTTP/1.1 200 OK\r\n") && node.client().ends_with("\r\n\r\n"));
    assert!(!node.client().contains("X: "));
    begin(&mut exchange, GET);
    let mut node = Node::new(&mut exchange);
    node.says(b"HTTP/1.1 103 H\r\n\r\n").unwrap();
    assert_eq!(node.client(), "HTTP/1.1 103 H\r\n\r\n");
}

#[test]
fn an_exchange_that_was_never_begun_answers_nothing() {
    let exchange = Exchange::default();
    assert!(!exchange.upstream_reusable() && exchange.response.closes_downstream());
}

/// What a plugin that rewrites answers makes of any exchange here.
fn rewriting(conf: &serde_json::Value) -> &'static Answering<'static> {
    let plugin = Plugin::read("response-rewrite", conf).unwrap().unwrap();
    let chain: &Chain =
        Box::leak(Box::new(Chain::new(vec![Arc::new(Step::new("r", plugin, [].into()))]).unwrap()));
    let facts = Facts {
        head: Box::leak(Box::new(RequestHead::new())),
        bytes: b"",
        edits: None,
        content: Known::Nothing,
        path: b"/",
        parameters: None,
        route: None,
        caller: None,
        client_ip: b"::1",
        client_port: 1,
        server_ip: [127, 0, 0, 1].into(),
        server_port: 1,
        hostname: b"n",
        status: None,
        upstream_status: None,
    };
    let chains = Chains { route: Some(chain), ..Chains::default() };
    Box::leak(Box::new(Answering { chains, facts, course: Box::leak(Box::default()) }))
}

#[test]
fn a_body_that_is_replaced_goes_with_the_head_and_the_nodes_own_is_read_to_its_end() {
    let replaced = serde_json::json!({"body": "new!", "status_code": 202, "headers": {"X-A": "1"}});
    let head = "202 Accepted|X-A: 1|Content-Length: 4";
    for (request, node, ends, want, reusable) in [
        (GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false, format!("{head}||new!"), true),
        (
            GET,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            false,
            format!("{head}||new!"),
            true,
        ),
        (GET, "HTTP/1.1 200 OK\r\n\r\nhi", true, format!("{head}||new!"), false),
        (GET, "HTTP/1.1 304 Same\r\nETag: x\r\n\r\n", false, format!("{head}||new!"), true),
        (HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", false, format!("{head}||"), true),
        (GET_OLD, "HTTP/1.1 200 OK\r\n\r\nhi", true, format!("{head}|Connection: keep-alive||new!"), false),
    ] {
        for drips in [false, true] {
            let mut exchange = begun(request);
            let mut side = Node::new(&mut exchange);
            side.context.plugins = Some(rewriting(&replaced));
            if drips { side.drips(node.as_bytes()) } else { side.says(node.as_bytes()) }.unwrap();
            if ends {
                side.ends().unwrap();
            }
            assert_eq!(pretty(&side.client()), want, "{node}");
            assert!(exchange.response.is_done() && !exchange.response.closes_downstream(), "{node}");
            assert_eq!(exchange.upstream_reusable(), reusable, "{node}");
        }
    }
    let mut exchange = begun(GET);
    let mut side = Node::new(&mut exchange);
    side.context.plugins = Some(rewriting(&serde_json::json!({"status_code": 204})));
    side.says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
    assert_eq!(pretty(&side.client()), "204 No Content||");
}

#[test]
fn an_answer_without_a_body_that_gets_a_status_with_one_has_an_empty_one() {
    let changed = serde_json::json!({"status_code": 200});
    for (request, node, want) in [
        (GET, "HTTP/1.1 204 N\r\n\r\n", "200 OK|Content-Length: 0||"),
        (GET, "HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n", "200 OK|Content-Length: 0||"),
        (GET_OLD, "HTTP/1.1 304 N\r\n\r\n", "200 OK|Content-Length: 0|Connection: keep-alive||"),
        (HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "200 OK|Content-Length: 9||"),
        (HEAD, "HTTP/1.1 204 N\r\n\r\n", "200 OK||"),
    ] {
        let mut exchange = begun(request);
        let mut side = Node::new(&mut exchange);
        side.context.plugins = Some(rewriting(&changed));
        side.says(node.as_bytes()).unwrap();
        assert_eq!(pretty(&side.client()), want, "{request} {node}");
        assert!(!exchange.response.closes_downstream() && exchange.upstream_reusable(), "{node}");
    }
}

#[test]
fn a_changed_status_is_the_client_s_and_the_node_s_is_told_apart() {
    let mut exchange = begun(GET);
    let mut side = Node::new(&mut exchange);
    side.context.plugins = Some(rewriting(&serde_json::json!({"status_code": 202})));
    side.says(b"HTTP/1.1 500 E\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_eq!((exchange.response.status(), exchange.response.status_given()), (Some(500), Some(202)));
    begin(&mut exchange, GET);
    assert_eq!((exchange.response.status(), exchange.response.status_given()), (None, None));
}

#[test]
fn a_request_that_was_made_another_method_is_repeated_only_if_both_may_be() {
    for (head, sent, repeats) in
        [(GET, Method::Post, false), (GET, Method::Put, true), (POST, Method::Get, false)]
    {
        let mut exchange = begun(head);
        exchange.sends(sent);
        assert_eq!(exchange.may_retry(&UpstreamFault::Closed, true, true), repeats, "{head} {sent:?}");
        begin(&mut exchange, GET);
        assert!(exchange.may_retry(&UpstreamFault::Closed, true, true), "the next one is its own");
    }
}

#[test]
fn a_body_that_is_filtered_is_held_until_it_is_whole() {
    let filters = serde_json::json!({"filters": [
        {"regex": "h(.)", "replace": "$1h", "scope": "global"}, {"regex": "x", "replace": ""}]});
    let chunks =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n3\r\nixh\r\n2\r\nix\r\n0\r\n\r\n";
    for (request, node, ends, want, reusable) in [
        (
            GET,
            "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhixhix",
            false,
            "200 OK|Content-Length: 5||ihihx",
            true,
        ),
        (GET, chunks, false, "200 OK|Content-Length: 5||ihihx", true),
        (GET, "HTTP/1.1 200 OK\r\n\r\nhixhix", true, "200 OK|Content-Length: 5||ihihx", false),
        (GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, "200 OK|Content-Length: 0||", true),
        (GET, "HTTP/1.1 304 S\r\n\r\n", false, "304 S||", true),
        (HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", false, "200 OK||", true),
        (GET_OLD, chunks, false, "200 OK|Content-Length: 5|Connection: keep-alive||ihihx", true),
        (
            GET,
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi",
            false,
            "200 OK|Content-Encoding: gzip|Content-Length: 2||hi",
            true,
        ),
    ] {
        for drips in [false, true] {
            let mut exchange = begun(request);
            let mut side = Node::new(&mut exchange);
            side.context.plugins = Some(rewriting(&filters));
            if drips { side.drips(node.as_bytes()) } else { side.says(node.as_bytes()) }.unwrap();
            if ends {
                side.ends().unwrap();
            }
            assert_eq!(pretty(&side.client()), want, "{request} {node}");
            assert!(exchange.response.is_done() && !exchange.response.closes_downstream(), "{node}");
            assert_eq!(exchange.upstream_reusable(), reusable, "{node}");
        }
    }
}

#[test]
fn of_a_body_that_takes_too_much_work_to_filter_nothing_goes_out_and_the_node_is_not_to_blame() {
    let mut exchange = begun(GET);
    let mut side = Node::new(&mut exchange);
    let filters = serde_json::json!({"filters": [{"regex": "a.*z|a", "replace": "b", "scope": "global"}]});
    side.context.plugins = Some(rewriting(&filters));
    let body = "a".repeat(20_000);
    let node = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!((side.says(node.as_bytes()), side.client()), (Err(UpstreamFault::Filters), String::new()));
    assert_eq!(UpstreamFault::Filters.status(), 502);
    assert!(!exchange.upstream_reusable() && !exchange.may_retry(&UpstreamFault::Filters, true, true));
}

#[test]
fn a_held_answer_to_a_client_that_waits_for_leave_ends_its_connection() {
    let mut exchange = begun(POST_WAITING);
    let mut side = Node::new(&mut exchange);
    side.context.awaits_leave = true;
    side.context.plugins = Some(rewriting(&serde_json::json!({"filters": [{"regex": "a", "replace": "b"}]})));
    side.drips(b"HTTP/1.1 417 No\r\nContent-Length: 1\r\n\r\na").unwrap();
    assert_eq!(pretty(&side.client()), "417 No|Content-Length: 1|Connection: close||b");
    assert!(exchange.response.closes_downstream());
}

#[test]
fn of_a_body_that_is_too_long_or_cut_off_nothing_goes_out_unfiltered() {
    let too_large = UpstreamFault::Body(BodyError::TooLarge);
    let long = "h".repeat((1 << 20) + 1);
    let grows = format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{}", "h".repeat(100_000));
    for (node, fault) in [
        (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", long.len()), too_large),
        (format!("HTTP/1.1 200 OK\r\n\r\n{long}"), too_large),
        (grows, too_large),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi".to_owned(),
            UpstreamFault::Body(BodyError::Truncated),
        ),
    ] {
        let mut exchange = begun(GET);
        let mut side = Node::new(&mut exchange);
        let filters =
            serde_json::json!({"filters": [{"regex": "h", "replace": "0".repeat(50), "scope": "global"}]});
        side.context.plugins = Some(rewriting(&filters));
        let ended = side.says(node.as_bytes()).and_then(|()| side.ends());
        assert_eq!((ended, side.client()), (Err(fault), String::new()));
        assert_eq!((exchange.response.status(), fault.status()), (None, 502));
        assert!(!exchange.upstream_reusable() && !exchange.may_retry(&fault, true, true));
    }
}
