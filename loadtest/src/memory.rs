//! Resident memory of a process tree, from `/proc/PID/smaps_rollup`.
//!
//! The proportional set size: pages that several processes of a tree share are counted once. The kernel's own memory for
//! sockets and rings is not in it; it is much the same for whoever holds the same connections.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::cpu;

/// Bytes of the process and all its descendants.
pub(crate) fn resident_bytes(root_pid: u32) -> Result<u64> {
    let mut total = 0;
    for pid in cpu::tree(root_pid)? {
        let path = format!("/proc/{pid}/smaps_rollup");
        match fs::read_to_string(&path) {
            Ok(text) => total += read(&text).with_context(|| format!("{path} has no Pss"))?,
            // A descendant may end between listing and reading; without the root there is nothing to tell.
            Err(error) if pid == root_pid => {
                return Err(error).with_context(|| format!("cannot read {path}"));
            }
            Err(_) if Path::new(&path).exists() => anyhow::bail!("cannot read {path}"),
            Err(_) => {}
        }
    }
    Ok(total)
}

fn read(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proportional_size_is_read() {
        assert_eq!(
            read("55d-7ff ---p [rollup]\nRss:  900 kB\nPss:    512 kB\nPss_Dirty: 7 kB\n"),
            Some(512 * 1024)
        );
        assert_eq!(read("Rss: 1 kB\n"), None);
    }

    #[test]
    fn memory_that_is_touched_is_seen() {
        const BYTES: usize = 64 * 1024 * 1024;
        let before = resident_bytes(std::process::id()).unwrap();
        let touched = std::hint::black_box(vec![1_u8; BYTES]);
        let after = resident_bytes(std::process::id()).unwrap();
        assert!(after >= before + BYTES as u64 / 2, "{before} {after} {}", touched.len());
        assert!(resident_bytes(u32::MAX).is_err());
    }
}
