//! Cookies of a load balancer: which to send back, and what it means when one changes.
//!
//! Why: behind a balancer a cookie keeps a channel on its indexer, and a changed one says that the requests go to another
//! indexer now, where nobody knows the ids that wait. But some balancers (AWS: `AWSALB`) write a new value with every
//! answer and stay where they are; taking that for a move would pull everything again for ever.
//! Invariants: 1. a cookie stays in the jar until an answer sets one of its name. 2. a value that was seen before is
//! always a move. 3. without a single answer in between, [`FRESH_MAX`] new values in a row are a habit and no moves;
//! one answer that keeps its value ends the habit.
//! Bounds: [`PAIRS_MAX`] cookies, [`SEEN_MAX`] hashes of values per address; their bytes are bounded by `poll`.
//! Driven by: `ack`. Spec: RFC 6265 section 5.3 (a cookie replaces one of its name), 5.4.

use core::hash::{Hash as _, Hasher as _};
use std::collections::VecDeque;

/// Changes at once, each to a value never seen before, that are believed to be moves.
const FRESH_MAX: u32 = 8;
const SEEN_MAX: usize = 64;
const PAIRS_MAX: usize = 16;

/// The cookies of one channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Jar {
    pairs: Vec<(String, String)>,
    /// The pairs as the value of `Cookie`.
    text: String,
    /// Answers that set what was there already.
    kept: u32,
}

impl Jar {
    /// What is sent back.
    pub(super) fn text(&self) -> Option<&str> {
        (!self.text.is_empty()).then_some(self.text.as_str())
    }

    /// Takes the pairs `a=b; c=d` of an answer; true where one has another value than before.
    pub(super) fn take(&mut self, set: &str) -> bool {
        let mut changed = false;
        for (name, value) in set.split("; ").filter_map(|pair| pair.split_once('=')) {
            if let Some((_, known)) = self.pairs.iter_mut().find(|(known, _)| known == name) {
                changed |= known != value;
                value.clone_into(known);
            } else if self.pairs.len() < PAIRS_MAX {
                self.pairs.push((name.to_owned(), value.to_owned()));
            }
        }
        self.text =
            self.pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        if !changed {
            self.kept += 1;
        }
        changed
    }

    /// The same cookies for the channel that follows.
    pub(super) fn handed_on(&self) -> Self {
        Self { kept: 0, ..self.clone() }
    }
}

/// What was learnt about the cookies of one address.
#[derive(Debug, Default)]
pub(super) struct Habit {
    seen: VecDeque<u64>,
    fresh: u32,
}

impl Habit {
    /// The cookies in this jar have changed; true where that means another indexer.
    pub(super) fn is_move(&mut self, jar: &mut Jar) -> bool {
        // The first answer that sets a cookie is no answer that keeps it.
        let at_once = core::mem::take(&mut jar.kept) <= 1;
        let mut hasher = std::hash::DefaultHasher::new();
        jar.text.hash(&mut hasher);
        let value = hasher.finish();
        let known = self.seen.contains(&value);
        if known || !at_once {
            self.fresh = 0;
        } else {
            self.fresh = self.fresh.saturating_add(1);
        }
        if !known {
            if self.seen.len() == SEEN_MAX {
                self.seen.pop_front();
            }
            self.seen.push_back(value);
        }
        self.fresh <= FRESH_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_stays_until_one_of_its_name_comes() {
        let mut jar = Jar::default();
        assert!(jar.text().is_none());
        assert!(!jar.take("lb=one; session=7") && !jar.take("lb=one"));
        assert_eq!(jar.text(), Some("lb=one; session=7"));
        assert!(jar.take("lb=two"));
        assert_eq!(jar.text(), Some("lb=two; session=7"));
        for number in 0..100 {
            assert!(!jar.take(&format!("n{number}=x")));
        }
        assert_eq!(jar.pairs.len(), PAIRS_MAX);
    }

    #[test]
    fn a_new_value_with_every_answer_is_a_habit_after_a_while() {
        let (mut jar, mut habit) = (Jar::default(), Habit::default());
        jar.take("AWSALB=0");
        let mut moves = 0;
        for number in 1..100 {
            assert!(jar.take(&format!("AWSALB={number}")));
            let is_move = habit.is_move(&mut jar);
            moves += u32::from(is_move);
            if is_move {
                jar = jar.handed_on();
            }
        }
        assert_eq!(moves, FRESH_MAX);
        // It stays, and goes then: that is a move again.
        assert!(!jar.take("AWSALB=99") && !jar.take("AWSALB=99"));
        assert!(jar.take("AWSALB=100") && habit.is_move(&mut jar));
    }

    #[test]
    fn values_that_come_back_are_moves_for_ever() {
        let (mut jar, mut habit) = (Jar::default(), Habit::default());
        jar.take("lb=0");
        for number in 1..1_000 {
            // Nine indexers, and nothing sticks.
            assert!(jar.take(&format!("lb={}", number % 9)));
            let is_move = habit.is_move(&mut jar);
            assert!(is_move || number < 20, "{number}");
            jar = jar.handed_on();
        }
    }
}
