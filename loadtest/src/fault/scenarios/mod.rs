//! The table of scenarios, in the order in which they run: one file a part that fails.

mod backend;
mod clock;
mod configuration;
mod control_plane;
mod data_plane;
mod disk;
mod failover;
mod fleet;
mod names;
mod network;
mod postgresql;
mod upgrade;

use super::scenario::Scenario;

pub(crate) const ALL: &[Scenario] = &[
    control_plane::KILL,
    control_plane::STOP,
    data_plane::KILL,
    disk::TORN,
    disk::FULL,
    postgresql::RESTART,
    failover::PROMOTION,
    failover::LOSSY,
    failover::TWO_PRIMARIES,
    network::SILENT,
    network::RESET,
    network::SLOW,
    configuration::INVALID,
    configuration::STORM,
    backend::KILL,
    backend::RESTART,
    backend::HANG,
    backend::SLOW,
    backend::RESETTING,
    backend::FLAPPING,
    backend::HALF_DOWN,
    backend::HALF_HANG,
    fleet::DOWN,
    names::DOWN,
    upgrade::GOOD,
    upgrade::BAD,
    clock::STEP,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_typeable_and_everything_is_explained() {
        let mut names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for scenario in ALL {
            assert!(
                scenario.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
                "{scenario:?}"
            );
            assert!(!scenario.title.is_empty() && scenario.about.ends_with('.'), "{scenario:?}");
        }
        assert!(ALL.iter().any(|scenario| scenario.short));
    }
}
