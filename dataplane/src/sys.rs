//! All `unsafe` and all raw libc of the project. Small functions with a safe face; nothing here knows about HTTP.

#![allow(unsafe_code)]

#[cfg(debug_assertions)]
use std::alloc::{GlobalAlloc, Layout};
#[cfg(debug_assertions)]
use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Which direction of a socket is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Pending and later reads end.
    Read,
    /// Both directions end.
    Both,
}

/// shutdown(2). Wakes operations that are pending on the socket, which is how deadlines end them without dropping them.
/// Errors (already closed by the peer) are of no interest.
pub(crate) fn shutdown(fd: RawFd, side: Side) {
    let how = match side {
        Side::Read => libc::SHUT_RD,
        Side::Both => libc::SHUT_RDWR,
    };
    // SAFETY: shutdown takes no pointer; a stale descriptor gives EBADF or ENOTSOCK. Callers hold the socket that owns it.
    let _ = unsafe { libc::shutdown(fd, how) };
}

/// Tells the peer that nothing more comes (SHUT_WR, shutdown(2)).
pub(crate) fn end_writing(fd: RawFd) -> io::Result<()> {
    // SAFETY: shutdown takes no pointer; a stale descriptor gives EBADF or ENOTSOCK.
    match unsafe { libc::shutdown(fd, libc::SHUT_WR) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends a TCP connection with a reset, at once, whatever is queued: connecting to AF_UNSPEC dissolves it (connect(2)). SO_LINGER
/// would need close(2) to be the first to end it, and dropping monoio's half of a stream sends FIN before that.
pub(crate) fn reset(fd: RawFd) -> io::Result<()> {
    // SAFETY: an all-zero sockaddr is valid, and of the family AF_UNSPEC.
    let nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
    let bytes = libc::socklen_t::try_from(size_of::<libc::sockaddr>()).unwrap_or(0);
    // SAFETY: the address lives across the call and its true size is passed; a stale descriptor gives EBADF or ENOTSOCK.
    match unsafe { libc::connect(fd, &raw const nowhere, bytes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends without waiting, and holds back a last piece that does not fill a segment, so that the stream's end travels in it
/// (MSG_MORE, send(2)). Returns how many bytes the kernel took.
pub(crate) fn send_held(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_MORE | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the bytes live across the call and their true length is passed; a stale descriptor gives EBADF or ENOTSOCK.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Appends at most `bytes_max` of the bytes that have arrived, without waiting (MSG_DONTWAIT, recv(2)).
pub(crate) fn receive_now(fd: RawFd, buffer: &mut Vec<u8>, bytes_max: usize) -> io::Result<usize> {
    buffer.reserve(bytes_max);
    let length = buffer.len();
    let room = buffer.spare_capacity_mut();
    let bytes_max = bytes_max.min(room.len());
    // SAFETY: the kernel writes at most `bytes_max` bytes, which are all in the vector's spare capacity; a stale descriptor
    // gives EBADF or ENOTSOCK.
    let received = unsafe { libc::recv(fd, room.as_mut_ptr().cast(), bytes_max, libc::MSG_DONTWAIT) };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: so many bytes of the spare capacity were just written, and no more than there are.
    unsafe { buffer.set_len(length + received.min(bytes_max)) };
    Ok(received)
}

/// Memory that is about to be touched. It may be gone by then: its address is a hint and nothing else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    address: usize,
    bytes: usize,
}

impl Block {
    pub(crate) fn of<T: ?Sized>(value: &T) -> Block {
        Block { address: std::ptr::from_ref(value).addr(), bytes: size_of_val(value) }
    }

    /// Has the processor bring all its lines to the caches, and does not wait for them.
    pub(crate) fn fetch(&self) {
        let first = self.address & !(LINE_BYTES - 1);
        (first..self.address.saturating_add(self.bytes)).step_by(LINE_BYTES).for_each(prefetch);
    }
}

fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: it changes nothing that the program sees and never faults, whatever the address (Intel SDM, PREFETCHh).
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address)) };
    }
    // Elsewhere stable Rust offers none.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// A line of the processor's caches.
const LINE_BYTES: usize = 64;

/// Gives memory that this thread has freed back to the kernel, which mimalloc does by itself only while the thread allocates.
pub(crate) fn give_memory_back() {
    // SAFETY: mi_collect touches only the allocator's own memory, and mimalloc is this program's allocator.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// Keeps this process on pages of the ordinary size (PR_SET_THP_DISABLE, prctl(2)), and those that it starts, for all memory that has
/// not been touched yet.
pub(crate) fn use_small_pages() -> io::Result<()> {
    let (disable, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: no pointer is passed; the unused arguments must be 0, and are.
    match unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, disable, unused, unused, unused) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Nanoseconds on the clock that nobody sets (CLOCK_MONOTONIC, clock_gettime(2)), which is the clock of [`std::time::Instant`]. As a number: what
/// a request's times cost is mostly their subtraction.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` lives across the call, which writes it. The clock is always there, so that the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let (seconds, nanoseconds) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds)
}

/// How many received bytes nobody has read (FIONREAD, tcp(7)).
pub(crate) fn unread_bytes(fd: RawFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: `bytes` lives across the call and is what FIONREAD writes.
    match unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut bytes) } {
        0 => Ok(usize::try_from(bytes).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The error that a socket has met, once (SO_ERROR, socket(7)).
pub(crate) fn take_error(fd: RawFd) -> io::Result<Option<io::Error>> {
    // SAFETY: the descriptor is open, because its caller holds the socket that owns it, and is not kept beyond this call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    socket2::SockRef::from(&borrowed).take_error()
}

/// The descriptor of a type that lends only its number.
pub(crate) fn borrow(owner: &impl AsRawFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open, because its owner is borrowed for as long as what is returned lives.
    unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) }
}

/// The CPUs that this process may run on, in order (sched_getaffinity(2)).
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero cpu_set_t is a valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` lives across the call and its true size is passed.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let bits = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: every index is below CPU_SETSIZE.
    Ok((0..bits).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// Pins the calling thread to one CPU (sched_setaffinity(2)).
pub(crate) fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    if cpu >= usize::try_from(libc::CPU_SETSIZE).unwrap_or(0) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: an all-zero cpu_set_t is a valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpu` is below CPU_SETSIZE, checked above.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` lives across the call and its true size is passed; 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The user at the other end of a Unix socket (SO_PEERCRED, unix(7)).
pub(crate) fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut bytes = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    // SAFETY: both pointers live across the call and `bytes` is the true size of what the first points to.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut bytes,
        )
    };
    if result == 0 { Ok(credentials.uid) } else { Err(io::Error::last_os_error()) }
}

/// The effective user of this process.
pub(crate) fn own_uid() -> u32 {
    // SAFETY: geteuid always succeeds and touches no memory of ours.
    unsafe { libc::geteuid() }
}

/// The machine's host name, for the node's default name.
pub(crate) fn host_name() -> String {
    let mut name = [0_u8; 256];
    // SAFETY: the buffer's true length is passed; the result is terminated because the last byte is kept zero.
    let result = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    match name.get(..end) {
        Some(text) if result == 0 && !text.is_empty() => String::from_utf8_lossy(text).into_owned(),
        _ => "localhost".to_owned(),
    }
}

/// Raises the soft limit of open files to the hard one and returns it (getrlimit(2)).
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives across the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` lives across the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

/// Sets the mode of files this process creates; called once before threads start (umask(2)).
pub(crate) fn private_files() {
    // SAFETY: umask always succeeds and touches no memory of ours.
    unsafe { libc::umask(0o077) };
}

/// Blocks the signals that are orders in this thread and those it starts; [`wait_for_signal`] takes them.
pub(crate) fn block_signals() -> io::Result<()> {
    let set = signal_set();
    // SAFETY: `set` lives across the call; no old set is asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Waits for one of the blocked signals and returns its number (sigwait(3)).
pub(crate) fn wait_for_signal() -> io::Result<i32> {
    let set = signal_set();
    let mut signal = 0;
    // SAFETY: both pointers live across the call.
    match unsafe { libc::sigwait(&raw const set, &raw mut signal) } {
        0 => Ok(signal),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// SIGTERM, SIGINT, SIGUSR1 and SIGUSR2.
fn signal_set() -> libc::sigset_t {
    // SAFETY: sigemptyset initialises what it is given, and sigaddset takes an initialised set and valid numbers.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGUSR2] {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

/// Sends a signal to this process, so that its signal thread acts on it.
pub(crate) fn raise_signal(signal: i32) {
    // SAFETY: kill takes no pointer; the process exists because it is this one.
    unsafe { libc::kill(libc::getpid(), signal) };
}

/// Starts a program with `inherited` as its descriptor [`INHERITED_FD`] and none above; returns its process id.
///
/// posix_spawn(3) and not fork(2): the address space may be large, and copying its tables would stop the cores. All higher
/// descriptors are closed by number, because those of accepted connections are not marked close-on-exec, and a connection
/// whose descriptor had leaked would not end when it is closed here.
pub(crate) fn spawn(
    program: &CStr,
    arguments: &[CString],
    environment: &[CString],
    inherited: BorrowedFd<'_>,
) -> io::Result<i32> {
    let pointers = |texts: &[CString]| -> Vec<*mut libc::c_char> {
        texts.iter().map(|text| text.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    let mut pid = 0;
    // SAFETY: all zero is replaced by the init call before any other use; the actions are destroyed once, after the last
    // use; both lists end with a null pointer and, as the strings that they point to, live across the call.
    let code = unsafe {
        let mut actions: libc::posix_spawn_file_actions_t = std::mem::zeroed();
        let mut code = libc::posix_spawn_file_actions_init(&raw mut actions);
        if code == 0 {
            for step in [
                libc::posix_spawn_file_actions_adddup2(&raw mut actions, inherited.as_raw_fd(), INHERITED_FD),
                libc::posix_spawn_file_actions_addclosefrom_np(&raw mut actions, INHERITED_FD + 1),
            ] {
                code = if code == 0 { step } else { code };
            }
            if code == 0 {
                code = libc::posix_spawn(
                    &raw mut pid,
                    program.as_ptr(),
                    &raw const actions,
                    std::ptr::null(),
                    arguments.as_ptr(),
                    environment.as_ptr(),
                );
            }
            libc::posix_spawn_file_actions_destroy(&raw mut actions);
        }
        code
    };
    if code == 0 { Ok(pid) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// The first descriptor after the standard ones.
pub(crate) const INHERITED_FD: RawFd = 3;

/// Takes descriptors that this process was started with (3 and up), once: they close when what is returned is dropped, and are
/// not inherited further. Only those that are open sockets.
pub(crate) fn take_inherited(count: RawFd) -> Vec<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Relaxed) {
        return Vec::new();
    }
    let take = |fd: RawFd| {
        let (mut kind, mut bytes) = (0_i32, 4);
        // SAFETY: both pointers live across the call; a descriptor that is closed or no socket gives an error.
        let is_socket = unsafe {
            libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &raw mut bytes)
        } == 0;
        // SAFETY: no pointer is passed.
        if !is_socket || unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            return None;
        }
        // SAFETY: open, checked above; nobody else in this process owns what it was started with, and this is done once.
        Some(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    (INHERITED_FD..INHERITED_FD.saturating_add(count.clamp(0, INHERITED_MAX))).filter_map(take).collect()
}

/// Descriptors that a supervisor may pass.
const INHERITED_MAX: RawFd = 4_096;

/// Whether io_uring can be set up here: the error of a small trial ring (io_uring_setup(2)).
pub(crate) fn probe_io_uring() -> io::Result<()> {
    // struct io_uring_params has 120 bytes; zero asks for the defaults.
    let mut params = [0_u64; 15];
    // SAFETY: the pointer is to 120 writable bytes, which is what the kernel reads and writes.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) };
    match RawFd::try_from(fd) {
        Ok(fd) if fd >= 0 => {
            // SAFETY: the descriptor was just made and nobody else has it.
            drop(unsafe { File::from_raw_fd(fd) });
            Ok(())
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// The program's allocator in builds that are tested: counts what each thread asks for.
#[cfg(debug_assertions)]
pub(crate) struct CountingAllocator;

#[cfg(debug_assertions)]
thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// How often this thread has asked for memory.
#[cfg(debug_assertions)]
pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.get()
}

#[cfg(debug_assertions)]
fn count_allocation() {
    // A cell that is initialised by a constant and never dropped can be reached at any time and allocates nothing.
    ALLOCATIONS.set(ALLOCATIONS.get().wrapping_add(1));
}

// SAFETY: every call is passed on unchanged, and what mimalloc promises is what is promised here.
#[cfg(debug_assertions)]
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_allocation();
        // SAFETY: the caller keeps the same promises.
        unsafe { mimalloc::MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_allocation();
        // SAFETY: the caller keeps the same promises.
        unsafe { mimalloc::MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count_allocation();
        // SAFETY: the caller keeps the same promises.
        unsafe { mimalloc::MiMalloc.realloc(block, layout, bytes) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the same promises.
        unsafe { mimalloc::MiMalloc.dealloc(block, layout) }
    }
}
