//! Where a node listens: an address with a port, or the path of a Unix socket.
//!
//! It is what everything that outlives a version is kept under (pools, rosters, health, orders), so that equal ones are equal however they were
//! spelt. Invariant: a path is one that `unix_path` of the contract let through.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use ringway_snapshot::upstream::unix_path;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(Arc<str>),
}

impl Address {
    /// The address and port, where it is one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Tcp(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        match unix_path(text) {
            Some(path) => path.map(|path| Address::Unix(path.into())),
            None => text.parse().map(Address::Tcp).map_err(|_| format!("{text:?} is no address with a port")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_reads_back_the_same() {
        for text in ["10.0.0.1:80", "[::1]:8080", "unix:/run/app.sock"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        assert_eq!("unix:///run/a".parse::<Address>(), "unix:/run/a".parse());
        assert!("10.0.0.1".parse::<Address>().is_err());
        assert!("unix:run/a".parse::<Address>().unwrap_err().contains("absolute"));
    }
}
