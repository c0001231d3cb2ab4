//! The routing table as it is built, with thousands of rules and through changes, against the model that its unit tests have.
//!
//! Those run with tables that are parted and indexed from a few patterns on; here every limit is the one that is used. Hosts come as
//! clients write them: in capitals, with a final dot, with a port.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;

use proptest::prelude::*;
use ringway_engine::route::{Captures, MethodSet, Query, Removal, Rule, Table};
use ringway_snapshot::model::Method;

#[path = "../src/route/tests/model.rs"]
mod model;

/// Numbers of a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 8) as usize % count
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

fn uri(dice: &mut Dice) -> String {
    let mut uri = String::new();
    for _ in 0..dice.below(4) {
        uri += &match dice.below(6) {
            0 => format!("/{}", dice.of(&[":x", ":y", ":id", "", "a:x"])),
            1 => format!("/s{}", dice.below(300)),
            2 => format!("/longsegment{}", dice.below(50)),
            _ => format!("/{}", dice.of(&["a", "b", "ab", "abc", "api", "v1"])),
        };
    }
    uri + &match dice.below(9) {
        0 => format!("/p{}*", dice.below(40)),
        1 => format!("/s{}", dice.below(3_000)),
        _ => format!("/{}", dice.of(&["*", "*rest", ":id", "", "a*", "ab*", "abc*", "a", "ab", "api"])),
    }
}

fn host(dice: &mut Dice) -> String {
    match dice.below(4) {
        0 => format!("h{}.x.com", dice.below(400)),
        1 => format!("*.h{}.x.com", dice.below(40)),
        2 => format!("xn--n{}.DE", dice.below(9)),
        _ => dice.of(&["x.com", "*.x.com", "*x.com", "*.com", "*"]).to_owned(),
    }
}

fn rule(dice: &mut Dice, number: usize, with_hosts: bool) -> Rule<Box<str>> {
    let hosts = if with_hosts { dice.below(4) } else { 0 };
    let methods = [None, Some(vec![Method::Get]), Some(vec![Method::Post, Method::Query])];
    Rule {
        id: format!("{}-{number}", dice.below(50)).into(),
        hosts: (0..hosts).map(|_| host(dice).into()).collect(),
        uris: (0..=dice.below(3)).map(|_| uri(dice).into()).collect(),
        methods: MethodSet::of_field(methods[dice.below(3)].as_deref()),
        remotes: if dice.below(6) == 0 { vec!["10.0.0.0/8".parse().unwrap()] } else { Vec::new() },
        vars: None,
        priority: dice.below(3) as i64 - 1,
        payload: number.to_string().into(),
    }
}

/// A path that some rule may take.
fn path(dice: &mut Dice, rules: &[Rule<Box<str>>]) -> String {
    let uri = match rules.get(dice.below(rules.len() + 50)) {
        Some(rule) => rule.uris[dice.below(rule.uris.len())].to_string(),
        None => uri(dice),
    };
    let mut segments: Vec<String> = Vec::new();
    for segment in uri.split('/') {
        segments.push(match segment.strip_suffix('*') {
            Some(prefix) => format!("{prefix}{}", dice.of(&["", "a", "b/c", "ab", "/"])),
            None if segment.starts_with([':', '*']) => dice.of(&["a", "b", "ab", "", "s7"]).to_owned(),
            None => segment.to_owned(),
        });
    }
    if dice.below(10) == 0 {
        segments.push("a".to_owned());
    }
    segments.join("/")
}

fn as_clients_write(dice: &mut Dice, host: &str) -> String {
    let mut host = host.replace('*', dice.of(&["a", "b.c", "", "h1"]));
    if dice.below(4) == 0 {
        host.make_ascii_uppercase();
    }
    host + dice.of(&["", "", "", ".", ":8080", ".:80"])
}

fn decides_as_the_model(table: &Table<Box<str>>, rules: &[Rule<Box<str>>], dice: &mut Dice) {
    let mut captures = Captures::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    for _ in 0..150 {
        let (host, path) = (host(dice), path(dice, rules));
        let host = as_clients_write(dice, &host);
        let query = Query {
            method: dice.of(&["GET", "POST", "QUERY", "BREW"]).as_bytes(),
            host: host.as_bytes(),
            path: path.as_bytes(),
            remote: IpAddr::from([9 + dice.below(2) as u8, 1, 1, 1]),
            facts: None,
        };
        let found = table.lookup(&query, &mut captures).map(|found| found.id().to_owned());
        let found = found.map(|id| {
            let parameters = captures.iter(query.path).map(|(name, value)| (text(name), text(value)));
            (id, parameters.collect::<Vec<_>>())
        });
        assert_eq!(found, model::find(rules, &query), "{} {host} {path}", rules.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn large_tables_decide_as_the_model_also_after_changes(seed in any::<u64>(), with_hosts in any::<bool>()) {
        let dice = &mut Dice(seed);
        let count = [3, 20, 300, 1_200, 3_000][dice.below(5)];
        let mut rules: Vec<_> = (0..count).map(|number| rule(dice, number, with_hosts)).collect();
        let mut table = Table::compile(rules.clone());
        for round in 1..4 {
            decides_as_the_model(&table, &rules, dice);
            let one_of = [2, 10, 200][dice.below(3)];
            let removed: Vec<Removal> = rules.extract_if(.., |_| dice.below(one_of) == 0).map(|rule| Removal::from(&rule)).collect();
            let come = [dice.below(60), 1_500][usize::from(dice.below(3) == 0)];
            let mut added: Vec<_> = (0..come).map(|number| rule(dice, 10_000 * round + number, with_hosts)).collect();
            // Every other one is a change of one that was there.
            for (rule, removed) in added.iter_mut().step_by(2).zip(&removed) {
                rule.id = removed.id.clone();
            }
            rules.extend(added.clone());
            table = table.update(&removed, added);
        }
        decides_as_the_model(&table, &rules, dice);
        let fresh = Table::compile(rules);
        prop_assert_eq!((table.len(), table.patterns()), (fresh.len(), fresh.patterns()));
    }
}
