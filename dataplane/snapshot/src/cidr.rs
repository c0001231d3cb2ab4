//! Blocks of client addresses (`remote_addr`, `remote_addrs`).
//!
//! An IPv4-mapped IPv6 address counts as the IPv4 address it maps, in blocks and in requests, so that a dual-stack
//! listener does not change what a block means.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address with a prefix length; a lone address has the full length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix_bits: u8,
}

/// The text is no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an IP address or a block such as 10.0.0.0/8")]
pub struct CidrError;

impl Cidr {
    /// Whether the address lies in the block.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = u32::from(self.prefix_bits);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(block), IpAddr::V4(asked)) => {
                let differ = block.to_bits() ^ asked.to_bits();
                differ.checked_shr(u32::BITS.saturating_sub(bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(block), IpAddr::V6(asked)) => {
                let differ = block.to_bits() ^ asked.to_bits();
                differ.checked_shr(u128::BITS.saturating_sub(bits)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Cidr {
        let address = address.to_canonical();
        Cidr { address, prefix_bits: if address.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        let Some((address, bits)) = text.split_once('/') else {
            return text.parse::<IpAddr>().map(Cidr::from).map_err(|_| CidrError);
        };
        let written = address.parse::<IpAddr>().map_err(|_| CidrError)?;
        let prefix_bits = bits.parse::<u8>().map_err(|_| CidrError)?;
        if prefix_bits > if written.is_ipv4() { 32 } else { 128 } {
            return Err(CidrError);
        }
        match written.to_canonical() {
            // A block inside ::ffff:0:0/96 is a block of IPv4 addresses; a shorter one stays IPv6.
            address @ IpAddr::V4(_) if written.is_ipv6() => match prefix_bits.checked_sub(96) {
                Some(prefix_bits) => Ok(Cidr { address, prefix_bits }),
                None => Ok(Cidr { address: written, prefix_bits }),
            },
            address => Ok(Cidr { address, prefix_bits }),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_their_addresses_and_no_others() {
        for (block, inside, outside) in [
            ("127.0.0.0/24", "127.0.0.2", "127.0.1.1"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("10.1.2.3/8", "10.255.0.0", "11.0.0.0"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "fe80::1", "127.0.0.1"),
            ("fe80::1/64", "fe80::1", "fe80:fe::1"),
            ("::1", "::1", "::2"),
            ("127.0.0.0/8", "::ffff:127.9.9.9", "::ffff:128.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.1.1.1", "11.1.1.1"),
        ] {
            let cidr: Cidr = block.parse().unwrap();
            assert!(cidr.contains(inside.parse().unwrap()), "{block} {inside}");
            assert!(!cidr.contains(outside.parse().unwrap()), "{block} {outside}");
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for text in ["", "a", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/-1"] {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError), "{text}");
        }
    }
}
