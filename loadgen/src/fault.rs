//! A seeded plan of what goes wrong, shared by the SLS emulator and the HEC sink.
//!
//! Why: a forwarder is judged by what it does when the other side misbehaves, and a failure that cannot be replayed
//! proves little. A plain random draw per call depends on the order in which connections are served.
//! Invariants: 1. whether the n-th call of a kind is hit depends on the seed, the rule and n alone, never on the
//! order between kinds or on time. 2. A word that the server does not know is refused when the plan is loaded
//! (`check`), not ignored.   Bounds: one counter per rule and kind; no allocation per decision that hits nothing.
//! Driven by: a server, one `decide` per call, from any task.   Spec: none; the grammar is below.
//!
//! A plan is a list of rules `KIND.WHAT[:ARG][=CHANCE][@WHEN]`, separated by commas, tried in order; the first that
//! hits wins. `KIND` is the server's name for a call (`pull`, `heartbeat`, `event`, …), `pull/3` for one shard,
//! `heartbeat/NAME` for one consumer, `*` for all. `CHANCE` is `5%` or `0.05` (1 when absent). `WHEN` counts calls that the rule has seen, from 1:
//! `@3`, `@3..5` (both ends belong to it), `@3..`. `WHAT` is
//!
//! | what | does |
//! | --- | --- |
//! | `503`, `503:ServerBusy`, `ConsumerNotExist` | refuses with this status and/or error code, nothing is processed |
//! | `after-503`, `after-503:ServerBusy` | processes the call, then answers with an error |
//! | `reset`, `reset-after` | resets the connection before or after the call is processed |
//! | `tear`, `tear:1000` | sends half (or this many bytes) of the body, then cuts the connection |
//! | `bits` | flips one bit of the body |
//! | `delay:2s` | processes the call at once, answers late |
//! | `stall:2s` | waits first, then processes the call |
//! | `slow:64KiB` | sends the answer at this many bytes a second |
//! | `hang` | processes nothing and never answers |
//! | `duplicate` | sends the answer twice |
//! | any other lower-case word, `word:ARG` | what the server makes of it (it names its words to `check`) |

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

/// What a server does to one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answers with an error; nothing is processed. The server fills in what is absent.
    Refuse {
        /// HTTP status, when the plan names one.
        status: Option<u16>,
        /// The service's error code, when the plan names one.
        code: Option<String>,
    },
    /// Processes the call, then answers with an error.
    RefuseAfter {
        /// HTTP status, when the plan names one.
        status: Option<u16>,
        /// The service's error code, when the plan names one.
        code: Option<String>,
    },
    /// Resets the connection; nothing is processed.
    ResetBefore,
    /// Processes the call and resets the connection in place of an answer.
    ResetAfter,
    /// Cuts the connection in the middle of the body: after so many bytes, or after half of it.
    Tear(Option<usize>),
    /// Flips one bit of the body.
    Bits,
    /// Processes the call at once and answers after this time.
    Delay(Duration),
    /// Waits this time, then processes the call.
    Stall(Duration),
    /// Sends the answer at this many bytes a second.
    Slow(u64),
    /// Never answers; nothing is processed.
    Hang,
    /// Sends the answer twice.
    Duplicate,
    /// A word of the server's own.
    Other {
        /// The word.
        word: String,
        /// What stands after its colon.
        arg: Option<String>,
    },
}

/// Rules, tried in order, with a seed.
#[derive(Debug, Default)]
pub struct FaultPlan {
    seed: u64,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    text: String,
    kind: String,
    fault: Fault,
    /// Hit when a 32-bit draw is below this.
    threshold: u64,
    first: u64,
    last: u64,
    seen: AtomicU64,
    hits: AtomicU64,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    faults: Vec<String>,
}

