//! The grammar of the operator's commands.

use std::net::IpAddr;
use std::path::PathBuf;

use ringway_engine::upstream::{Address, Order};
use ringway_snapshot::Kind;
use ringway_snapshot::limits::NODE_WEIGHT_MAX;

/// A day: a longer grace is a typing mistake.
const DRAIN_GRACE_S_MAX: u64 = 86_400;

/// What `help` says.
pub(crate) const HELP: &str = "\
show info                          this process: build, listeners, versions, counters
show snapshot                      the configuration that is served, and how long its stages took
show cores                         each core: CPU, version, connections, requests
show counters                      each core: what was counted since the start
show routes                        every route in the order of its host
show route ID                      one route as it is configured
show objects KIND [ID]             routes, services or upstreams as they are configured and in force
show latency                       how long requests and nodes took: last 10 s, last minute, since the start
show connections                   connections of each core, and bytes
show errors                        what went wrong since the start: refusals, failures, retries, drops
show limits                        limits and waits, and how far they are used
show upstreams                     every upstream with its nodes: state and why, weights, open requests, breakers
show upstream KEY                  one of them (upstreams/ID, or ID; services/ID, routes/ID)
explain METHOD HOST PATH [from IP] [FIELD:VALUE ...]   which route takes this request, why the others do not, and where it would go
show health KEY/ADDRESS history    when a node's state changed lately, and why
set server KEY/ADDRESS ready|drain|down   for the time being: requests, no new ones, none at all
set weight KEY/ADDRESS WEIGHT|configured  for the time being: another share of the requests
adopt LINEAGE                      let another source replace this configuration
log level [FILTER]                 what this process logs of its own doings: tells it, or changes it until the end
log reopen                         open the access log anew, after it was moved away (SIGUSR1 does the same)
drain [SECONDS]                    /readyz fails; after SECONDS (--drain-grace-s) the listeners close
undrain                            take a drain back, as long as the listeners are open
upgrade [EXECUTABLE]               hand all sockets to a new process, without losing a request (this one's file)
shutdown                           drain, then end
prompt                             keep this connection for more commands
quit                               end it
Add the word json for JSON; separate several commands with ';'.";

/// How an `explain` is written.
const EXPLAIN: &str = "explain METHOD HOST PATH [from IP] [FIELD:VALUE ...]";

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Show(Show),
    Explain(Request),
    /// For the time being.
    Set(NodeName, Setting),
    Adopt(u64),
    /// The filter to log by from now on; none: tell it.
    LogLevel(Option<String>),
    LogReopen,
    Drain(Option<u64>),
    Undrain,
    Upgrade(Option<PathBuf>),
    Shutdown,
    /// Core, and milliseconds to stand still or the highest number to die.
    #[cfg(debug_assertions)]
    Fault(usize, u64),
    /// Requests of a core, and what was allocated for them.
    #[cfg(debug_assertions)]
    Spent(usize),
}

/// A node of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeName {
    /// The upstream's key, or the id of an upstream that is an object of its own.
    pub(crate) upstream: String,
    pub(crate) address: Address,
}

/// What a node is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    Order(Order),
    /// `None`: the configured one.
    Weight(Option<u32>),
}

/// What to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Show {
    Info,
    Snapshot,
    Cores,
    Counters,
    Latency,
    Connections,
    Errors,
    Limits,
    Routes,
    Route(String),
    Upstreams,
    Upstream(String),
    /// All of a kind, or one of them.
    Objects(Kind, Option<String>),
    History(NodeName),
}

/// A request that is explained and not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) from: Option<IpAddr>,
    /// Fields of its head.
    pub(crate) fields: Vec<(String, String)>,
}

