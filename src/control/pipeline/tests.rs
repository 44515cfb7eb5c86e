//! A whole control thread between a made-up SLS and made-up executors.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::config::{CredentialsConfig, Keys};
use crate::metrics::{Info, Registry};
use crate::proto::event::{Closed, ClosedKind, HecAnswer};
use crate::proto::ids::{Cursor, EndpointId, Epoch};
use crate::proto::sls::api::CursorFrom;
use crate::proto::sls::api::answer::Group;
use crate::proto::sls::lease::OnExpired;
use crate::report;

struct Bench {
    control: Control,
    commands: Receiver<(usize, Command)>,
    calls: Receiver<Call>,
    placement: Arc<Placement>,
}

const SHARDS: [ShardId; 2] = [ShardId(0), ShardId(1)];

fn params() -> Params {
    Params {
        group: "g".into(),
        heartbeat_interval: Duration::from_millis(20),
        timeout: Duration::from_secs(2),
        in_order: false,
        start: CursorFrom::Begin,
        began: UnixTime::from_secs(0),
        stop: None,
        checkpoint_interval: Duration::from_millis(5),
        on_expired_cursor: OnExpired::Begin,
        fail_fast: false,
        drain_wait: Duration::from_secs(2),
        stop_wait: Duration::from_secs(5),
        calls_max: WORK_CALLERS,
        seed: 1,
    }
}

fn serve(call: &Call) -> Reply {
    match call {
        Call::ListGroups => Reply::Groups(vec![Group { name: "g".into(), timeout_secs: 2, order: false }]),
        Call::Heartbeat { .. } => Reply::Shards(SHARDS.to_vec()),
        Call::GetCheckpoint { .. } => Reply::Checkpoint(Some(Cursor::new("c0"))),
        Call::GetCursor { .. } => Reply::Cursor(Cursor::new("begin")),
        Call::GetCursorTime { .. } => Reply::CursorTime(1),
        _ => Reply::Done,
    }
}

fn bench(
    params: Params,
    answer: impl Fn(&Call) -> Result<Reply, CallError> + Send + Sync + 'static,
    alive: impl Fn(usize) -> bool + Send + 'static,
) -> Bench {
    let (command_sender, commands) = mpsc::channel();
    let (call_sender, calls) = mpsc::channel();
    let placement = Arc::new(Placement::new(vec![0, 1], &[]).unwrap());
    let keys = Keys {
        access_key_id: "id".into(),
        access_key_secret: "secret".to_owned().into(),
        security_token: None,
    };
    let spec = ControlSpec {
        place: Place { pipeline: "p".into(), ..Place::default() },
        lease: params,
        credentials: CredentialsSource::new(&CredentialsConfig::Static(keys)),
        call: Arc::new(move |call, credentials| {
            assert_eq!(credentials.access_key_id, "id");
            let _gone = call_sender.send(call.clone());
            answer(call)
        }),
        command: Box::new(move |executor, command| {
            let _gone = command_sender.send((executor, command));
            alive(executor)
        }),
        placement: Arc::clone(&placement),
        publisher: Registry::new(Info::default()).publisher(),
    };
    Bench { control: Control::start(spec).unwrap(), commands, calls, placement }
}

impl Bench {
    /// The next command that is not about keys.
    fn command(&self) -> (usize, Command) {
        loop {
            let (executor, command) = self.commands.recv_timeout(Duration::from_secs(5)).unwrap();
            if !matches!(command, Command::Credentials(_) | Command::Lease { .. }) {
                return (executor, command);
            }
        }
    }

    /// Waits for both assignments: shard → (executor, epoch).
    fn assigned(&self) -> BTreeMap<ShardId, (usize, Epoch)> {
        let one = |_| match self.command() {
            (executor, Command::Assign { shard, epoch, .. }) => (shard, (executor, epoch)),
            other => panic!("{other:?}"),
        };
        SHARDS.iter().map(one).collect()
    }

    fn wait_for(&self, wanted: impl Fn(&Call) -> bool) -> Call {
        loop {
            let call = self.calls.recv_timeout(Duration::from_secs(5)).unwrap();
            if wanted(&call) {
                return call;
            }
        }
    }
}

#[test]
fn shards_are_spread_worked_on_saved_and_handed_back() {
    let bench = bench(params(), |call| Ok(serve(call)), |_| true);
    let keys: Vec<_> = bench.commands.iter().take(2).collect();
    assert!(keys.iter().all(|(_, command)| matches!(command, Command::Credentials(_))), "{keys:?}");
    let assigned = bench.assigned();
    let executors: BTreeSet<usize> = assigned.values().map(|(executor, _)| *executor).collect();
    assert_eq!(executors.len(), 2, "one shard on each executor");
    assert_eq!(bench.placement.loads(), [1, 1]);
    let inbox = bench.control.inbox();
    let (executor, epoch) = assigned[&ShardId(1)];
    let (shard, cursor) = (ShardId(1), Cursor::new("c7"));
    inbox.reports(executor, vec![Report::Safe { shard, epoch, cursor, cursor_time: None }]);
    bench.wait_for(|call| *call == Call::UpdateCheckpoint { shard: ShardId(1), cursor: Cursor::new("c7") });
    inbox.stop();
    inbox.stop();
    let stops = [bench.command(), bench.command()];
    assert!(stops.iter().all(|(_, command)| matches!(command, Command::Stop)), "{stops:?}");
    for (shard, (executor, epoch)) in assigned {
        inbox.reports(executor, vec![Report::Drained { shard, epoch }, Report::Stopped]);
    }
    bench.wait_for(|call| *call == Call::Heartbeat { shards: Vec::new() });
    let Bench { control, placement, .. } = bench;
    assert_eq!(control.join(), Some(Ended::Lease(Outcome::Drained)));
    assert_eq!(placement.loads(), [0, 0]);
    inbox.stop();
}