impl FaultPlan {
    /// A plan in which nothing goes wrong.
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads the inline form: rules between commas; `seed=7` may stand among them.
    pub fn parse(text: &str) -> Result<Self> {
        let mut plan = Self::none();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            match item.strip_prefix("seed=") {
                Some(seed) => plan.seed = seed.parse().with_context(|| format!("seed `{seed}`"))?,
                None => plan.rules.push(item.parse().with_context(|| format!("fault `{item}`"))?),
            }
        }
        Ok(plan)
    }

    /// Reads the file form: `seed = 7` and `faults = ["pull.503=5%", …]`.
    pub fn parse_toml(text: &str) -> Result<Self> {
        let file: PlanFile = toml::from_str(text)?;
        let mut plan = Self::parse(&file.faults.join(","))?;
        plan.seed = file.seed;
        Ok(plan)
    }

    /// Reads a command-line value: a file if one has that name, otherwise the inline form.
    pub fn load(value: &str) -> Result<Self> {
        if Path::new(value).is_file() {
            let text = std::fs::read_to_string(value).with_context(|| format!("fault plan {value}"))?;
            return Self::parse_toml(&text).with_context(|| format!("fault plan {value}"));
        }
        Self::parse(value)
    }

    /// The same rules under another seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Refuses kinds and words that the server does not know.
    pub fn check(&self, kinds: &[&str], words: &[&str]) -> Result<()> {
        for rule in &self.rules {
            let kind = rule.kind.split('/').next().unwrap_or_default();
            ensure!(
                kind == "*" || kinds.contains(&kind),
                "fault `{}`: no call is named `{kind}`; there are: {}",
                rule.text,
                kinds.join(" ")
            );
            if let Fault::Other { word, .. } = &rule.fault {
                ensure!(
                    words.contains(&word.as_str()),
                    "fault `{}`: `{word}` is not known here; besides the common ones there are: {}",
                    rule.text,
                    words.join(" ")
                );
            }
        }
        Ok(())
    }

    /// What happens to this call. Counts the call for every rule that applies to its kind, up to the one that hits.
    pub fn decide(&self, kind: &str) -> Option<Fault> {
        self.rules.iter().enumerate().find(|(index, rule)| rule.decide(kind, self.seed, *index)).map(
            |(_, rule)| {
                rule.hits.fetch_add(1, Ordering::Relaxed);
                rule.fault.clone()
            },
        )
    }

    /// Whether no rule stands in the plan.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Every rule as written, with how often it has hit.
    pub fn hits(&self) -> Vec<(String, u64)> {
        self.rules.iter().map(|rule| (rule.text.clone(), rule.hits.load(Ordering::Relaxed))).collect()
    }
}

impl FromStr for FaultPlan {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed={}", self.seed)?;
        self.rules.iter().try_for_each(|rule| write!(f, ",{}", rule.text))
    }
}

impl Rule {
    fn decide(&self, kind: &str, seed: u64, index: usize) -> bool {
        let applies = self.kind == "*"
            || kind
                .strip_prefix(self.kind.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if !applies {
            return false;
        }
        let call = self.seen.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let draw = mix(seed ^ mix(call ^ mix(index as u64))) >> 32;
        (self.first..=self.last).contains(&call) && draw < self.threshold
    }
}

impl FromStr for Rule {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (rest, when) = text.split_once('@').map_or((text, None), |(rest, when)| (rest, Some(when)));
        let (what, chance) = rest.split_once('=').map_or((rest, None), |(what, chance)| (what, Some(chance)));
        let (kind, what) = split_kind(what).context("wants KIND.WHAT")?;
        ensure!(!kind.is_empty() && !what.is_empty(), "wants KIND.WHAT");
        let (first, last) = when.map_or(Ok((1, u64::MAX)), parse_when)?;
        Ok(Self {
            text: text.to_owned(),
            kind: kind.to_owned(),
            fault: what.parse()?,
            threshold: chance.map_or(Ok(1 << 32), parse_chance)?,
            first,
            last,
            seen: AtomicU64::new(0),
            hits: AtomicU64::new(0),
        })
    }
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (word, arg) = text.split_once(':').map_or((text, None), |(word, arg)| (word, Some(arg)));
        let needs = || arg.ok_or_else(|| anyhow!("`{word}` wants an argument: `{word}:…`"));
        Ok(match word {
            "reset" => Self::ResetBefore,
            "reset-after" => Self::ResetAfter,
            "tear" => {
                Self::Tear(arg.map(parse_size).transpose()?.map(|n| usize::try_from(n).unwrap_or(usize::MAX)))
            }
            "bits" => Self::Bits,
            "delay" => Self::Delay(parse_duration(needs()?)?),
            "stall" => Self::Stall(parse_duration(needs()?)?),
            "slow" => Self::Slow(parse_size(needs()?)?.max(1)),
            "hang" => Self::Hang,
            "duplicate" => Self::Duplicate,
            _ => {
                if let Some((status, code)) = parse_refusal(word, arg)? {
                    return Ok(Self::Refuse { status, code });
                }
                if let Some(late) = word.strip_prefix("after-") {
                    let (status, code) =
                        parse_refusal(late, arg)?.context("wants a status after `after-`")?;
                    return Ok(Self::RefuseAfter { status, code });
                }
                Self::Other { word: word.to_owned(), arg: arg.map(str::to_owned) }
            }
        })
    }
}

