//! Executors whose process is stopped and continued, that stand still for good, that print into a slow pipe.
//!
//! glommio 0.9.0 parks for ever when its thread does not run for longer than the preempt timer (glommio/glommio#53);
//! the guards in `drive` are tested here with real signals. Each case runs in a child process: this binary itself,
//! with the case named in the environment. `STALL_SECONDS=600` makes the storm longer.
//! Hosts that refuse io_uring are made in the same way.
#![expect(unsafe_code, reason = "signals, limits and a system call filter")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test says what it needs by failing")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use sls2siem::drive::{Core, Executors, PipelineId, PipelineSpec, StartSpec, TargetSpec, clock, start};
use sls2siem::proto::counters::{Counters, ShardGauge};
use sls2siem::proto::event::{Action, Closed, Command, Ledger, Report, To};
use sls2siem::proto::ids::{ConnId, EndpointId, RouteId};
use sls2siem::proto::time::{Instant, UnixTime};

const CASE: &str = "DRIVE_STALLS_CASE";
const CONN: ConnId = ConnId(1);
/// Small enough that the executor parks all the time.
const PING_BYTES: usize = 4_096;
const LINE: &[u8] = b"one line of output that is written whole or not at all, never in two pieces\n";
const LINES_PER_FRAME: usize = 1_000;
const FRAMES: usize = 40;

/// Plays ping-pong over TCP, or prints frames; blocks for good when it gets a command.
struct Mover {
    actions: Vec<Action>,
    chunk: Vec<u8>,
    ready: bool,
    at: usize,
    owed: usize,
    frames: usize,
    progress: Arc<AtomicU64>,
    counters: Counters,
}

impl Core for Mover {
    fn handle_command(&mut self, _: Instant, _: Command) {
        loop {
            // SAFETY: no descriptors are passed, so the null pointer is not read.
            let _ = unsafe { libc::poll(std::ptr::null_mut(), 0, 1_000) };
        }
    }

    fn handle_connected(&mut self, _: Instant, conn: ConnId) {
        self.ready = true;
        self.actions.push(Action::Transmit(conn));
    }

    fn handle_received(&mut self, _: Instant, conn: ConnId, bytes: &[u8]) {
        self.owed -= bytes.len();
        if self.owed == 0 {
            self.progress.fetch_add(1, Ordering::Relaxed);
            self.at = 0;
            self.actions.push(Action::Transmit(conn));
        }
    }

    fn handle_transmitted(&mut self, _: Instant, _: ConnId, bytes: usize) {
        self.at += bytes;
        self.owed += bytes;
        if self.frames > 0 && self.at == self.chunk.len() {
            self.progress.fetch_add(bytes as u64, Ordering::Relaxed);
            self.frames -= 1;
            self.at = 0;
            self.ready = self.frames > 0;
        }
    }

    fn handle_finished(&mut self, _: Instant, _: ConnId) {}

    fn handle_ledger(&mut self, _: Instant, _: ConnId, _: Ledger) {}

    fn handle_closed(&mut self, _: Instant, _: ConnId, why: Closed) {
        eprintln!("closed: {why:?}");
        std::process::exit(9);
    }