#[test]
fn a_commit_that_hangs_does_not_delay_heartbeats() {
    let beats = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&beats);
    // Nothing ever comes on it; the sender lives as long as the test.
    let (_hold, held) = async_channel::bounded::<()>(1);
    let bench = bench(
        params(),
        move |call| {
            match call {
                Call::Heartbeat { .. } => drop(counted.fetch_add(1, Ordering::Relaxed)),
                Call::UpdateCheckpoint { .. } => drop(held.recv_blocking()),
                _ => {}
            }
            Ok(serve(call))
        },
        |_| true,
    );
    for (shard, (executor, epoch)) in bench.assigned() {
        let cursor = Cursor::new("c1");
        bench
            .control
            .inbox()
            .reports(executor, vec![Report::Safe { shard, epoch, cursor, cursor_time: None }]);
    }
    bench.wait_for(|call| matches!(call, Call::UpdateCheckpoint { .. }));
    let before = beats.load(Ordering::Relaxed);
    for _ in 0..5 {
        bench.wait_for(|call| matches!(call, Call::Heartbeat { .. }));
    }
    assert!(beats.load(Ordering::Relaxed) >= before + 4);
    bench.control.inbox().stop();
}

#[test]
fn executors_that_have_ended_do_not_hold_a_stop() {
    let bench = bench(params(), |call| Ok(serve(call)), |_| false);
    bench.assigned();
    bench.control.inbox().stop();
    assert_eq!(bench.control.join(), Some(Ended::Lease(Outcome::Drained)));
}

#[test]
fn with_fail_fast_the_thread_ends_with_the_refusal() {
    let why = Closed { kind: ClosedKind::Resolve, detail: "no such name".into() };
    let broken = CallError::Transport { why, maybe_done: false };
    let cause = broken.clone();
    let bench = bench(Params { fail_fast: true, ..params() }, move |_| Err(cause.clone()), |_| true);
    let failed = Outcome::Failed { call: Call::ListGroups, cause: broken };
    assert_eq!(bench.control.join(), Some(Ended::Lease(failed)));
}

#[test]
fn with_fail_fast_an_unusable_sink_ends_the_thread_and_a_busy_one_does_not() {
    let alarm = |cause| Alarm { scope: Scope::Sink(EndpointId(0)), cause, retry_in: Duration::ZERO };
    let busy =
        HecAnswer { status: 503, code: Some(9), text: "busy".into(), invalid_event: None, location: None };
    let refused = HecAnswer { status: 403, code: Some(4), ..busy.clone() };
    let bench = bench(Params { fail_fast: true, ..params() }, |call| Ok(serve(call)), |_| true);
    bench.control.inbox().reports(0, vec![Report::Alarm(alarm(Cause::Hec(busy)))]);
    bench.assigned();
    bench.control.inbox().reports(1, vec![Report::Alarm(alarm(Cause::Hec(refused.clone())))]);
    assert_eq!(bench.control.join(), Some(Ended::Sink(alarm(Cause::Hec(refused)))));
}

#[test]
fn a_shard_is_warned_of_when_a_quarter_of_its_time_is_left() {
    let day = Duration::from_hours(24);
    assert!(!expires_soon(Duration::from_hours(17), day) && expires_soon(Duration::from_hours(18), day));
    let text = report::expires_soon(&Place::default(), ShardId(3), Duration::from_hours(20), day).to_string();
    for part in ["shard 3", "20 h", "expires in about 4 h", "nothing lost yet", "ttl of the logstore"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_ttl_is_asked_for_once_the_group_is_joined_and_a_denial_is_final() {
    let asked = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&asked);
    let denied = CallError::Sls(crate::proto::sls::error::SlsError {
        status: 401,
        code: "Unauthorized".into(),
        message: "denied by sts or ram, action: log:GetLogStore".into(),
        request_id: "5B0A".into(),
        server_time: None,
    });
    let bench = bench(
        params(),
        move |call| {
            if *call == Call::GetLogstore {
                counted.fetch_add(1, Ordering::Relaxed);
                return Err(denied.clone());
            }
            Ok(serve(call))
        },
        |_| true,
    );
    bench.assigned();
    bench.wait_for(|call| *call == Call::GetLogstore);
    for _ in 0..5 {
        bench.wait_for(|call| matches!(call, Call::Heartbeat { .. }));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    bench.control.inbox().stop();
}
