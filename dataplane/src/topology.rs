//! In which order CPUs get workers: one of each physical core first, their siblings after all of them.
//!
//! Two hardware threads of one core share its caches and units, so that with fewer workers than CPUs each should have a core
//! of its own. It reads `/sys/devices/system/cpu` (Documentation/admin-guide/cputopology.rst, thread_siblings_list); where
//! that tells nothing, the order stays as it is. It pins nothing and leaves no CPU out.

use std::fs;
use std::path::Path;

/// Where the kernel tells it.
pub(crate) const SYSTEM: &str = "/sys/devices/system/cpu";

/// The same CPUs, siblings last.
pub(crate) fn physical_first(mut cpus: Vec<usize>, system: &Path) -> Vec<usize> {
    let allowed = cpus.clone();
    // Stable: within a rank the order stays.
    cpus.sort_by_cached_key(|cpu| rank(*cpu, &allowed, system));
    cpus
}

/// How many siblings of a CPU come before it.
fn rank(cpu: usize, allowed: &[usize], system: &Path) -> usize {
    let path = system.join(format!("cpu{cpu}/topology/thread_siblings_list"));
    let siblings = fs::read_to_string(path).map(|text| list(&text)).unwrap_or_default();
    siblings.iter().filter(|sibling| **sibling < cpu && allowed.contains(sibling)).count()
}

/// `0-1,4` as numbers. What is no list is an empty one.
fn list(text: &str) -> Vec<usize> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<usize>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(siblings: &[&str], cpus: &[usize]) -> Vec<usize> {
        let folder = tempfile::tempdir().unwrap();
        for (cpu, text) in siblings.iter().enumerate() {
            let topology = folder.path().join(format!("cpu{cpu}/topology"));
            fs::create_dir_all(&topology).unwrap();
            fs::write(topology.join("thread_siblings_list"), format!("{text}\n")).unwrap();
        }
        physical_first(cpus.to_vec(), folder.path())
    }

    #[test]
    fn each_physical_core_comes_before_any_sibling() {
        // As Linux numbers them on most servers, and as virtual machines often do.
        assert_eq!(order(&["0,2", "1,3", "0,2", "1,3"], &[0, 1, 2, 3]), [0, 1, 2, 3]);
        assert_eq!(order(&["0-1", "0-1", "2-3", "2-3"], &[0, 1, 2, 3]), [0, 2, 1, 3]);
    }

    #[test]
    fn a_sibling_that_may_not_be_used_is_no_reason_to_wait() {
        assert_eq!(order(&["0-1", "0-1", "2-3", "2-3"], &[1, 2, 3]), [1, 2, 3]);
    }

    #[test]
    fn without_topology_the_order_stays() {
        assert_eq!(order(&[], &[3, 1, 2]), [3, 1, 2]);
        assert_eq!(order(&["nonsense", "7-"], &[0, 1]), [0, 1]);
    }
}