    fn handle_routes(&mut self, _: Instant, _: EndpointId, routes: Result<Vec<RouteId>, String>) {
        self.actions.push(Action::Connect { conn: CONN, to: To::Sink(routes.unwrap()[0]) });
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn handle_wall_clock(&mut self, _: Instant, _: UnixTime) {}

    fn handle_credit(&mut self, _: Instant) {}

    fn poll_transmit(&mut self, _: Instant, _: ConnId) -> Option<&[u8]> {
        let rest = &self.chunk[self.at..];
        (self.ready && !rest.is_empty()).then_some(rest)
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop()
    }

    fn poll_report(&mut self) -> Option<Report> {
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn for_each_shard(&self, _: Instant, _: &mut dyn FnMut(ShardGauge)) {}

    fn is_stopped(&self) -> bool {
        false
    }
}

fn executors(
    address: SocketAddr,
    abort_after: Duration,
    first: Action,
    chunk: Vec<u8>,
    frames: usize,
) -> (Executors, Arc<AtomicU64>) {
    let executors = start(&StartSpec { cores: vec![0], memory_bytes: 1 << 20, abort_after }).unwrap();
    let progress = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&progress);
    let make = move |_| {
        let (actions, counters) = (vec![first], Counters::default());
        let mover = Mover { actions, chunk, ready: false, at: 0, owed: 0, frames, progress: shown, counters };
        Box::new(mover) as Box<dyn Core>
    };
    let target = TargetSpec::plain(address.ip().to_string(), address.port(), Duration::from_secs(30));
    let spec = PipelineSpec {
        id: PipelineId(0),
        make: Box::new(make),
        source: target.clone(),
        endpoints: vec![target],
        reports: channel().0,
        dead_letter: None,
    };
    executors.open(0, spec).unwrap();
    (executors, progress)
}

/// Runs in the child only; the parent's run of it does nothing.
#[test]
fn child() {
    let Ok(case) = std::env::var(CASE) else { return };
    let (name, address) = case.split_once(' ').unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let resolve = Action::Resolve(EndpointId(0));
    match name {
        "storm" => {
            let abort_after = Duration::from_secs(10);
            let (executors, _) = executors(address, abort_after, resolve, vec![7; PING_BYTES], 0);
            // Ends when the parent closes its side.
            let _ = std::io::stdin().read(&mut [0; 1]);
            println!("nudges {}", executors.nudges());
        }
        "stuck" => {
            let (executors, _) = executors(address, Duration::from_secs(3), resolve, vec![7; PING_BYTES], 0);
            executors.command(0, PipelineId(0), Command::Stop).unwrap();
            pause(Duration::from_mins(1));
        }
        "print" => {
            println!("BEGIN");
            let (chunk, first) =
                (LINE.repeat(LINES_PER_FRAME), Action::Connect { conn: CONN, to: To::Stdout });
            let (executors, progress) = executors(address, Duration::from_secs(10), first, chunk, FRAMES);
            pause(Duration::from_millis(700));
            eprintln!("while nobody reads {}", progress.load(Ordering::Relaxed));
            let all = (LINE.len() * LINES_PER_FRAME * FRAMES) as u64;
            while progress.load(Ordering::Relaxed) < all {
                pause(Duration::from_millis(5));
            }
            executors.shutdown(Duration::from_secs(5)).unwrap();
            println!("END");
        }
        "seccomp" => {
            forbid_io_uring();
            println!("{}", refusal());
        }
        "memlock" => {
            let low = libc::rlimit { rlim_cur: 65_536, rlim_max: 65_536 };
            // SAFETY: `low` is a valid rlimit of this frame.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const low) }, 0);
            // Root could raise it again. SAFETY: only an integer is passed.
            let _ = unsafe { libc::setuid(65_534) };
            println!("{}", refusal());
        }
        other => unreachable!("{other}"),
    }
    std::process::exit(0);
}

#[test]
fn data_flows_on_after_a_storm_of_stops() {
    let (address, pings) = ping_server();
    let mut child = spawn("storm", address);
    let id = libc::pid_t::try_from(child.id()).unwrap();
    wait_for_progress(&pings, Duration::from_secs(20));
    let seconds = std::env::var("STALL_SECONDS").map_or(20, |text| text.parse().unwrap());
    let (began, mut stops, mut longest) = (clock::now(), 0_u64, Duration::ZERO);
    while clock::now().since(began) < Duration::from_secs(seconds) {
        signal(id, libc::SIGSTOP);
        pause(Duration::from_millis(130));
        signal(id, libc::SIGCONT);
        stops += 1;
        longest = longest.max(wait_for_progress(&pings, Duration::from_secs(30)));
        // Out of step with every timer.
        pause(Duration::from_micros(stops * 7_919 % 40_000));
    }
    let before = pings.load(Ordering::Relaxed);
    pause(Duration::from_secs(1));
    let after = pings.load(Ordering::Relaxed) - before;
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!(
        "{stops} stops, longest pause after one {longest:?}, {after} pings/s at the end, child said {text:?}"
    );
    assert!(output.status.success(), "{:?} {}", output.status, String::from_utf8_lossy(&output.stderr));
    assert!(after > 100, "{after} pings in the last second");
    assert!(longest < Duration::from_secs(1), "after one stop nothing moved for {longest:?}");
    // The watchdog stood still as well: it has nobody to blame.
    assert!(text.contains("nudges 0"), "{text}");
}

#[test]
fn an_executor_that_is_stuck_ends_the_process() {
    let (address, _) = ping_server();
    let began = clock::now();
    let output = spawn("stuck", address).wait_with_output().unwrap();
    let took = clock::now().since(began);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("executor s2s-core0 stood still for 3"), "{text}");
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn frames_on_stdout_count_when_they_are_written() {
    let (address, _) = ping_server();
    let mut child = spawn("print", address);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    // The pipe is full after 64 KiB, so not even the first frame is written.
    let mut line = String::new();
    while !line.starts_with("while nobody reads") {
        line.clear();
        assert!(errors.read_line(&mut line).unwrap() > 0, "the child said nothing");
    }
    assert_eq!(line.trim(), "while nobody reads 0");
    line.clear();
    while !line.trim().ends_with("BEGIN") {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0);
    }
    for number in 0..LINES_PER_FRAME * FRAMES {
        line.clear();
        output.read_line(&mut line).unwrap();
        assert_eq!(line.as_bytes(), LINE, "line {number}");
    }
    line.clear();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "END\n");
    assert!(child.wait().unwrap().success());
}

