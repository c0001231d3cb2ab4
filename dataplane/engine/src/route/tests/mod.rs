//! Tests of the table as a whole: rows of single decisions, a naive model, and counted costs.

mod cost;
mod model;
mod property;
mod rows;

use std::net::IpAddr;

use ringway_snapshot::model::Method;

use super::{Captures, MethodSet, Query, Rule, Table};

/// A rule that takes every method and client.
fn rule(id: &str, hosts: &[&str], uris: &[&str], priority: i64) -> Rule<Box<str>> {
    Rule {
        id: id.into(),
        hosts: hosts.iter().map(|host| Box::from(*host)).collect(),
        uris: uris.iter().map(|uri| Box::from(*uri)).collect(),
        methods: MethodSet::ALL,
        remotes: Vec::new(),
        vars: None,
        priority,
        payload: format!("payload of {id}").into(),
    }
}

fn only(mut rule: Rule<Box<str>>, methods: &[Method], remotes: &[&str]) -> Rule<Box<str>> {
    rule.methods = MethodSet::of_field((!methods.is_empty()).then_some(methods));
    rule.remotes = remotes.iter().map(|block| block.parse().unwrap()).collect();
    rule
}

fn get<'a>(host: &'a str, path: &'a str) -> Query<'a> {
    Query {
        method: b"GET",
        host: host.as_bytes(),
        path: path.as_bytes(),
        remote: IpAddr::from([127, 0, 0, 1]),
        facts: None,
    }
}

fn found(table: &Table<Box<str>>, query: Query<'_>) -> Option<String> {
    let mut captures = Captures::new();
    table.lookup(&query, &mut captures).map(|found| found.id().to_owned())
}
