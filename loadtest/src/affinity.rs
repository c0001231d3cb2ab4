//! Binding to a core. A child process inherits the binding of the thread that started it, which is how a proxy that
//! knows nothing of cores is pinned.

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Binds the calling thread, and what it starts from now on, to one core.
pub(crate) fn pin(core: usize) -> Result<()> {
    if core >= CpuSet::MAX_CPU {
        anyhow::bail!("core {core}: the kernel's limit is {}", CpuSet::MAX_CPU);
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot bind to core {core}"))
}

/// The cores that this thread may run on.
pub(crate) fn allowed() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("cannot read the thread's cores")?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_and_its_children_run_on_one_core() {
        let core = *allowed().unwrap().last().unwrap();
        let status = std::thread::spawn(move || {
            pin(core).unwrap();
            assert_eq!(allowed().unwrap(), [core]);
            std::process::Command::new("cat").arg("/proc/self/status").output().unwrap()
        })
        .join()
        .unwrap();
        let status = String::from_utf8(status.stdout).unwrap();
        assert!(status.contains(&format!("Cpus_allowed_list:\t{core}\n")), "{status}");
    }
}