impl Command {
    /// Reads a command; the flag asks for JSON.
    pub(crate) fn parse(text: &str) -> Result<(Command, bool), String> {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let json = words.last() == Some(&"json") && words.len() > 1;
        if json {
            words.pop();
        }
        let command = match words.as_slice() {
            ["help"] => Command::Help,
            ["show", rest @ ..] => Command::Show(show(rest)?),
            ["explain", method, host, path, rest @ ..] => {
                let (from, rest) = match rest {
                    ["from", ip, rest @ ..] => {
                        (Some(ip.parse().map_err(|_| format!("{ip:?} is not an IP address"))?), rest)
                    }
                    rest => (None, rest),
                };
                let field = |word: &&str| {
                    word.split_once(':').map(|(name, value)| (name.to_owned(), value.to_owned()))
                };
                let fields = rest.iter().map(field).collect::<Option<_>>().ok_or(EXPLAIN)?;
                let (method, host, path) = ((*method).to_owned(), (*host).to_owned(), (*path).to_owned());
                Command::Explain(Request { method, host, path, from, fields })
            }
            ["explain", ..] => return Err(EXPLAIN.to_owned()),
            ["set", rest @ ..] => set(rest)?,
            ["adopt", lineage] => Command::Adopt(u64::from_str_radix(lineage, 16).map_err(|_| {
                format!("{lineage:?} is not a lineage: 16 hexadecimal digits, as the refusal tells it")
            })?),
            ["log", "level"] => Command::LogLevel(None),
            ["log", "level", filter] => Command::LogLevel(Some((*filter).to_owned())),
            ["log", "reopen"] => Command::LogReopen,
            ["log", ..] => {
                return Err("log level, log level FILTER (without spaces) or log reopen".to_owned());
            }
            ["drain"] => Command::Drain(None),
            ["drain", grace_s] => Command::Drain(Some(
                grace_s.parse().ok().filter(|grace_s| *grace_s <= DRAIN_GRACE_S_MAX).ok_or_else(|| {
                    format!("{grace_s:?} is not a number of seconds up to {DRAIN_GRACE_S_MAX}")
                })?,
            )),
            ["undrain"] => Command::Undrain,
            ["upgrade"] => Command::Upgrade(None),
            ["upgrade", ..] => {
                // A path may hold spaces; nothing follows it.
                let path = PathBuf::from(text.trim_start().trim_start_matches("upgrade").trim());
                if !path.is_absolute() {
                    return Err(format!("{}: give the path from / on", path.display()));
                }
                Command::Upgrade(Some(path))
            }
            #[cfg(debug_assertions)]
            ["fault", core, fault] => {
                let fault = if *fault == "die" { Ok(u64::MAX) } else { fault.parse() };
                let numbers = core.parse().ok().zip(fault.ok());
                let (core, fault) = numbers.ok_or("fault CORE MILLISECONDS, or fault CORE die")?;
                Command::Fault(core, fault)
            }
            #[cfg(debug_assertions)]
            ["spent", core] => Command::Spent(core.parse().map_err(|_| "spent CORE")?),
            ["shutdown"] => Command::Shutdown,
            _ => return Err(format!("unknown command {text:?}; say help for a list")),
        };
        Ok((command, json))
    }
}

/// What is to be shown.
fn show(words: &[&str]) -> Result<Show, String> {
    Ok(match words {
        ["info"] => Show::Info,
        ["snapshot"] => Show::Snapshot,
        ["cores"] => Show::Cores,
        ["counters"] => Show::Counters,
        ["latency"] => Show::Latency,
        ["connections"] => Show::Connections,
        ["errors"] => Show::Errors,
        ["limits"] => Show::Limits,
        ["routes"] => Show::Routes,
        ["route", id] => Show::Route((*id).to_owned()),
        ["upstreams"] => Show::Upstreams,
        ["upstream", key] => Show::Upstream((*key).to_owned()),
        ["objects", kind, id @ ..] if id.len() < 2 => {
            let known = Kind::from_name(kind).ok_or_else(|| format!("{kind:?} is not a kind"))?;
            Show::Objects(known, id.first().map(|id| (*id).to_owned()))
        }
        ["health", node, "history"] => Show::History(node_of(node).map_err(|_| HISTORY.to_owned())?),
        ["health", ..] => return Err(HISTORY.to_owned()),
        _ => return Err(SHOW.to_owned()),
    })
}

const SHOW: &str = "show info, snapshot, cores, counters, latency, connections, errors, limits, routes, route ID, upstreams, upstream KEY, health KEY/ADDRESS history or objects KIND [ID]";
const HISTORY: &str =
    "show health UPSTREAM/ADDRESS history, with the address and port that `show upstreams` tells";

const SET_SERVER: &str =
    "set server UPSTREAM/ADDRESS ready|drain|down, or set weight UPSTREAM/ADDRESS WEIGHT|configured";

