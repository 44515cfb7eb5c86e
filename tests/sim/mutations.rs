//! The proof that the laws bite: bugs planted in the real core, one at a time, and each has to be caught.
//!
//! Why: a law that no bug can break is no law. `sls2siem::proto::planted` says what each bug is and what it would cost.
//! A bug is looked for in the world where it lives, seed after seed, until a law is broken; the table that is printed
//! says how many seeds that took. `SIM_BUG=NoDoubt` looks for one alone and tells more about it.

use std::sync::atomic::{AtomicUsize, Ordering};

use sls2siem::proto::planted::{Bug, plant};

use crate::forwarder::Kind;
use crate::groups;

/// A bug that needs more seeds than a run of `cargo test` has is not caught.
const SEEDS_MAX: u64 = 2_000;

/// Where a bug is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum In {
    /// One forwarder in the storm, whatever its sink.
    Storm,
    /// One forwarder in the storm whose sink is HEC: the seeds of other sinks are left out, they never come there.
    Hec,
    /// The same with a syslog stream.
    Drain,
    /// The same with RELP.
    Relp,
    /// One forwarder where nothing fails: each record once, in order.
    Calm,
    /// Several forwarders in one consumer group, in the storm.
    Group,
    /// Several that come and go politely: nothing is repeated.
    Polite,
}

fn home(bug: Bug) -> In {
    match bug {
        Bug::OvertakesItself | Bug::TurnDoesNotWait => In::Calm,
        Bug::ResetConfirms
        | Bug::ResetForgets
        | Bug::NoDoubt
        | Bug::OldPollCounts
        | Bug::RepeatedIdIsNew
        | Bug::AnswersWithoutIdNotCounted
        | Bug::FailedPollConfirms
        | Bug::AckTimeoutForgets
        | Bug::IndexErrorOffByOne
        | Bug::AnyPageIsAReceipt
        | Bug::BusyFrontCounts
        | Bug::ErrorCounts
        | Bug::RefusalTakesTheRest
        | Bug::FrontCountsAtOnce
        | Bug::AnswerToTheNewest
        | Bug::CutDropsTheRest
        | Bug::HalfSentCounts
        | Bug::RefusedIsDropped
        | Bug::LetterCountsAtOnce
        | Bug::LetterFailureCounts
        | Bug::LetterIsNotRetried => In::Hec,
        Bug::ResetIsAFin
        | Bug::FinBeforeOurs
        | Bug::UnackedCounts
        | Bug::NoSilence
        | Bug::SilenceFromTheWrite
        | Bug::LateFramesJoin => In::Drain,
        Bug::AnswersAreCumulative | Bug::SessionEndCounts | Bug::RefusalCounts | Bug::RefusedIsForgotten => {
            In::Relp
        }
        Bug::ReleasesUnsaved | Bug::LastIsNotTold | Bug::DrainingIsNotListed | Bug::StopEndsHeartbeats => {
            In::Polite
        }
        Bug::NoFence
        | Bug::KeepsLostShards
        | Bug::LostFramesGoAgain
        | Bug::LeaseFromTheAnswer
        | Bug::LeaseNeverEnds
        | Bug::StaleAnswerGives
        | Bug::OldReportsCount
        | Bug::NoSecondCommit
        | Bug::ExpiredGoesToTheEnd
        | Bug::ChildBeginsAtTheEnd
        | Bug::GapIsNotTold => In::Group,
        _ => In::Storm,
    }
}

/// True where this seed of the world can meet the bug.
fn counts(home: In, seed: u64) -> bool {
    match home {
        In::Hec => Kind::of(seed) == Kind::Hec,
        In::Drain => Kind::of(seed) == Kind::Drain,
        In::Relp => Kind::of(seed) == Kind::Relp,
        In::Storm | In::Calm | In::Group | In::Polite => true,
    }
}

/// Runs one seed of a world; the law that it breaks, if any. A panic of a model or of the core is one.
fn broken_law(home: In, seed: u64) -> Option<String> {
    let world: fn(u64) -> Result<(), String> = match home {
        In::Storm | In::Hec | In::Drain | In::Relp => |seed| crate::storm(seed).map(drop),
        In::Calm => crate::calm,
        In::Group => |seed| groups::storm(seed).map(drop),
        In::Polite => |seed| groups::polite(seed).map(drop),
    };
    crate::run(seed, world).err()
}

/// What was found out about a bug.
#[derive(Debug)]
struct Caught {
    seed: u64,
    law: String,
}

/// Plants a bug and looks for a seed that catches it.
fn catch(bug: Bug) -> Option<Caught> {
    let home = home(bug);
    let planted = plant(bug);
    let mut seeds = (0..SEEDS_MAX).filter(|seed| counts(home, *seed));
    let caught = seeds.find_map(|seed| broken_law(home, seed).map(|law| Caught { seed, law }));
    drop(planted);
    if let Some(Caught { seed, .. }) = &caught {
        assert_eq!(broken_law(home, *seed), None, "{bug:?}: seed {seed} fails without the bug");
    }
    caught
}

#[test]
fn every_planted_bug_is_caught() {
    if !cfg!(debug_assertions) {
        println!("mutations: built without debug assertions, there is nothing to plant: nothing checked");
        return;
    }
    let only = std::env::var("SIM_BUG").ok();
    let wanted =
        |bug: Bug| only.as_ref().is_none_or(|names| names.split(',').any(|name| *name == format!("{bug:?}")));
    let bugs: Vec<_> = Bug::ALL.iter().filter(|(bug, ..)| wanted(*bug)).collect();
    assert!(!bugs.is_empty(), "SIM_BUG names one of the bugs of proto::planted");
    let next = AtomicUsize::new(0);
    let work = || {
        let take = || bugs.get(next.fetch_add(1, Ordering::Relaxed)).copied();
        let look = |(bug, place, what): &(Bug, &'static str, &'static str)| {
            let caught = catch(*bug);
            eprintln!("{bug:?}: {caught:?}");
            (*bug, *place, *what, caught)
        };
        std::iter::from_fn(take).map(look).collect::<Vec<_>>()
    };
    let mut found: Vec<_> = std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    found.sort_by_key(|(bug, ..)| *bug as usize);
    println!("mutations: {} bugs planted, one at a time", found.len());
    println!("| bug | where | world | seeds | law that caught it |");
    println!("| --- | --- | --- | --- | --- |");
    for (bug, place, what, caught) in &found {
        let (seeds, law) = match caught {
            Some(Caught { seed, law }) => ((seed + 1).to_string(), law.as_str()),
            None => ("-".to_owned(), "NONE"),
        };
        println!("| `{bug:?}` | {place} | {:?} | {seeds} | {law} |", home(*bug));
        if only.is_some() {
            println!("{}", what.trim());
        }
    }
    let missed: Vec<_> = found.iter().filter(|(.., caught)| caught.is_none()).map(|(bug, ..)| *bug).collect();
    assert!(missed.is_empty(), "{} bugs pass {SEEDS_MAX} seeds: {missed:?}", missed.len());
}
