//! The ring of consistent hashing: points of all nodes, many for each, looked up by several probes of a key.
//!
//! A node's points depend on its address and weight alone, so a node that comes or goes takes or leaves only its own share of the
//! keys. Of a key's probes the one that is nearest to a point decides; that evens out the gaps between points, for which a plain ring
//! would need many times the points. Built where no request is served, shared by all cores, and the same on every gateway.

use std::net::IpAddr;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Address;
use super::round_robin::mix;

/// Points of the heaviest node: between half of this and all of it.
const POINTS_PER_NODE_MAX: u32 = 512;
/// Points of a ring; with more nodes than fit each has fewer.
const POINTS_MAX: usize = 1 << 18;
/// Looks at the ring for one key.
const PROBES: u64 = 8;

/// A ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ring {
    /// Place and node, in order.
    points: Box<[(u64, u32)]>,
}

impl Ring {
    /// The ring of nodes with their weights.
    pub(super) fn build(nodes: &[(Address, u32)]) -> Ring {
        let heaviest = nodes.iter().map(|(_, weight)| *weight).max().unwrap_or(0);
        // Powers of two, so that another node rarely changes how many points the rest has.
        let (mut up, mut down) = (0, 0);
        while heaviest > 0 && heaviest << (up + 1) <= POINTS_PER_NODE_MAX {
            up += 1;
        }
        while heaviest >> down > POINTS_PER_NODE_MAX {
            down += 1;
        }
        let points_of =
            |weight: u32, down: u32| ((u64::from(weight) << up) >> down).max(u64::from(weight > 0));
        let total = |down: u32| nodes.iter().map(|(_, weight)| points_of(*weight, down)).sum::<u64>();
        while total(down) > POINTS_MAX as u64 && down < u64::BITS - 1 {
            down += 1;
        }
        let mut points = Vec::new();
        for (node, (address, weight)) in (0u32..).zip(nodes) {
            let seed = hash_of(address);
            points.extend((0..points_of(*weight, down)).map(|point| (mix(seed ^ mix(point)), node)));
        }
        points.sort_unstable();
        Ring { points: points.into() }
    }

    /// The node that a key belongs to on the `attempt`th try; later ones stand in where earlier ones are not usable.
    pub(super) fn owner(&self, key: u64, attempt: u64) -> Option<u32> {
        let first = attempt.wrapping_mul(PROBES);
        (0..PROBES)
            .filter_map(|probe| {
                let place = mix(key ^ mix(first.wrapping_add(probe)));
                let at = self.points.partition_point(|(point, _)| *point < place);
                let (point, node) = self.points.get(at).or_else(|| self.points.first())?;
                Some((point.wrapping_sub(place), *node))
            })
            .min()
            .map(|(_, node)| node)
    }
}

fn hash_of(address: &Address) -> u64 {
    let address = match address {
        Address::Tcp(address) => address,
        // No port is above 65535, so that no path's seed is an address's.
        Address::Unix(path) => return xxh3_64_with_seed(path.as_bytes(), u64::MAX),
    };
    match address.ip() {
        IpAddr::V4(ip) => xxh3_64_with_seed(&ip.octets(), u64::from(address.port())),
        IpAddr::V6(ip) => xxh3_64_with_seed(&ip.octets(), u64::from(address.port())),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    const KEYS: u64 = 100_000;

    fn node(port: u16) -> Address {
        SocketAddr::new([10, 0, 0, 1].into(), port).into()
    }

    fn nodes(weights: &[u32]) -> Vec<(Address, u32)> {
        (1u16..).zip(weights).map(|(port, w)| (node(port), *w)).collect()
    }

    fn owners(nodes: &[(Address, u32)]) -> Vec<Address> {
        let ring = Ring::build(nodes);
        (0..KEYS).map(|key| nodes[ring.owner(mix(key), 0).unwrap() as usize].0.clone()).collect()
    }

    fn share(owners: &[Address], of: &Address) -> f64 {
        owners.iter().filter(|owner| *owner == of).count() as f64 / KEYS as f64
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        for weights in
            [vec![1; 2], vec![1; 3], vec![1; 10], vec![5, 1, 1], vec![1, 2, 3, 4], vec![1000, 1000, 500]]
        {
            let nodes = nodes(&weights);
            let owners = owners(&nodes);
            let total: u32 = weights.iter().sum();
            for (address, weight) in nodes {
                let ideal = f64::from(weight) / f64::from(total);
                let share = share(&owners, &address);
                assert!((share - ideal).abs() < 0.01, "{weights:?}: {address} {share} for {ideal}");
            }
        }
    }

    #[test]
    fn a_node_that_goes_or_comes_moves_its_own_keys_and_no_others() {
        for count in [2usize, 3, 5, 10, 32, 33, 100] {
            let all = nodes(&vec![1; count]);
            let before = owners(&all);
            for gone in [0, count / 2, count - 1] {
                let mut fewer = all.clone();
                let (address, _) = fewer.remove(gone);
                let after = owners(&fewer);
                let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
                let ideal = KEYS as f64 / count as f64;
                assert!(moved as f64 <= 1.2 * ideal, "{count} nodes: {moved} for {ideal}");
                assert!(before.iter().zip(&after).all(|(a, b)| a == b || *a == address), "others moved too");
            }
        }
    }

    #[test]
    fn another_weight_moves_only_keys_of_that_node() {
        let before = owners(&nodes(&[4, 4, 4, 4]));
        let after = owners(&nodes(&[4, 3, 4, 4]));
        let node = node(2);
        assert!(before.iter().zip(&after).all(|(a, b)| a == b || *a == node));
        assert!((share(&after, &node) - 3.0 / 15.0).abs() < 0.01);
    }

    #[test]
    fn the_order_of_nodes_does_not_matter_and_extremes_stay_in_bounds() {
        let mut turned = nodes(&[1, 2, 3]);
        let before = owners(&turned);
        turned.reverse();
        assert_eq!(owners(&turned), before);
        assert_eq!(Ring::build(&[]).owner(1, 0), None);
        assert_eq!(Ring::build(&nodes(&[0, 0])).owner(1, 0), None);
        assert_eq!(Ring::build(&nodes(&[1_000_000, 1])).points.len(), 489);
        assert!(Ring::build(&nodes(&vec![1_000_000; 8192])).points.len() <= POINTS_MAX);
    }

    #[test]
    fn a_unix_socket_is_a_node_like_another() {
        let mut all = nodes(&[1, 1]);
        let before = owners(&all);
        all.push(("unix:/run/app.sock".parse().unwrap(), 1));
        let after = owners(&all);
        assert!((share(&after, &all[2].0) - 1.0 / 3.0).abs() < 0.01);
        assert!(before.iter().zip(&after).all(|(a, b)| a == b || *b == all[2].0), "others moved too");
    }
}
