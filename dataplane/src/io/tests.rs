//! Deadlines by the clock's arithmetic, and a storm of them on a real ring.
//!
//! The storm has its own runtime and peers that are plain threads. What it counts is exact: each byte sent is received
//! whatever expired meanwhile, each descriptor comes back, and nothing expires before its time.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream as Peer};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use ringway_engine::upstream::Address;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);
/// Sockets at a time, and how often so many.
const SOCKETS: usize = 1_000;
const ROUNDS: usize = 10;

fn watched(deadlines: &Deadlines, wait: Duration) -> (Watching, std::os::unix::net::UnixStream) {
    let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
    let watching = Watch::start(near.as_raw_fd(), Side::Read);
    watching.0.read_due.set(deadlines.due_in(wait));
    deadlines.register(&watching.0);
    (watching, near)
}

#[test]
fn a_deadline_set_while_the_loop_stood_still_is_not_early() {
    let start = Instant::now();
    for late_ms in [0, 50, 99, 100, 150, 199, 200, 250, 299, 300, 399, 1_000, 60_000] {
        let deadlines = Deadlines::new(start);
        // The loop has not turned for so long when the wait begins.
        let set = start + Duration::from_millis(late_ms);
        let (watching, _socket) = watched(&deadlines, Duration::from_millis(200));
        let mut now = set;
        while !watching.0.read_expired.get() {
            deadlines.turn(now);
            now += Duration::from_millis(7);
            assert!(now < set + Duration::from_secs(2), "never, after {late_ms} ms");
        }
        let passed = now - Duration::from_millis(7) - set;
        assert!(passed >= Duration::from_millis(200), "after {late_ms} ms already at {passed:?}");
        assert!(passed <= Duration::from_millis(200) + 4 * TICK, "after {late_ms} ms only at {passed:?}");
    }
}

#[test]
fn long_waits_go_round_the_wheel_and_a_moved_deadline_counts() {
    let start = Instant::now();
    let deadlines = Deadlines::new(start);
    let (long, _socket) = watched(&deadlines, Duration::from_secs(60));
    let (shortened, _socket2) = watched(&deadlines, Duration::from_secs(60));
    let (gone, gone_socket) = watched(&deadlines, Duration::from_secs(1));
    let gone_watch = Rc::clone(&gone.0);
    drop((gone, gone_socket));
    let expired_s = |watching: &Watching, now: Instant, at: &mut Option<u64>| {
        if watching.0.read_expired.get() && at.is_none() {
            *at = Some((now - start).as_secs());
        }
    };
    let (mut long_at, mut shortened_at) = (None, None);
    for turn in 0..700 {
        let now = start + TICK * turn;
        deadlines.turn(now);
        if turn == 100 {
            shortened.0.read_due.set(deadlines.due_in(Duration::from_secs(1)));
            deadlines.register(&shortened.0);
        }
        expired_s(&long, now, &mut long_at);
        expired_s(&shortened, now, &mut shortened_at);
    }
    assert_eq!((long_at, shortened_at), (Some(60), Some(11)));
    assert!(!gone_watch.read_expired.get(), "the deadline of a socket that is gone");
    assert_eq!(Rc::strong_count(&long.0), 1, "nothing is left in the wheel");
}

/// One at a time, because each counts the descriptors of the process.
static ONE_RING: Mutex<()> = Mutex::new(());

