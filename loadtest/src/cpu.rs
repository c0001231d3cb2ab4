//! CPU time of a process tree, from `/proc/PID/task/*/schedstat`, and of the whole machine, from `/proc/stat`.
//!
//! schedstat counts nanoseconds where `stat` counts ticks of 10 ms. It includes the kernel's work on a task's
//! behalf (system calls, the loopback's softirq, io_uring's worker threads, which are tasks of the process). It
//! lags by up to a scheduler tick for a task that is running, so windows should be a second or more. Time of a task
//! that ended within the window is not seen: how many vanished is reported, so that nobody trusts such a figure
//! blindly.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const PROC: &str = "/proc";

/// CPU time of every task of a process and its descendants at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TreeSample {
    by_task: HashMap<u32, TaskTime>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct TaskTime {
    run_ns: u64,
    wait_ns: u64,
}

/// What a tree used between two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TreeUse {
    pub(crate) run_ns: u64,
    /// Ready to run while something else had the core: a saturated proxy on a shared core waits instead of running.
    pub(crate) wait_ns: u64,
    pub(crate) tasks: usize,
    pub(crate) tasks_vanished: usize,
}

impl TreeSample {
    pub(crate) fn take(root_pid: u32) -> Result<Self> {
        Self::take_from(Path::new(PROC), root_pid)
    }

    fn take_from(proc: &Path, root_pid: u32) -> Result<Self> {
        let mut by_task = HashMap::new();
        for pid in tree_from(proc, root_pid)? {
            let Ok(tasks) = fs::read_dir(proc.join(pid.to_string()).join("task")) else { continue };
            for task in tasks.flatten() {
                let Some(tid) = task.file_name().to_str().and_then(|name| name.parse().ok()) else {
                    continue;
                };
                // A task may end between listing and reading.
                let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
                by_task.insert(tid, read_schedstat(&text)?);
            }
        }
        if by_task.is_empty() {
            anyhow::bail!("process {root_pid} has no task to measure: is it still running?");
        }
        Ok(Self { by_task })
    }

    /// One thread alone.
    pub(crate) fn of_thread(thread: u32) -> Result<Self> {
        let path = format!("{PROC}/{thread}/task/{thread}/schedstat");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Ok(Self { by_task: HashMap::from([(thread, read_schedstat(&text)?)]) })
    }

    pub(crate) fn since(&self, earlier: &Self) -> TreeUse {
        let mut used = TreeUse {
            tasks: self.by_task.len(),
            tasks_vanished: earlier.by_task.keys().filter(|tid| !self.by_task.contains_key(tid)).count(),
            ..TreeUse::default()
        };
        for (tid, time) in &self.by_task {
            // A task that is new within the window counts whole.
            let before = earlier.by_task.get(tid).copied().unwrap_or_default();
            used.run_ns += time.run_ns.saturating_sub(before.run_ns);
            used.wait_ns += time.wait_ns.saturating_sub(before.wait_ns);
        }
        used
    }
}

/// The process and all its descendants, parents first.
pub(crate) fn tree(root_pid: u32) -> Result<Vec<u32>> {
    tree_from(Path::new(PROC), root_pid)
}

fn tree_from(proc: &Path, root_pid: u32) -> Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir(proc).context("cannot read /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(parent) = parent_of(&stat) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut tree = vec![root_pid];
    let mut seen = HashSet::from([root_pid]);
    let mut next = 0;
    while let Some(pid) = tree.get(next).copied() {
        next += 1;
        for child in children.get(&pid).into_iter().flatten() {
            if seen.insert(*child) {
                tree.push(*child);
            }
        }
    }
    Ok(tree)
}

/// The fourth field of `/proc/PID/stat`. The second, the name, may itself contain spaces and parentheses.
fn parent_of(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// `run_ns wait_ns timeslices`.
fn read_schedstat(text: &str) -> Result<TaskTime> {
    let mut fields = text.split_ascii_whitespace().map(str::parse);
    let (Some(Ok(run_ns)), Some(Ok(wait_ns))) = (fields.next(), fields.next()) else {
        anyhow::bail!("schedstat is not two numbers: {text:?}");
    };
    Ok(TaskTime { run_ns, wait_ns })
}

/// CPU time of the whole machine at one moment, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MachineSample {
    busy_ticks: u64,
    steal_ticks: u64,
}

