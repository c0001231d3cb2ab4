//! Single decisions. Those of lua-resty-radixtree's and APISIX's own documentation and behaviour are among them.

use ringway_snapshot::Expression;
use ringway_snapshot::model::Method;

use super::super::{Outcome, Removal, Step};
use super::*;
use crate::facts::tests::with_facts;

/// Rules of one pattern each without a host: (id, pattern, priority).
fn paths(rows: &[(&str, &str, i64)]) -> Table<Box<str>> {
    Table::compile(rows.iter().map(|(id, uri, priority)| rule(id, &[], &[uri], *priority)))
}

fn expect(table: &Table<Box<str>>, rows: &[(&str, &str)]) {
    for (path, want) in rows {
        let want = (!want.is_empty()).then(|| (*want).to_owned());
        assert_eq!(found(table, get("h", path)), want, "{path}");
    }
}

#[test]
fn exact_paths_come_before_prefixes_and_longer_prefixes_before_shorter() {
    let table = paths(&[
        ("root", "/", 0),
        ("all", "/*", 100),
        ("aa", "/aa", -5),
        ("aa-prefix", "/aa*", 9),
        ("aa-slash", "/aa/*", 0),
        ("aab", "/aab*", 0),
    ]);
    expect(
        &table,
        &[
            ("/aa", "aa"),
            ("/aax", "aa-prefix"),
            ("/aab", "aab"),
            ("/aabc/d", "aab"),
            ("/aa/", "aa-slash"),
            ("/aa/bb", "aa-slash"),
            ("/xx", "all"),
            ("/", "root"),
            ("*", ""),
            ("", ""),
        ],
    );
}

#[test]
fn a_prefix_takes_the_path_that_it_ends_with() {
    let table = paths(&[("foo", "/foo*", 0)]);
    expect(&table, &[("/foo", "foo"), ("/foobar", "foo"), ("/foo/x", "foo"), ("/fo", ""), ("/", "")]);
}

#[test]
fn a_lone_star_takes_everything() {
    let table = paths(&[("any", "*", 0)]);
    expect(&table, &[("/", "any"), ("/a/b", "any"), ("*", "any"), ("", "any")]);
}

#[test]
fn a_parameter_takes_exactly_one_nonempty_segment() {
    let table = paths(&[("user", "/user/:user", 0), ("age", "/user/:user/age/:age", 0)]);
    expect(
        &table,
        &[
            ("/user/john", "user"),
            ("/user/", ""),
            ("/user", ""),
            ("/user/john/", ""),
            ("/user/john/age/26", "age"),
            ("/user/john/age/", ""),
            ("/user/john/age", ""),
            ("/user//age/26", ""),
        ],
    );
}

#[test]
fn a_named_rest_may_be_empty_but_its_slash_may_not_be_missing() {
    let table = paths(&[("action", "/user/:user/*action", 0), ("name", "/name/*name", 0)]);
    expect(
        &table,
        &[
            ("/user/john/", "action"),
            ("/user/john/send", "action"),
            ("/user/john/a/b//c", "action"),
            ("/user/john", ""),
            ("/name/json", "name"),
            ("/name/", "name"),
            ("/name", ""),
        ],
    );
}

#[test]
fn a_trailing_slash_counts() {
    let table = paths(&[("with", "/name/:name/", 0), ("exact", "/e/", 0)]);
    expect(&table, &[("/name/json/", "with"), ("/name/json", ""), ("/e/", "exact"), ("/e", "")]);
}

#[test]
fn the_longer_of_equal_patterns_comes_first_whatever_the_ids() {
    let table = paths(&[
        ("9-long", "/api/:version/test/api/projects/:project_id/clusters/:cluster_id/nodes", 0),
        ("5-medium", "/api/:version/test/api/projects/:project_id", 0),
        ("1-short", "/api/:version/test/*subpath", 0),
        ("0-any", "/api/*", 0),
    ]);
    expect(
        &table,
        &[
            ("/api/v4/test/api/projects/saas/clusters/123/nodes", "9-long"),
            ("/api/v4/test/api", "1-short"),
            ("/api/v4/test/api/projects/saas", "5-medium"),
            ("/api/v4", "0-any"),
        ],
    );
}