/// Runs on a ring of its own, with deadlines that turn.
fn on_a_ring<F: Future<Output = ()>>(test: impl FnOnce(Rc<Deadlines>) -> F) {
    let _only = ONE_RING.lock().unwrap_or_else(PoisonError::into_inner);
    sys::raise_open_files().unwrap();
    let before = open_descriptors();
    crate::worker::uring().unwrap().block_on(async {
        let deadlines = Rc::new(Deadlines::new(Instant::now()));
        let turning = Rc::clone(&deadlines);
        monoio::spawn(async move {
            loop {
                monoio::time::sleep(TICK).await;
                turning.turn(Instant::now());
            }
        });
        let own = open_descriptors();
        test(deadlines).await;
        let began = Instant::now();
        // Other tests of this process open and close files at the same time.
        while open_descriptors() > own.max(before) {
            assert!(began.elapsed() < PATIENCE, "{} descriptors, {own} before", open_descriptors());
            monoio::time::sleep(TICK).await;
        }
    });
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn pair(listener: &TcpListener, deadlines: &Rc<Deadlines>) -> (Socket, Peer) {
    let peer = Peer::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    accepted.set_nonblocking(true).unwrap();
    (Socket::downstream(TcpStream::from_std(accepted).unwrap(), deadlines), peer)
}

fn buffer() -> Vec<u8> {
    Vec::with_capacity(4_096)
}

/// The bytes that a peer sends, by their place.
fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

/// Reads until everything was sent and nothing is left, through as many deadlines as there are.
async fn read_all(
    mut socket: Socket,
    number: usize,
    sent: Arc<AtomicBool>,
    expired: Rc<Cell<usize>>,
) -> usize {
    let mut received = 0;
    let mut expirations = 0;
    loop {
        let all_sent = sent.load(SeqCst);
        let wait = Duration::from_millis(((number * 37 + received) % 400) as u64);
        let began = Instant::now();
        // An earlier read may have got bytes just when its time was over; then this one does not wait.
        let is_over = socket.reader.has_expired();
        let read = socket.reader.read(buffer(), wait).await;
        match read.result {
            Ok(0) => panic!("an end that nobody sent"),
            Ok(bytes) => {
                assert_eq!(bytes, read.buffer.len());
                for (n, found) in read.buffer.iter().enumerate() {
                    assert_eq!(*found, byte(received + n), "socket {number} at {}", received + n);
                }
                received += bytes;
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
                assert!(read.buffer.is_empty(), "an expired read with bytes");
                let passed = began.elapsed();
                assert!(is_over || passed >= wait, "early: {passed:?} of {wait:?}");
                if expirations == 0 {
                    expired.set(expired.get() + 1);
                }
                expirations += 1;
                if all_sent {
                    return received;
                }
                monoio::time::sleep(TICK).await;
            }
        }
    }
}

#[test]
fn ten_thousand_deadlines_expire_while_data_arrives_and_no_byte_is_lost() {
    on_a_ring(async |deadlines| {
        let expired = Rc::new(Cell::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for _ in 0..ROUNDS {
            let sent = Arc::new(AtomicBool::new(false));
            let (mut readers, mut peers) = (Vec::new(), Vec::new());
            for number in 0..SOCKETS {
                let (socket, peer) = pair(&listener, &deadlines);
                peers.push(peer);
                let reading = read_all(socket, number, Arc::clone(&sent), Rc::clone(&expired));
                readers.push(monoio::spawn(reading));
            }
            let told = Arc::clone(&sent);
            let sending = std::thread::spawn(move || {
                let mut totals = vec![0; SOCKETS];
                for piece in 0..6 {
                    for (number, peer) in peers.iter_mut().enumerate() {
                        let length = (number * 13 + piece * 7) % 97;
                        let bytes: Vec<u8> = (0..length).map(|n| byte(totals[number] + n)).collect();
                        peer.write_all(&bytes).unwrap();
                        totals[number] += length;
                    }
                    // Spread over the time in which the deadlines lie.
                    std::thread::sleep(Duration::from_millis(90));
                }
                told.store(true, SeqCst);
                (totals, peers)
            });
            let mut received = Vec::new();
            for reader in readers {
                received.push(reader.await);
            }
            let (totals, peers) = sending.join().unwrap();
            assert_eq!(received, totals);
            drop(peers);
        }
        assert_eq!(expired.get(), SOCKETS * ROUNDS);
    });
}

#[test]
fn writes_to_peers_that_do_not_read_expire_and_say_what_was_taken() {
    on_a_ring(async |deadlines| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut writers = Vec::new();
        for _ in 0..50 {
            let (mut socket, peer) = pair(&listener, &deadlines);
            writers.push(monoio::spawn(async move {
                let began = Instant::now();
                let wait = Duration::from_millis(300);
                let written = socket.writer.write_all(vec![b'x'; 16 << 20], 0..16 << 20, wait).await;
                assert_eq!(written.result.unwrap_err().kind(), io::ErrorKind::TimedOut);
                assert!(began.elapsed() >= wait && written.bytes < 16 << 20);
                (written.bytes, peer)
            }));
        }
        for writer in writers {
            let (taken, mut peer) = writer.await;
            let mut received = Vec::new();
            peer.read_to_end(&mut received).unwrap();
            assert_eq!(received.len(), taken);
        }
    });
}

#[test]
fn connects_that_nobody_answers_expire() {
    on_a_ring(async |deadlines| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        // Room for one connection that nobody accepts; the others' SYNs are dropped (listen(2)).
        socket.listen(0).unwrap();
        let address = Address::Tcp(socket.local_addr().unwrap().as_socket().unwrap());
        let connects: Vec<_> = (0..100)
            .map(|_| {
                let (deadlines, address) = (Rc::clone(&deadlines), address.clone());
                monoio::spawn(async move {
                    let began = Instant::now();
                    let wait = Duration::from_millis(300);
                    let result = Socket::connect(&address, wait, &deadlines).await;
                    (result, began.elapsed() >= wait)
                })
            })
            .collect();
        let (mut made, mut expired) = (Vec::new(), 0);
        for connect in connects {
            match connect.await {
                (Ok(socket), _) => made.push(socket),
                (Err(error), in_time) => {
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
                    assert!(in_time, "early");
                    expired += 1;
                }
            }
        }
        assert!(expired >= 90, "{expired} expired, {} were made", made.len());
    });
}

