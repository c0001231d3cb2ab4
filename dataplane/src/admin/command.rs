//! The grammar of the operator's commands.

use std::net::IpAddr;
use std::path::PathBuf;

/// A day: a longer grace is a typing mistake.
const DRAIN_GRACE_S_MAX: u64 = 86_400;

/// What `help` says.
pub(crate) const HELP: &str = "\
show info                          this process: build, listeners, versions, counters
show snapshot                      the configuration that is served, and how long its stages took
show cores                         each core: CPU, version, connections, requests
show routes                        every route in the order of its host
show route ID                      one route as it is configured
show upstreams                     every upstream with its nodes
explain METHOD HOST PATH [from IP] which route takes this request, why the others do not, and where it would go
adopt LINEAGE                      let another source replace this configuration
drain [SECONDS]                    /readyz fails; after SECONDS (--drain-grace-s) the listeners close
undrain                            take a drain back, as long as the listeners are open
upgrade [EXECUTABLE]               hand all sockets to a new process, without losing a request (this one's file)
shutdown                           drain, then end
prompt                             keep this connection for more commands
quit                               end it
Add the word json for JSON; separate several commands with ';'.";

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Show(Show),
    Explain(Request),
    Adopt(u64),
    Drain(Option<u64>),
    Undrain,
    Upgrade(Option<PathBuf>),
    Shutdown,
    /// Core, and milliseconds to stand still or the highest number to die.
    #[cfg(debug_assertions)]
    Fault(usize, u64),
}

/// What to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Show {
    Info,
    Snapshot,
    Cores,
    Routes,
    Route(String),
    Upstreams,
}

/// A request that is explained and not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) from: Option<IpAddr>,
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
            ["show", rest @ ..] => Command::Show(match rest {
                ["info"] => Show::Info,
                ["snapshot"] => Show::Snapshot,
                ["cores"] => Show::Cores,
                ["routes"] => Show::Routes,
                ["route", id] => Show::Route((*id).to_owned()),
                ["upstreams"] => Show::Upstreams,
                _ => return Err("show info, snapshot, cores, routes, route ID or upstreams".to_owned()),
            }),
            ["explain", method, host, path, rest @ ..] => {
                let from = match rest {
                    [] => None,
                    ["from", ip] => Some(ip.parse().map_err(|_| format!("{ip:?} is not an IP address"))?),
                    _ => return Err("explain METHOD HOST PATH [from IP]".to_owned()),
                };
                let (method, host, path) = ((*method).to_owned(), (*host).to_owned(), (*path).to_owned());
                Command::Explain(Request { method, host, path, from })
            }
            ["explain", ..] => return Err("explain METHOD HOST PATH [from IP]".to_owned()),
            ["adopt", lineage] => Command::Adopt(u64::from_str_radix(lineage, 16).map_err(|_| {
                format!("{lineage:?} is not a lineage: 16 hexadecimal digits, as the refusal tells it")
            })?),
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
            ["shutdown"] => Command::Shutdown,
            _ => return Err(format!("unknown command {text:?}; say help for a list")),
        };
        Ok((command, json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_with_and_without_json() {
        assert_eq!(Command::parse("show  info json"), Ok((Command::Show(Show::Info), true)));
        assert_eq!(Command::parse("shutdown"), Ok((Command::Shutdown, false)));
        assert_eq!(Command::parse("drain 7"), Ok((Command::Drain(Some(7)), false)));
        assert_eq!(Command::parse("upgrade /a b"), Ok((Command::Upgrade(Some("/a b".into())), false)));
        let request = Request {
            method: "GET".into(),
            host: "a".into(),
            path: "/x".into(),
            from: "10.0.0.1".parse().ok(),
        };
        assert_eq!(
            Command::parse("explain GET a /x from 10.0.0.1 json"),
            Ok((Command::Explain(request), true))
        );
        assert_eq!(Command::parse("adopt 00000000000000ff"), Ok((Command::Adopt(255), false)));
    }

    #[test]
    fn what_is_not_understood_says_what_would_be() {
        assert!(Command::parse("shwo info").unwrap_err().contains("help"));
        assert!(Command::parse("show").unwrap_err().contains("upstreams"));
        assert!(Command::parse("explain GET").unwrap_err().contains("HOST"));
        assert!(Command::parse("adopt xyz").unwrap_err().contains("lineage"));
        assert!(Command::parse("drain soon").unwrap_err().contains("seconds"));
        assert!(Command::parse("upgrade ringway").unwrap_err().contains("from / on"));
    }
}