/// Why executors cannot be started here.
fn refusal() -> String {
    let spec = StartSpec { cores: vec![0, 0], memory_bytes: 1 << 20, abort_after: Duration::from_mins(1) };
    start(&spec).unwrap_err().to_string()
}

/// What the default seccomp profile of Docker does: EPERM for the three system calls of io_uring (425 to 427).
fn forbid_io_uring() {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 2, 425),
        step(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 1, 0, 427),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | 1),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 5, filter: filter.as_mut_ptr() };
    // SAFETY: only integers are passed.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: `program` and the filter that it points to live until the call is done; the kernel copies them.
    let answer = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_seccomp_filter_is_named() {
    let (address, _) = ping_server();
    let output = spawn("seccomp", address).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for part in
        ["io_uring_setup is forbidden by a seccomp filter", "--security-opt seccomp=", "SystemCallFilter="]
    {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn too_little_locked_memory_is_named_with_numbers() {
    let (address, _) = ping_server();
    let output = spawn("memlock", address).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for part in ["limited to 64 KiB", "2 executor(s) need 1024 KiB", "ulimit -l 1024", "LimitMEMLOCK=1024K"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

/// Echoes whole pings for the first connection and counts them.
fn ping_server() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let pings = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&pings);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut ping = vec![0; PING_BYTES];
        while stream.read_exact(&mut ping).is_ok() && stream.write_all(&ping).is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (address, pings)
}

/// How long it took until another ping came.
fn wait_for_progress(pings: &AtomicU64, patience: Duration) -> Duration {
    let (before, began) = (pings.load(Ordering::Relaxed), clock::now());
    while pings.load(Ordering::Relaxed) < before + 2 {
        assert!(clock::now().since(began) < patience, "parked for ever: no ping within {patience:?}");
        pause(Duration::from_millis(1));
    }
    clock::now().since(began)
}

fn spawn(name: &str, address: SocketAddr) -> Child {
    Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CASE, format!("{name} {address}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn signal(id: libc::pid_t, signal: libc::c_int) {
    // SAFETY: only integers are passed; `id` is our own child, which has not been waited for.
    let answer = unsafe { libc::kill(id, signal) };
    assert_eq!(answer, 0);
}

fn pause(time: Duration) {
    let until = clock::now() + time;
    while clock::now() < until {
        std::thread::park_timeout(until.since(clock::now()));
    }
}