/// Reads `2s`, `150ms`, `1.5s`, `2m`.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let (number, unit) = split_unit(text);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => bail!("`{text}` is not a time; write 150ms, 2s, 5m"),
    };
    let number: f64 = number.parse().with_context(|| format!("`{text}` is not a time"))?;
    Duration::try_from_secs_f64(number * scale).with_context(|| format!("`{text}` is out of range"))
}

/// Reads `4096`, `64KiB`, `10MB`, `10MB/s`; powers of 1024 with an `i`, of 1000 without.
pub fn parse_size(text: &str) -> Result<u64> {
    let (number, unit) = split_unit(text.strip_suffix("/s").unwrap_or(text));
    let scale: u32 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => bail!("`{text}` is not a size; write 4096, 64KiB, 10MB"),
    };
    let number: f64 = number.parse().with_context(|| format!("`{text}` is not a size"))?;
    ensure!(
        number.is_finite() && (0.0..9e15).contains(&(number * f64::from(scale))),
        "`{text}` is out of range"
    );
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range was checked above"
    )]
    Ok((number * f64::from(scale)) as u64)
}

fn split_unit(text: &str) -> (&str, &str) {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    (number.trim(), unit)
}

/// The name of a consumer after a slash may hold dots: there the last dot before an argument counts.
fn split_kind(text: &str) -> Option<(&str, &str)> {
    let first = text.find('.')?;
    let at = match text.find('/') {
        Some(slash) if slash < first => text.split(':').next()?.rfind('.')?,
        _ => first,
    };
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// Status and error code.
type Refusal = (Option<u16>, Option<String>);

fn parse_refusal(word: &str, arg: Option<&str>) -> Result<Option<Refusal>> {
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        let status: u16 = word.parse().with_context(|| format!("status `{word}`"))?;
        ensure!((200..=599).contains(&status), "status {status} is not in 200..=599");
        return Ok(Some((Some(status), arg.map(str::to_owned))));
    }
    let is_code = word.starts_with(|c: char| c.is_ascii_uppercase());
    ensure!(!is_code || arg.is_none(), "a code stands alone or after a status: `503:{word}`");
    Ok(is_code.then(|| (None, Some(word.to_owned()))))
}

fn parse_chance(text: &str) -> Result<u64> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |percent| (percent, 100.0));
    let number: f64 = number.parse().with_context(|| format!("chance `{text}`"))?;
    let chance = number / scale;
    ensure!((0.0..=1.0).contains(&chance), "chance `{text}` is not between 0 and 1 (or 0% and 100%)");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 2^32")]
    Ok((chance * 4_294_967_296.0) as u64)
}

fn parse_when(text: &str) -> Result<(u64, u64)> {
    let number = |text: &str| text.parse::<u64>().with_context(|| format!("call number `{text}`"));
    let (first, last) = match text.split_once("..") {
        None => (number(text)?, number(text)?),
        Some((first, "")) => (number(first)?, u64::MAX),
        Some((first, last)) => (number(first)?, number(last)?),
    };
    ensure!(first >= 1 && first <= last, "calls count from 1: `{text}`");
    Ok((first, last))
}

/// One step of splitmix64: a bijection whose output bits are well mixed.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
