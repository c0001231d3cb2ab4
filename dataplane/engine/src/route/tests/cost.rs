//! What a lookup costs in steps: hash probes, trie nodes and candidates, counted and not timed.

use super::*;

fn steps(table: &Table<Box<str>>, host: &str, path: &str) -> u64 {
    let mut captures = Captures::new();
    table.lookup(&get(host, path), &mut captures);
    captures.steps()
}

/// As many rules as `count`, of each kind, below as many services.
fn mixed(count: usize) -> Table<Box<str>> {
    Table::compile((0..count).flat_map(|n| {
        [
            rule(&format!("e{n}"), &[], &[&format!("/api/svc{n}/health")], 0),
            rule(&format!("p{n}"), &[], &[&format!("/api/svc{n}/users/:id/posts/:post")], 0),
            rule(&format!("q{n}"), &[], &[&format!("/tenants/:tenant/svc{n}/:id")], 0),
            rule(&format!("s{n}"), &[], &[&format!("/static/svc{n}-*")], 0),
        ]
    }))
}

#[test]
fn the_cost_does_not_grow_with_the_number_of_routes() {
    let (few, many) = (mixed(10), mixed(5_000));
    for path in [
        "/api/svc7/health",
        "/api/svc7/users/1/posts/2",
        "/tenants/t/svc7/5",
        "/static/svc7-x.js",
        "/api/svc7/users/1/posts/2/none",
        "/tenants/t/none/5",
    ] {
        // The lengths of numbers are more among many, and each is one probe.
        let (few, many) = (steps(&few, "h", path), steps(&many, "h", path));
        assert!(many <= few + 4, "{path}: {few} steps among few, {many} among many");
        assert!(many < 30, "{path}: {many}");
    }
}

#[test]
fn hosts_that_do_not_fit_cost_nothing() {
    let hosts: Vec<_> = (0..2_000)
        .flat_map(|n| {
            [
                rule(&format!("n{n}"), &[&format!("h{n}.com")], &["/:x"], 0),
                rule(&format!("w{n}"), &[&format!("*.w{n}.com")], &["/:x"], 0),
            ]
        })
        .collect();
    let table = Table::compile(hosts);
    assert!(steps(&table, "h77.com", "/a") < 10);
    assert!(steps(&table, "a.w77.com", "/a") < 10);
    assert_eq!(steps(&table, "other", "/a"), 0);
}

#[test]
fn every_choice_of_literals_and_parameters_costs_at_most_its_patterns() {
    // All patterns /:p/{a,:p}/{a,:p}/.../end. The path fits each of them until its last segment.
    let depth = 10;
    let patterns: Vec<String> = (0..1_u32 << depth)
        .map(|bits| {
            let middle: Vec<&str> =
                (0..depth).map(|at| if bits >> at & 1 == 1 { "a" } else { ":p" }).collect();
            format!("/:p/{}/end", middle.join("/"))
        })
        .collect();
    let rules = patterns.iter().enumerate().map(|(n, uri)| rule(&n.to_string(), &[], &[uri], 0));
    let table = Table::compile(rules);
    let path = format!("/a{}/other", "/a".repeat(depth));
    let steps = steps(&table, "h", &path);
    let nodes = 2 * (1 << depth) + 2;
    assert!(steps <= nodes + 10, "{steps} steps for {nodes} nodes");
}

#[test]
fn one_pattern_of_many_parameters_costs_one_pass() {
    let long: String = (0..200).map(|n| format!("/:p{n}")).collect();
    let table = Table::compile([
        rule("1", &[], &[&format!("{long}/end")], 0),
        rule("2", &[], &[&format!("{long}/x/*")], 0),
        rule("3", &[], &["/:a/a/:b/a/:c/a/:d/*r"], 0),
    ]);
    for tail in ["/end", "/x/y", "/other", ""] {
        let path = format!("{}{tail}", "/a".repeat(200));
        let steps = steps(&table, "h", &path);
        assert!(steps < 2 * 200 + 30, "{tail}: {steps}");
    }
}

#[test]
fn slashes_beyond_the_deepest_pattern_cost_nothing() {
    let table = Table::compile([rule("1", &[], &["/a/b/*"], 0), rule("2", &[], &["/a/b/c"], 0)]);
    assert!(steps(&table, "h", &"/".repeat(60_000)) < 10);
    assert!(steps(&table, "h", &format!("/a/b{}", "/x".repeat(30_000))) < 10);
}

#[test]
fn directories_as_deep_as_no_pattern_are_not_asked_for() {
    let table =
        Table::compile(["a", "b", "c"].map(|top| rule(top, &[], &[&format!("/{top}/b/c/d/e/f/:id")], 0)));
    // The exact path, the one directory that is deep enough, and its pattern.
    assert_eq!(steps(&table, "h", "/a/b/c/d/e/f/7"), 3);
}

#[test]
fn prefixes_of_every_length_cost_a_probe_for_each_length() {
    let table =
        Table::compile((0..300).map(|n| rule(&n.to_string(), &[], &[&format!("/{}*", "a".repeat(n))], 0)));
    let steps = steps(&table, "h", &format!("/{}", "b".repeat(1_000)));
    assert!(steps <= 310, "{steps}");
}