/// What the whole machine used between two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MachineUse {
    pub(crate) busy_ns: u64,
    /// Taken by the hypervisor for others.
    pub(crate) steal_ns: u64,
}

impl MachineSample {
    pub(crate) fn take() -> Result<Self> {
        Self::read(&fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?)
    }

    fn read(stat: &str) -> Result<Self> {
        let line =
            stat.lines().find_map(|line| line.strip_prefix("cpu ")).context("/proc/stat has no cpu line")?;
        let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guest time is part of user.
        let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks.as_slice() else {
            anyhow::bail!("/proc/stat: too few fields in {line:?}");
        };
        Ok(Self { busy_ticks: user + nice + system + irq + softirq, steal_ticks: *steal })
    }

    pub(crate) fn since(&self, earlier: &Self) -> MachineUse {
        let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        MachineUse {
            busy_ns: self.busy_ticks.saturating_sub(earlier.busy_ticks).saturating_mul(tick_ns),
            steal_ns: self.steal_ticks.saturating_sub(earlier.steal_ticks).saturating_mul(tick_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn process(proc: &Path, pid: u32, parent: u32, tasks: &[(u32, u64)]) {
        let directory = proc.join(pid.to_string());
        fs::create_dir_all(directory.join("task")).unwrap();
        fs::write(directory.join("stat"), format!("{pid} (a) b (c) S {parent} 1 1 0")).unwrap();
        for (tid, run_ns) in tasks {
            let task = directory.join("task").join(tid.to_string());
            fs::create_dir_all(&task).unwrap();
            fs::write(task.join("schedstat"), format!("{run_ns} {} 7\n", run_ns / 10)).unwrap();
        }
    }

    #[test]
    fn a_tree_is_its_descendants_and_nobody_else() {
        let proc = tempfile::tempdir().unwrap();
        process(proc.path(), 10, 1, &[(10, 100), (11, 20)]);
        process(proc.path(), 20, 10, &[(20, 3)]);
        process(proc.path(), 30, 20, &[(30, 4)]);
        process(proc.path(), 40, 1, &[(40, 9999)]);
        let sample = TreeSample::take_from(proc.path(), 10).unwrap();
        assert_eq!(
            sample.since(&TreeSample::default()),
            TreeUse { run_ns: 127, wait_ns: 12, tasks: 4, tasks_vanished: 0 }
        );
        assert!(TreeSample::take_from(proc.path(), 50).is_err());
    }

    #[test]
    fn only_time_within_the_window_counts() {
        let proc = tempfile::tempdir().unwrap();
        process(proc.path(), 10, 1, &[(10, 100), (11, 20)]);
        let before = TreeSample::take_from(proc.path(), 10).unwrap();
        fs::remove_dir_all(proc.path().join("10/task/11")).unwrap();
        process(proc.path(), 10, 1, &[(10, 150), (12, 7)]);
        let after = TreeSample::take_from(proc.path(), 10).unwrap();
        assert_eq!(after.since(&before), TreeUse { run_ns: 57, wait_ns: 5, tasks: 2, tasks_vanished: 1 });
    }

    #[test]
    fn this_process_is_seen_working() {
        let pid = std::process::id();
        let before = TreeSample::take(pid).unwrap();
        let machine_before = MachineSample::take().unwrap();
        let start = Instant::now();
        let deadline = start + Duration::from_secs(30);
        let mut used = TreeUse::default();
        // Works until it shows; on a busy machine that takes longer.
        while used.run_ns < 50_000_000 && Instant::now() < deadline {
            std::hint::black_box((0..100_000_u64).fold(0, u64::wrapping_add));
            used = TreeSample::take(pid).unwrap().since(&before);
        }
        assert!(used.run_ns >= 50_000_000, "{used:?}");
        assert!(MachineSample::take().unwrap().since(&machine_before).busy_ns > 0);
    }

    #[test]
    fn the_machine_line_is_read_by_field() {
        let earlier = MachineSample::read("cpu  10 1 2 500 3 4 5 6 0 0\ncpu0 1 1\n").unwrap();
        assert_eq!(earlier, MachineSample { busy_ticks: 22, steal_ticks: 6 });
        assert!(MachineSample::read("intr 5\n").is_err());
        assert!(MachineSample::read("cpu  1 2 3\n").is_err());
    }
}