#[test]
fn within_one_literal_part_priority_counts_before_length_and_length_before_id() {
    let table = paths(&[("a", "/x/:id", 0), ("b", "/x/*", 5), ("c", "/x/:name", 0), ("d", "/x/:i", 0)]);
    expect(&table, &[("/x/1", "b"), ("/x/", "b")]);
    let table = paths(&[("a", "/x/:id", 0), ("b", "/x/*", 0), ("c", "/x/:name", 0), ("d", "/x/:na", 0)]);
    expect(&table, &[("/x/1", "c"), ("/x/", "b")]);
    let table = paths(&[("b", "/x/:id", 0), ("a", "/x/:no", 0)]);
    expect(&table, &[("/x/1", "a")]);
}

#[test]
fn equal_exact_paths_go_by_priority_then_id() {
    expect(&paths(&[("2", "/aa", 0), ("1", "/aa", 0)]), &[("/aa", "1")]);
    expect(&paths(&[("1", "/aa", 1), ("2", "/aa", 2)]), &[("/aa", "2")]);
}

#[test]
fn colons_and_stars_inside_a_segment_are_plain_bytes() {
    let table = paths(&[("list", "/file:list", 0), ("param", "/file/:name", 0), ("prefix", "/do:x*", 0)]);
    expect(
        &table,
        &[
            ("/file:list", "list"),
            ("/file:xx", ""),
            ("/file/123&45@dd:d=test;", "param"),
            ("/file/t!e*s't,(file)", "param"),
            ("/do:x9", "prefix"),
            ("/do:y", ""),
        ],
    );
}

#[test]
fn a_prefix_below_a_parameter_takes_what_begins_so() {
    let table = paths(&[("foo", "/x/:id/foo*", 0), ("fo", "/x/:id/fo*", 1), ("any", "/x/*", -1)]);
    expect(&table, &[("/x/1/foobar", "fo"), ("/x/1/fo/a", "fo"), ("/x/1/f", "any"), ("/x//foo", "any")]);
}

#[test]
fn methods_and_addresses_send_the_search_on() {
    let table = Table::compile([
        only(rule("1", &[], &["/aa/bb/cc"], 0), &[Method::Post], &[]),
        only(rule("2", &[], &["/aa/bb/*"], 0), &[], &["10.0.0.0/8", "::1"]),
        rule("3", &[], &["/aa/*"], 0),
    ]);
    let mut query = get("", "/aa/bb/cc");
    assert_eq!(found(&table, query).as_deref(), Some("3"));
    query.remote = "10.9.9.9".parse().unwrap();
    assert_eq!(found(&table, query).as_deref(), Some("2"));
    query.remote = "::ffff:10.9.9.9".parse().unwrap();
    assert_eq!(found(&table, query).as_deref(), Some("2"));
    query.method = b"POST";
    assert_eq!(found(&table, query).as_deref(), Some("1"));
    query.method = b"BREW";
    assert_eq!(found(&table, query).as_deref(), Some("2"));
}

#[test]
fn hosts_go_from_the_exact_one_over_the_longest_wildcard_to_none() {
    let table = Table::compile([
        rule("exact", &["www.Foo.com"], &["/*"], 0),
        rule("wild", &["*.foo.com"], &["/*"], 9),
        rule("wilder", &["*.com"], &["/*"], 9),
        rule("glued", &["*oo.com"], &["/*"], 9),
        rule("star", &["*"], &["/*"], 9),
        rule("none", &[], &["/*"], 9),
        rule("none-exact", &[], &["/exact"], 9),
    ]);
    for (host, want) in [
        ("www.foo.com", "exact"),
        ("WWW.FOO.COM:8080", "exact"),
        ("www.foo.com.", "exact"),
        ("a.b.foo.com", "wild"),
        (".foo.com", "wild"),
        ("foo.com", "glued"),
        ("zoo.com:1", "glued"),
        ("bar.com", "wilder"),
        ("bar.org", "star"),
        ("[::1]:80", "star"),
        ("", "star"),
    ] {
        assert_eq!(found(&table, get(host, "/exact")).as_deref(), Some(want), "{host}");
    }
}

