//! Receivers whose machine is gone: no FIN, no reset, no answer, as when a cable is pulled.
//!
//! Why: every other end of a connection is told by somebody. This one only the forwarder's own timers notice.
//! Invariants: 1. the test has network namespaces of its own, one for the forwarder and one for the receiver, with a
//! cable between them; nothing of it is seen outside.   Bounds: [`PATIENCE`], and `syslog.timeout` within it.
//! Needs root and `ip`; without them it is skipped, and fails where `CI=true`.

use std::net::TcpListener;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::listener::Listener;
use crate::rig::PATIENCE;
use crate::syslog::{forwarder, rig, url};

/// The receiver's end of the cable, and the forwarder's.
const HERE: &str = "10.213.0.1/30";
const THERE: &str = "10.213.0.2/30";

const ADDRESS: &str = "02:00:00:00:00:02";

/// The machine of the receiver: a thread in a network of its own that runs commands there.
struct Machine {
    orders: Sender<Vec<&'static str>>,
    done: Receiver<()>,
}

impl Machine {
    /// A cable from this thread's network to a new one, and a socket that listens at its far end.
    fn connect() -> (Self, TcpListener) {
        let (orders, inbox) = channel::<Vec<&'static str>>();
        let (say_task, task) = channel();
        let (say_listener, listener) = channel();
        let (say_done, done) = channel();
        thread::spawn(move || {
            own_network().expect("root may");
            say_task.send(task_id()).unwrap();
            for order in inbox {
                if order.is_empty() {
                    say_listener.send(TcpListener::bind("10.213.0.2:0").unwrap()).unwrap();
                } else {
                    ip(&order);
                }
                let _ = say_done.send(());
            }
        });
        let machine = Self { orders, done };
        let task = task.recv().unwrap();
        ip(&["link", "add", "here", "type", "veth", "peer", "name", "there"]);
        ip(&["link", "set", "there", "address", ADDRESS]);
        ip(&["link", "set", "there", "netns", &task.to_string()]);
        ip(&["addr", "add", HERE, "dev", "here"]);
        ip(&["link", "set", "here", "up"]);
        // A router in between would hide that nobody answers for the address.
        ip(&["neigh", "add", "10.213.0.2", "lladdr", ADDRESS, "nud", "permanent", "dev", "here"]);
        machine.run(vec!["addr", "add", THERE, "dev", "there"]);
        machine.run(vec!["link", "set", "there", "up"]);
        machine.run(Vec::new());
        (machine, listener.recv().unwrap())
    }

    fn run(&self, order: Vec<&'static str>) {
        self.orders.send(order).unwrap();
        self.done.recv_timeout(PATIENCE).unwrap();
    }
}

/// This thread, and what it starts, in a network with nothing in it.
fn own_network() -> std::io::Result<()> {
    #[expect(unsafe_code, reason = "unshare is not in std")]
    // SAFETY: the call takes an integer; it changes this thread's view of the network only.
    let answer = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn task_id() -> i32 {
    #[expect(unsafe_code, reason = "gettid is not in std")]
    // SAFETY: the call has no preconditions.
    unsafe {
        libc::gettid()
    }
}

fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).status().expect("iproute2 is installed");
    assert!(done.success(), "ip {arguments:?}");
}

/// Runs a test in a network of its own, where that is possible.
#[expect(clippy::print_stdout, reason = "what is skipped is printed")]
fn in_own_network(test: impl FnOnce() + Send + 'static) {
    let possible = Command::new("ip").arg("-V").output().is_ok();
    let ran = thread::spawn(move || {
        if !possible || own_network().is_err() {
            return false;
        }
        ip(&["link", "set", "lo", "up"]);
        test();
        true
    });
    let ran = ran.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    if !ran {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "root and ip are missing");
        println!("skipped: it takes root and ip to make a network");
    }
}

/// The cable is pulled while logs flow, and plugged in again much later.
fn the_cable_is_pulled(scheme: &'static str, ack: &'static str) {
    in_own_network(move || {
        let mut rig = rig(500);
        let (machine, socket) = Machine::connect();
        let mut listener = Listener::on(socket, scheme == "relp", &[]);
        let endpoints = [url(scheme, &listener)];
        let mut start = forwarder(&rig, &endpoints).set("syslog.timeout", "20s");
        if scheme == "tcp" {
            start = start.set("syslog.ack", ack);
        }
        let mut forwarder = start.start();
        forwarder.wait_until("it flows", PATIENCE, || listener.unique() == rig.total());
        machine.run(vec!["link", "set", "there", "down"]);
        rig.fill(500);
        // A connection that worked may end without a word; that no other can be made is told.
        forwarder.line(&[
            " WARN ",
            &format!("syslog {scheme}://10.213.0.2:"),
            "no answer within",
            "nothing lost",
        ]);
        assert!(!rig.is_drained(), "what nobody has is not behind a checkpoint");
        let beats = rig.sls.stats().heartbeats;
        forwarder.wait_until("heartbeats go on", PATIENCE, || rig.sls.stats().heartbeats > beats + 2);
        machine.run(vec!["link", "set", "there", "up"]);
        forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
        forwarder.wait_until("everything read", PATIENCE, || listener.unique() == rig.total());
        forwarder.stop();
        rig.assert_commits();
    });
}

#[test]
fn a_draining_stream_survives_a_pulled_cable() {
    the_cable_is_pulled("tcp", "drain");
}

#[test]
fn a_kernel_stream_survives_a_pulled_cable() {
    the_cable_is_pulled("tcp", "kernel");
}

#[test]
fn relp_survives_a_pulled_cable() {
    the_cable_is_pulled("relp", "");
}