fn set(words: &[&str]) -> Result<Command, String> {
    let setting = match words {
        ["server", _, "ready"] => Setting::Order(Order::Ready),
        ["server", _, "drain"] => Setting::Order(Order::Drain),
        ["server", _, "down"] => Setting::Order(Order::Down),
        ["weight", _, "configured"] => Setting::Weight(None),
        ["weight", _, weight] => {
            let weight = weight.parse().ok().filter(|weight| *weight <= NODE_WEIGHT_MAX);
            Setting::Weight(Some(
                weight.ok_or_else(|| format!("a weight is a number from 0 to {NODE_WEIGHT_MAX}"))?,
            ))
        }
        _ => return Err(SET_SERVER.to_owned()),
    };
    let node = words.get(1).ok_or_else(|| SET_SERVER.to_owned())?;
    Ok(Command::Set(node_of(node)?, setting))
}

fn node_of(text: &str) -> Result<NodeName, String> {
    // A Unix socket's path has slashes itself; a key has no ':'.
    let parts = match text.find("/unix:") {
        Some(at) => {
            text.split_at_checked(at).map(|(upstream, rest)| (upstream, rest.trim_start_matches('/')))
        }
        None => text.rsplit_once('/'),
    };
    let (upstream, address) = parts.ok_or_else(|| SET_SERVER.to_owned())?;
    let address = address
        .parse()
        .map_err(|_| format!("{address:?} is not an address with a port, as `show upstreams` tells it"))?;
    Ok(NodeName { upstream: upstream.to_owned(), address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_with_and_without_json() {
        assert_eq!(Command::parse("show  info json"), Ok((Command::Show(Show::Info), true)));
        assert_eq!(Command::parse("shutdown"), Ok((Command::Shutdown, false)));
        let node = NodeName { upstream: "routes/1".into(), address: "[::1]:80".parse().unwrap() };
        assert_eq!(
            Command::parse("set server routes/1/[::1]:80 drain"),
            Ok((Command::Set(node.clone(), Setting::Order(Order::Drain)), false))
        );
        assert_eq!(
            Command::parse("set weight routes/1/[::1]:80 configured json"),
            Ok((Command::Set(node, Setting::Weight(None)), true))
        );
        let node = NodeName { upstream: "routes/1".into(), address: "unix:/run/a.sock".parse().unwrap() };
        assert_eq!(
            Command::parse("set server routes/1/unix:/run/a.sock down"),
            Ok((Command::Set(node, Setting::Order(Order::Down)), false))
        );
        assert_eq!(Command::parse("drain 7"), Ok((Command::Drain(Some(7)), false)));
        assert_eq!(Command::parse("upgrade /a b"), Ok((Command::Upgrade(Some("/a b".into())), false)));
        let request = Request {
            method: "GET".into(),
            host: "a".into(),
            path: "/x".into(),
            from: "10.0.0.1".parse().ok(),
            fields: vec![("X-A".into(), "b:c".into())],
        };
        assert_eq!(
            Command::parse("explain GET a /x from 10.0.0.1 X-A:b:c json"),
            Ok((Command::Explain(request), true))
        );
        assert_eq!(Command::parse("adopt 00000000000000ff"), Ok((Command::Adopt(255), false)));
    }

    #[test]
    fn what_is_not_understood_says_what_would_be() {
        assert!(Command::parse("shwo info").unwrap_err().contains("help"));
        assert!(Command::parse("show").unwrap_err().contains("upstreams"));
        assert!(Command::parse("show health u/10.0.0.1:80").unwrap_err().contains("history"));
        assert!(Command::parse("show health u history").unwrap_err().contains("ADDRESS"));
        assert!(Command::parse("set server 1/x drain").unwrap_err().contains("address"));
        assert!(Command::parse("set server 1/10.0.0.1:80 off").unwrap_err().contains("drain"));
        assert!(Command::parse("set weight 1/10.0.0.1:80 1000001").unwrap_err().contains("1000000"));
        assert!(Command::parse("explain GET").unwrap_err().contains("HOST"));
        assert!(Command::parse("adopt xyz").unwrap_err().contains("lineage"));
        assert!(Command::parse("log loud").unwrap_err().contains("log level"));
        assert!(Command::parse("drain soon").unwrap_err().contains("seconds"));
        assert!(Command::parse("upgrade ringway").unwrap_err().contains("from / on"));
    }
}