#[test]
fn a_refused_connect_says_so_at_once() {
    on_a_ring(async |deadlines| {
        let address = Address::Tcp(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        for _ in 0..100 {
            let error = Socket::connect(&address, PATIENCE, &deadlines).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    });
}

/// A socket that has room for one connection, which nobody accepts, and no more.
fn full_queue(folder: &tempfile::TempDir) -> (Address, UnixListener, Vec<std::os::unix::net::UnixStream>) {
    let path = folder.path().join("app.sock");
    let raw = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    raw.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    raw.listen(0).unwrap();
    let first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let address = format!("unix:{}", path.display()).parse().unwrap();
    (address, std::os::fd::OwnedFd::from(raw).into(), vec![first])
}

#[test]
fn a_full_queue_of_a_unix_socket_is_waited_for_and_no_longer_than_told() {
    on_a_ring(async |deadlines| {
        let folder = tempfile::tempdir().unwrap();
        let (address, listener, _held) = full_queue(&folder);
        let began = Instant::now();
        let wait = Duration::from_millis(300);
        let error = Socket::connect(&address, wait, &deadlines).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert!(began.elapsed() >= wait, "early");
        let mut connect = std::pin::pin!(Socket::connect(&address, PATIENCE, &deadlines));
        let waits = poll_fn(|context| Poll::Ready(connect.as_mut().poll(context).is_pending())).await;
        assert!(waits, "the queue is full");
        drop(listener.accept().unwrap());
        connect.await.unwrap();
    });
}

#[test]
fn a_unix_socket_that_is_not_there_or_refuses_says_so_at_once() {
    on_a_ring(async |deadlines| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let address: Address = format!("unix:{}", path.display()).parse().unwrap();
        let kind = async || Socket::connect(&address, PATIENCE, &deadlines).await.unwrap_err().kind();
        assert_eq!(kind().await, io::ErrorKind::NotFound);
        drop(UnixListener::bind(&path).unwrap());
        assert_eq!(kind().await, io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_read_over_a_unix_socket_expires_and_loses_nothing() {
    on_a_ring(async |deadlines| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let address: Address = format!("unix:{}", path.display()).parse().unwrap();
        let mut socket = Socket::connect(&address, PATIENCE, &deadlines).await.unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let written = socket.writer.write_all(b"hello".to_vec(), 0..5, PATIENCE).await;
        written.result.unwrap();
        let mut got = [0; 5];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        peer.write_all(b"back").unwrap();
        let read = socket.reader.read(buffer(), PATIENCE).await;
        assert_eq!((read.result.unwrap(), read.buffer.as_slice()), (4, &b"back"[..]));
        socket.reader.begin_soon(buffer());
        let read = socket.reader.finish_unhurried().await;
        assert_eq!(read.result.unwrap_err().kind(), io::ErrorKind::Interrupted);
        peer.write_all(b"more").unwrap();
        let read = socket.reader.read(buffer(), PATIENCE).await;
        assert_eq!((read.result.unwrap(), read.buffer.as_slice()), (4, &b"more"[..]));
        let read = socket.reader.read(buffer(), Duration::from_millis(200)).await;
        assert_eq!(read.result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    });
}

#[test]
fn a_socket_that_is_dropped_while_it_reads_gives_its_descriptor_back_and_tells_its_peer() {
    on_a_ring(async |deadlines| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peers = Vec::new();
        for number in 0..500 {
            let (mut socket, peer) = pair(&listener, &deadlines);
            socket.reader.arm(buffer());
            match number % 3 {
                0 => assert!(!socket.reader.is_ready()),
                1 => socket.clock().read_within(Duration::from_millis(number)),
                _ => socket.reset().unwrap(),
            }
            drop(socket);
            peers.push((number, peer));
        }
        // Until the loop has turned, the descriptors are closed by nobody.
        monoio::time::sleep(3 * TICK).await;
        for (number, mut peer) in peers {
            peer.set_read_timeout(Some(PATIENCE)).unwrap();
            let end = peer.read(&mut [0]).map_err(|error| error.kind());
            let expected = if number % 3 == 2 { Err(io::ErrorKind::ConnectionReset) } else { Ok(0) };
            assert_eq!(end, expected, "{number}");
        }
    });
}

#[test]
fn a_deadline_is_shortened_and_extended_while_a_read_waits() {
    on_a_ring(async |deadlines| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut socket, _peer) = pair(&listener, &deadlines);
        let (clock, began) = (socket.clock(), Instant::now());
        monoio::spawn(async move {
            monoio::time::sleep(TICK).await;
            clock.read_within(Duration::from_millis(200));
            monoio::time::sleep(TICK).await;
            clock.extend(Duration::from_millis(500));
        });
        let read = socket.reader.read(buffer(), Duration::from_secs(3600)).await;
        assert_eq!(read.result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= Duration::from_millis(700) && began.elapsed() < PATIENCE);
    });
}

#[test]
fn an_end_that_a_given_up_write_made_is_not_the_peer_s() {
    on_a_ring(async |deadlines| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut socket, _peer) = pair(&listener, &deadlines);
        socket.reader.arm(buffer());
        let written = socket.writer.write_all(vec![0; 16 << 20], 0..16 << 20, TICK).await;
        assert_eq!(written.result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let read = socket.reader.finish_unhurried().await;
        assert_eq!(read.result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    });
}

fn bytes_of<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn an_idle_connection_holds_little_of_its_socket() {
    let held = [
        ("what its deadlines and its read share", size_of::<Watch>(), 96),
        ("its socket", size_of::<Socket>(), 104),
        ("its read", bytes_of(slow_pump::<OwnedReadHalf<TcpStream>>), 256),
    ];
    for (what, bytes, bytes_max) in held {
        assert!(bytes <= bytes_max, "{what}: {bytes} bytes, more than {bytes_max}");
    }
}
