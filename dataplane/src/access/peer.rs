//! A tried node as a record carries it: a copy of its address, which is shared with no other core.
//!
//! The path of a Unix socket stands in it as it is. Cloning the shared one would count references in memory that all cores write.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ringway_engine::upstream::Address;
use ringway_snapshot::limits::UNIX_PATH_BYTES_MAX;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    Unix { len: u8, path: [u8; UNIX_PATH_BYTES_MAX] },
}

/// Stands where the length of a path would.
const TCP: u8 = u8::MAX;
/// Stands for no node.
const NONE: u8 = 0;

impl Peer {
    /// Appends a node, or that there is none.
    pub(super) fn encode(peer: Option<&Peer>, out: &mut Vec<u8>) {
        match peer {
            None => out.push(NONE),
            Some(Peer::Tcp(address)) => {
                out.push(TCP);
                encode_address(*address, out);
            }
            Some(Peer::Unix { len, path }) => {
                out.push(*len);
                out.extend_from_slice(path.get(..usize::from(*len)).unwrap_or_default());
            }
        }
    }

    /// Takes what [`Peer::encode`] wrote. The outer `None`: it is cut.
    pub(super) fn decode(rest: &mut &[u8]) -> Option<Option<Peer>> {
        let [len] = take(rest)?;
        match len {
            NONE => Some(None),
            TCP => Some(Some(Peer::Tcp(take_address(rest)?))),
            _ => {
                let (bytes, behind) = rest.split_at_checked(usize::from(len))?;
                *rest = behind;
                Some(Peer::of_path(bytes))
            }
        }
    }

    fn of_path(bytes: &[u8]) -> Option<Peer> {
        let mut path = [0; UNIX_PATH_BYTES_MAX];
        path.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Peer::Unix { len: u8::try_from(bytes.len()).ok()?, path })
    }
}

impl From<&Address> for Peer {
    fn from(address: &Address) -> Peer {
        // No path is longer than its bound.
        let unix = |path: &str| Peer::of_path(path.as_bytes());
        match address {
            Address::Tcp(address) => Peer::Tcp(*address),
            Address::Unix(path) => unix(path).unwrap_or(Peer::Unix { len: 0, path: [0; _] }),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(f),
            Peer::Unix { len, path } => {
                let path = path.get(..usize::from(*len)).unwrap_or_default();
                write!(f, "unix:{}", String::from_utf8_lossy(path))
            }
        }
    }
}

/// Appends an address with its port.
pub(super) fn encode_address(address: SocketAddr, out: &mut Vec<u8>) {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    out.extend_from_slice(&ip.octets());
    out.extend_from_slice(&address.port().to_le_bytes());
}

/// Takes what [`encode_address`] wrote.
pub(super) fn take_address(rest: &mut &[u8]) -> Option<SocketAddr> {
    let ip = Ipv6Addr::from(take::<16>(rest)?).to_canonical();
    Some(SocketAddr::new(ip, u16::from_le_bytes(take(rest)?)))
}

/// Takes so many bytes.
pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*bytes)
}