#[test]
fn where_no_route_of_a_host_fits_the_search_goes_to_less_specific_ones() {
    let table = Table::compile([
        rule("exact", &["www.foo.com"], &["/a"], 0),
        only(rule("wild", &["*.foo.com"], &["/b"], 0), &[Method::Put], &[]),
        rule("none", &[], &["/b", "/c/:x"], 0),
        rule("six", &["[::1]"], &["/b"], 0),
    ]);
    assert_eq!(found(&table, get("www.foo.com", "/a")).as_deref(), Some("exact"));
    assert_eq!(found(&table, get("www.foo.com", "/b")).as_deref(), Some("none"));
    assert_eq!(found(&table, get("www.foo.com", "/c/1")).as_deref(), Some("none"));
    assert_eq!(found(&table, get("www.foo.com", "/d")), None);
    assert_eq!(found(&table, get("[::1]:80", "/b")).as_deref(), Some("six"));
    let long = format!("{}.foo.com", "a".repeat(300));
    assert_eq!(found(&table, get(&long, "/b")).as_deref(), Some("none"));
}

#[test]
fn parameters_are_given_by_name() {
    let table = Table::compile([
        rule("1", &[], &["/name/:name/id/:id/*other"], 0),
        rule("2", &[], &["/twice/:x/:x"], 0),
        rule("3", &["h"], &["/name/:wrong/id/:other/nothing"], 0),
        rule("4", &[], &["/ext/*", "/pre*"], 0),
    ]);
    let mut captures = Captures::new();
    let path = "/name/json/id/1/foo/bar/gloo";
    assert_eq!(table.find(&get("h", path), &mut captures).unwrap().as_ref(), "payload of 1");
    let all: Vec<_> = captures.iter(path.as_bytes()).collect();
    assert_eq!(all, [(&b"name"[..], &b"json"[..]), (b"id", b"1"), (b"other", b"foo/bar/gloo")]);
    assert_eq!(captures.get("wrong", path.as_bytes()), None);
    let path = "/twice/1/2";
    assert!(table.find(&get("h", path), &mut captures).is_some());
    assert_eq!((captures.len(), captures.get("x", path.as_bytes())), (2, Some(&b"2"[..])));
    let path = "/ext/a/b";
    assert!(table.find(&get("h", path), &mut captures).is_some());
    assert_eq!(captures.get(":ext", path.as_bytes()), Some(&b"a/b"[..]));
    assert!(table.find(&get("h", "/prefix"), &mut captures).is_some());
    assert!(captures.is_empty());
    assert!(table.find(&get("h", "/nowhere"), &mut captures).is_none());
    assert!(captures.is_empty());
}

#[test]
fn explain_tells_hosts_and_candidates_in_order_with_the_reason() {
    let table = Table::compile([
        only(rule("m", &["*.foo.com"], &["/a/b"], 0), &[Method::Post], &[]),
        only(rule("r", &["*.foo.com"], &["/a/*"], 3), &[], &["10.0.0.0/8"]),
        rule("p", &["*.foo.com"], &["/a/:x/c"], 2),
        rule("y", &[], &["/a/:x"], 2),
        rule("z", &[], &["/*"], 2),
    ]);
    let step = |id: &str, uri: &str, priority, outcome| Step::Candidate {
        id: id.into(),
        uri: uri.into(),
        priority,
        outcome,
    };
    let steps = table.explain(&get("www.foo.com:80", "/a/b"));
    assert_eq!(
        steps,
        [
            Step::Host(Some("*.foo.com".into())),
            step("m", "/a/b", 0, Outcome::OtherMethod),
            step("r", "/a/*", 3, Outcome::OtherRemote),
            step("p", "/a/:x/c", 2, Outcome::OtherPath),
            Step::Host(None),
            step("y", "/a/:x", 2, Outcome::Matched),
        ]
    );
}

