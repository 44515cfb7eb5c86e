use super::*;

fn alloc(holder: &str) -> LeaseState {
    LeaseState::AlreadyAlloc { holder: holder.into() }
}

struct Log {
    journal: Journal,
    place: Place,
    commits: VecDeque<Commit>,
}

impl Log {
    fn new() -> Self {
        let journal = Journal::default();
        Self { place: journal.at("p", "l"), journal, commits: VecDeque::new() }
    }

    fn joined(&self, consumer: &str) {
        self.place.note(0, What::Joined { group: "g".into(), consumer: consumer.into() });
    }

    fn lease(&self, at_ms: u64, state: LeaseState) {
        self.place.note(at_ms, What::Lease { group: "g".into(), shard: 0, state });
    }

    fn pull(&self, at_ms: u64, consumer: &str, first: u64, next: u64) {
        let agent = format!("sls2siem/1 consumer-group/g consumer/{consumer}");
        self.place.pull(at_ms, Pull { shard: 0, agent: &agent, first, next });
    }

    fn commit(&mut self, consumer: &str, refused: Option<&str>) {
        self.commits.push_back(Commit {
            seq: self.journal.number(),
            at_ms: 0,
            project: "p".into(),
            logstore: "l".into(),
            group: "g".into(),
            consumer: consumer.into(),
            shard: 0,
            position: Some(0),
            force: false,
            refused: refused.map(str::to_owned),
        });
    }

    fn judge(&self) -> Judgement {
        self.journal.judge(&self.commits)
    }
}

#[test]
fn the_pulls_of_a_client_are_one_event_until_the_lease_moves() {
    let log = Log::new();
    log.joined("a");
    log.lease(1, alloc("a"));
    log.pull(2, "a", 0, 5);
    log.pull(3, "a", 5, 5);
    log.pull(4, "b", 0, 1);
    log.pull(5, "a", 5, 6);
    log.lease(6, alloc("b"));
    log.pull(7, "a", 6, 7);
    let spans: Vec<(u64, u64, u64, u64, u64)> = log
        .journal
        .events(0)
        .into_iter()
        .filter_map(|event| match event.what {
            What::Pulls(pulls) => Some((event.at_ms, pulls.last_ms, pulls.pulls, pulls.first, pulls.next)),
            _ => None,
        })
        .collect();
    assert_eq!(spans, [(2, 5, 3, 0, 6), (4, 4, 1, 0, 1), (7, 7, 1, 6, 7)]);
    assert_eq!(log.journal.events(6).len(), 1);
}

#[test]
fn who_has_the_shard_may_pull_and_commit_and_nobody_else() {
    let mut log = Log::new();
    for name in ["a", "b", "ab"] {
        log.joined(name);
    }
    log.lease(1, alloc("a"));
    log.pull(2, "a", 0, 1);
    log.commit("a", None);
    log.lease(3, LeaseState::Transfer { holder: "a".into(), next: "b".into() });
    log.pull(4, "a", 1, 2);
    log.commit("a", None);
    log.lease(5, alloc("b"));
    log.pull(6, "b", 2, 3);
    log.commit("a", Some("ConsumerNotMatch"));
    log.lease(7, LeaseState::Over);
    // The last holder hears of it with its next heartbeat.
    log.pull(8, "b", 3, 3);
    log.commit("b", None);
    assert_eq!(log.judge(), Judgement::default());

    log.lease(9, alloc("b"));
    log.pull(10, "a", 3, 4);
    log.commit("a", None);
    log.lease(11, LeaseState::NotAlloc);
    log.pull(12, "ab", 3, 4);
    log.pull(13, "stranger", 3, 4);
    let found = log.judge();
    let strays: Vec<_> =
        found.stray_pulls.iter().map(|s| (s.consumer.as_str(), s.since_ms, s.first_ms, s.taken)).collect();
    assert_eq!(strays, [("a", 9, 10, true), ("ab", 11, 12, false)]);
    assert_eq!(found.stray_commits.len(), 1);
    assert_eq!(found.stray_commits[0].consumer, "a");
    assert_eq!(found.unknown_agents, ["sls2siem/1 consumer-group/g consumer/stranger"]);
}

#[test]
fn a_consumer_is_told_by_the_end_of_the_agent() {
    for agent in [
        "log-python-sdk-v-0.9.52, 3.13, linux-consumergroup-g-one",
        "g_one",
        "Consumer-Library-g/one",
        "sls2siem/0.1.0 consumer-group/g consumer/one",
    ] {
        assert!(names(agent, "g", "one"), "{agent}");
        assert!(!names(agent, "other", "one"), "{agent}");
        assert!(!names(agent, "g", "ne"), "{agent}");
    }
}
