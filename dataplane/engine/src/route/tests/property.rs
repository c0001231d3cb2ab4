//! The table against the model, on small alphabets so that patterns, hosts and paths meet.

use proptest::prelude::*;
use proptest::sample::select;
use ringway_snapshot::model::Method;

use super::super::{Outcome, Removal, Step};
use super::*;

fn uri() -> impl Strategy<Value = String> {
    let segment = select(vec!["a", "b", "ab", "abc", "", ":x", ":y", ":xyz", "a:x", ":", "*x/b"]);
    let last = select(vec!["", "a", "b", "ab", ":x", ":zz", "*", "*rest", "a*", "ab*", "b*", ":x*", "a:b*"]);
    let usual = (proptest::collection::vec(segment, 0..4), last).prop_map(|(mut segments, last)| {
        segments.push(last);
        format!("/{}", segments.join("/"))
    });
    prop_oneof![20 => usual, 1 => Just("*".to_owned()), 1 => Just("a*".to_owned()), 1 => Just(":x".to_owned())]
}

fn hosts() -> impl Strategy<Value = Vec<Box<str>>> {
    let host = select(vec![
        "x.com",
        "X.com",
        "a.x.com",
        "*.x.com",
        "*x.com",
        "*.com",
        "*.COM",
        "*",
        "*m",
        "[::1]",
        "b.a.x.com",
        "*.a.x.com",
    ]);
    prop_oneof![
        1 => Just(Vec::new()),
        2 => proptest::collection::vec(host.prop_map(Box::from), 1..4),
    ]
}