#[test]
fn an_explanation_is_cut_and_still_tells_the_winner() {
    let mut rules: Vec<_> =
        (0..3_000).map(|n| rule(&format!("{n:04}"), &[], &[&format!("/a/:x/{n}")], 1)).collect();
    rules.push(rule("winner", &[], &["/a/*"], 0));
    let steps = Table::compile(rules).explain(&get("", "/a/b"));
    assert!(
        matches!(steps.last(), Some(Step::Candidate { id, outcome: Outcome::Matched, .. }) if &**id == "winner")
    );
    let told = steps.iter().filter(|step| !matches!(step, Step::Cut(_))).count();
    let cut = steps.iter().find_map(|step| if let Step::Cut(cut) = step { Some(*cut) } else { None });
    assert_eq!(told + cut.unwrap(), 3_002);
}

#[test]
fn an_update_replaces_removes_and_adds_and_leaves_the_old_table_alone() {
    let old = Table::compile([
        rule("1", &["a.com", "*.b.com"], &["/x"], 0),
        rule("2", &["a.com"], &["/x"], -1),
        rule("3", &[], &["/x"], 0),
    ]);
    let gone = [
        Removal { id: "1".into(), hosts: vec!["A.com".into(), "*.b.com".into()], uris: vec!["/x".into()] },
        Removal::from(&rule("3", &[], &["/x"], 0)),
    ];
    let new = old.update(&gone, vec![rule("3", &[], &["/y"], 0), rule("4", &["*"], &["/z"], 0)]);
    assert_eq!((old.len(), new.len(), new.patterns()), (3, 3, 3));
    assert_eq!(found(&old, get("a.com", "/x")).as_deref(), Some("1"));
    assert_eq!(found(&new, get("a.com", "/x")).as_deref(), Some("2"));
    assert_eq!(found(&new, get("c.b.com", "/x")), None);
    assert_eq!(found(&new, get("c.b.com", "/y")).as_deref(), Some("3"));
    assert_eq!(found(&new, get("c.b.com", "/z")).as_deref(), Some("4"));
    assert_eq!(found(&old, get("c.b.com", "/y")), None);
    let none = new.update(&new_removals(&new), Vec::new());
    assert_eq!((none.len(), none.patterns(), none.is_empty()), (0, 0, true));
    assert_eq!(found(&none, get("a.com", "/x")), None);
}

fn new_removals(table: &Table<Box<str>>) -> Vec<Removal> {
    let uri = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned().into_boxed_str();
    let all = table.iter();
    all.map(|one| Removal {
        id: one.id.into(),
        hosts: one.host.into_iter().collect(),
        uris: vec![uri(one.uri)],
    })
    .collect()
}

#[test]
fn a_candidate_whose_variables_are_otherwise_is_passed_over_also_to_the_next_host() {
    let with = |mut rule: Rule<Box<str>>, vars: serde_json::Value| {
        rule.vars = Some(Box::new(Expression::read(&vars).unwrap()));
        rule
    };
    let table = Table::compile([
        with(rule("canary", &["h"], &["/a"], 0), serde_json::json!([["arg_v", "==", "2"]])),
        with(rule("prefix", &["h"], &["/*"], 0), serde_json::json!([["arg_v", "==", "1"]])),
        rule("any", &[], &["/a"], 0),
    ]);
    for (request, id) in [
        ("GET /a?v=2 HTTP/1.1\r\nHost: h\r\n\r\n", "canary"),
        ("GET /a?v=1 HTTP/1.1\r\nHost: h\r\n\r\n", "prefix"),
        ("GET /a HTTP/1.1\r\nHost: h\r\n\r\n", "any"),
    ] {
        with_facts(request, |facts| {
            let query = Query { facts: Some(facts), ..get("h", "/a") };
            assert_eq!(found(&table, query).as_deref(), Some(id), "{request}");
            let told = table
                .explain(&query)
                .into_iter()
                .filter(|step| matches!(step, Step::Candidate { outcome: Outcome::OtherVars, .. }));
            assert_eq!(
                told.count(),
                match id {
                    "canary" => 0,
                    "prefix" => 1,
                    _ => 2,
                },
                "{request}"
            );
        });
    }
    // Nothing but the path is known: no condition holds.
    assert_eq!(found(&table, get("h", "/a")).as_deref(), Some("any"));
}