/// A rule's hosts, patterns, methods, addresses, priority, and what makes its id.
type Drawn = (Vec<Box<str>>, Vec<String>, Option<Vec<Method>>, Vec<&'static str>, i64, u16);

fn rules(count: usize) -> impl Strategy<Value = Vec<Rule<Box<str>>>> {
    let methods = prop_oneof![
        3 => Just(None),
        2 => proptest::collection::vec(select(vec![Method::Get, Method::Post, Method::Query]), 1..3).prop_map(Some),
    ];
    let remotes = prop_oneof![
        4 => Just(Vec::new()),
        1 => proptest::collection::vec(select(vec!["127.0.0.1", "10.0.0.0/8", "::/0"]), 1..3),
    ];
    let one = (hosts(), proptest::collection::vec(uri(), 1..4), methods, remotes, -1..2i64, any::<u16>());
    proptest::collection::vec(one, 0..count).prop_map(|list| {
        let of = |index, (hosts, uris, methods, remotes, priority, salt): Drawn| Rule {
            // Not in order, and of different lengths.
            id: format!("{}-{index}", salt % 20).into(),
            hosts,
            uris: uris.into_iter().map(String::into_boxed_str).collect(),
            methods: MethodSet::of_field(methods.as_deref()),
            vars: None,
            remotes: remotes.iter().map(|block| block.parse().unwrap()).collect(),
            priority,
            payload: format!("{salt} {index}").into(),
        };
        (0..).zip(list).map(|(index, drawn): (u32, Drawn)| of(index, drawn)).collect()
    })
}

#[derive(Debug, Clone)]
struct Asked {
    method: &'static str,
    host: &'static str,
    path: String,
    remote: IpAddr,
}

impl Asked {
    fn query(&self) -> Query<'_> {
        let Asked { method, host, path, remote } = self;
        Query {
            method: method.as_bytes(),
            host: host.as_bytes(),
            path: path.as_bytes(),
            remote: *remote,
            facts: None,
        }
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let segment = select(vec!["a", "b", "ab", "abc", "abcd", "", "c", ":x", "a:x", "*x", "*", ":", "a:b"]);
    let path =
        proptest::collection::vec(segment, 0..6).prop_map(|segments| format!("/{}", segments.join("/")));
    let path = prop_oneof![20 => path, 1 => select(vec!["", "*", "a", "ab/c"]).prop_map(str::to_owned)];
    let host = select(vec![
        "x.com",
        "X.COM:80",
        "a.x.com",
        "b.a.x.com.",
        "ax.com",
        "q.com",
        "org",
        "",
        "[::1]:8",
        "[::1]",
        ".x.com",
        ".com",
    ]);
    let remote = select(vec!["127.0.0.1", "10.1.2.3", "::1", "::ffff:10.0.0.1"]);
    let method = select(vec!["GET", "POST", "QUERY", "BREW"]);
    (method, host, path, remote).prop_map(|(method, host, path, remote)| Asked {
        method,
        host,
        path,
        remote: remote.parse().unwrap(),
    })
}

fn table_finds(table: &Table<Box<str>>, query: &Query<'_>, captures: &mut Captures) -> Option<model::Found> {
    let found = table.lookup(query, captures)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Some((
        found.id().to_owned(),
        captures.iter(query.path).map(|(name, value)| (text(name), text(value))).collect(),
    ))
}

fn winner(steps: &[Step]) -> Option<String> {
    steps.iter().find_map(|step| match step {
        Step::Candidate { id, outcome: Outcome::Matched, .. } => Some(id.to_string()),
        _ => None,
    })
}

fn listed(table: &Table<Box<str>>) -> Vec<String> {
    let mut list: Vec<String> = table
        .iter()
        .map(|one| format!("{} {:?} {:?} {} {}", one.id, one.host, one.uri, one.priority, one.payload))
        .collect();
    list.sort();
    list
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_table_decides_as_the_model_and_explains_what_it_decided(
        rules in rules(14),
        asked in proptest::collection::vec(asked(), 1..12),
    ) {
        let table = Table::compile(rules.clone());
        prop_assert_eq!(table.len(), rules.len());
        let mut captures = Captures::new();
        for asked in &asked {
            let query = asked.query();
            let found = table_finds(&table, &query, &mut captures);
            prop_assert_eq!(&found, &model::find(&rules, &query), "{:?}", asked);
            prop_assert_eq!(winner(&table.explain(&query)), found.map(|(id, _)| id));
        }
    }

    #[test]
    fn updates_end_in_the_table_that_compiling_makes(
        start in rules(10),
        changes in proptest::collection::vec((rules(4), any::<[bool; 16]>()), 1..4),
        asked in proptest::collection::vec(asked(), 1..8),
    ) {
        let mut rules = start;
        let mut table = Table::compile(rules.clone());
        for (round, (mut added, gone)) in changes.into_iter().enumerate() {
            let mut place = 0;
            let mut removed: Vec<Removal> = Vec::new();
            rules.retain(|rule| {
                place += 1;
                let stays = !gone[place % gone.len()];
                if !stays {
                    removed.push(Removal::from(rule));
                }
                stays
            });
            for (index, rule) in added.iter_mut().enumerate() {
                // Every other one takes the id of one that was removed: a change.
                rule.id = match removed.get(index) {
                    Some(removal) if index % 2 == 0 => removal.id.clone(),
                    _ => format!("{}+{round}", rule.id).into(),
                };
            }
            rules.extend(added.clone());
            table = table.update(&removed, added);
        }
        let fresh = Table::compile(rules.clone());
        prop_assert_eq!((table.len(), table.patterns()), (fresh.len(), fresh.patterns()));
        prop_assert_eq!(listed(&table), listed(&fresh));
        let mut captures = Captures::new();
        for asked in &asked {
            let found = table_finds(&table, &asked.query(), &mut captures);
            prop_assert_eq!(&found, &model::find(&rules, &asked.query()), "{:?}", asked);
        }
    }

    #[test]
    fn any_bytes_are_a_query_and_any_text_is_a_pattern(
        uris in proptest::collection::vec("[/:*ab%\u{e9}]{0,12}", 1..20),
        host in proptest::collection::vec(any::<u8>(), 0..300),
        paths in proptest::collection::vec(proptest::collection::vec(select(b"/:*ab%\xff".to_vec()), 0..12), 1..20),
    ) {
        let rules: Vec<_> = uris.iter().enumerate().map(|(n, uri)| rule(&n.to_string(), &[], &[uri], 0)).collect();
        let table = Table::compile(rules);
        let mut captures = Captures::new();
        for path in &paths {
            let query = Query { method: b"", host: &host, path, remote: IpAddr::from([0; 16]), facts: None };
            let found = table_finds_id(&table, &query, &mut captures);
            prop_assert_eq!(winner(&table.explain(&query)), found);
        }
    }
}

fn table_finds_id(table: &Table<Box<str>>, query: &Query<'_>, captures: &mut Captures) -> Option<String> {
    table.lookup(query, captures).map(|found| found.id().to_owned())
}
