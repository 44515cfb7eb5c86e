//! `key=value` messages: ours, which can be taken apart again, and the text of the vendor's sample.
//!
//! Why: plain searches and old parsers read it; the sample's form is what users who move over have rules for.
//! Invariants: 1. in our form neither keys nor values hold a character of the separator, a line break or NUL, and
//! keys no `=`: splitting at the separator and at the first `=` gives the fields, also where values are hostile.
//! 2. the sample's form is the sample's bytes (golden test), but for bytes that are not UTF-8.
//! Bounds: four bytes out for one byte in. The sample's form sorts one hash for each field.
//! Driven by: `syslog`. Spec: ours: a separator's character is `\xHH`, a backslash `\\`, line breaks and NUL `\n`,
//! `\r`, `\0`. The sample's: SLS protocol notes, flattening and syslog sample output: topic and source also where
//! empty, a name keeps the place of its first member and the value of its last.

use super::escape::Escapes;
use super::framing::{Framer, Framing};
use super::stamp::{Stamp, nanos};
use crate::proto::format::simd::{Kernel, Pairs, Seen, Separator, Shapes};
use crate::proto::sls::wire::{Log, LogGroup, LogTime, Span, WireError};

/// Writes `kv`.
#[derive(Clone, Debug)]
pub(super) struct Kv {
    kernel: Kernel,
    separator: Separator,
    keys: Escapes,
    values: Escapes,
}

impl Kv {
    pub(super) fn new(separator: &str) -> Self {
        let mut values = Escapes::lines().with(b'\\', b"\\\\");
        for byte in separator.bytes() {
            values = values.with(byte, format!("\\x{byte:02x}").as_bytes());
        }
        let keys = values.clone().with(b'=', b"\\x3d");
        Self { kernel: Kernel::best(), separator: Separator::new(separator.as_bytes()), keys, values }
    }

    /// Appends what the logs of `group` share. False when some of it was not UTF-8.
    pub(super) fn head(&self, group: &LogGroup<'_>, out: &mut Vec<u8>) -> Result<bool, WireError> {
        let mut valid = true;
        for (key, value) in [(TOPIC, group.topic), (SOURCE, group.source)] {
            if !value.is_empty() {
                valid &= self.pair(b"", key, value, out);
            }
        }
        for tag in group.tags() {
            let (key, value) = tag?;
            valid &= self.pair(TAG, key, value, out);
        }
        Ok(valid)
    }

    /// Appends the log at `span`, whose time is thought to be `time`.
    pub(super) fn contents(
        &self,
        body: &[u8],
        span: Span,
        stamp: &Stamp,
        time: LogTime,
        shapes: &mut Shapes,
        out: &mut Vec<u8>,
    ) -> Result<Seen, WireError> {
        let mut digits = itoa::Buffer::new();
        if stamp.hides_year() {
            self.pair(b"", TIME, digits.format(time.secs).as_bytes(), out);
        }
        if let Some(nanos) = stamp.hidden_nanos(time) {
            self.pair(b"", NANOS_PART, digits.format(nanos).as_bytes(), out);
        }
        let pairs = Pairs {
            keys: self.keys.replacements(),
            values: self.values.replacements(),
            separator: &self.separator,
        };
        self.kernel.pairs(&pairs, body, span, shapes, out)
    }

    /// Takes the separator behind the last pair away, where there is one behind `begin`.
    pub(super) fn finish(&self, begin: usize, out: &mut Vec<u8>) {
        if out.len() > begin {
            out.truncate(out.len() - self.separator.as_bytes().len());
        }
    }

    fn pair(&self, prefix: &[u8], key: &[u8], value: &[u8], out: &mut Vec<u8>) -> bool {
        // A separator of colons or underscores would part our own names too.
        self.keys.append(prefix, out);
        let mut valid = self.keys.append(key, out);
        out.push(b'=');
        valid &= self.values.append(value, out);
        out.extend_from_slice(self.separator.as_bytes());
        valid
    }
}

/// Writes the text of the vendor's sample.
#[derive(Clone, Debug)]
pub(super) struct AliyunKv {
    separator: Vec<u8>,
    escapes: Escapes,
    /// Hash and number of each member of a log.
    names: Vec<(u64, u32)>,
}

/// A member of the vendor's flat form.
#[derive(Clone, Copy)]
struct Member<'a> {
    prefix: &'static [u8],
    key: &'a [u8],
    value: &'a [u8],
}

impl Member<'_> {
    fn name(&self) -> impl Iterator<Item = &u8> {
        self.prefix.iter().chain(self.key)
    }

    fn hash(&self) -> u64 {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        self.name().fold(0xcbf2_9ce4_8422_2325, step)
    }
}

impl AliyunKv {
    pub(super) fn new(separator: &str, framing: Framing) -> Self {
        let escapes = if Framer::is_line(framing) { Escapes::lines() } else { Escapes::none() };
        Self { separator: separator.as_bytes().to_vec(), escapes, names: Vec::new() }
    }

    /// Appends the whole message.
    pub(super) fn message(
        &mut self,
        group: &LogGroup<'_>,
        log: &Log<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Seen, WireError> {
        let time = log.time()?;
        let nanos = nanos(time);
        self.names.clear();
        for (index, member) in members(group, log, nanos != 0).enumerate() {
            self.names.push((member?.hash(), u32::try_from(index).unwrap_or(u32::MAX)));
        }
        self.names.sort_unstable();
        let twice = self.names.iter().zip(self.names.iter().skip(1)).any(|(left, right)| left.0 == right.0);
        let mut invalid = false;
        for (index, member) in members(group, log, nanos != 0).enumerate() {
            let member = member?;
            let mut last = (index, member);
            if member.name().eq(TIME) || (twice && !self.takes_place(group, log, nanos != 0, &mut last)?) {
                continue;
            }
            out.extend_from_slice(&self.separator);
            out.extend_from_slice(member.prefix);
            invalid |= !self.escapes.append(member.key, out);
            out.push(b'=');
            if last.0 == NANOS_PLACE && nanos != 0 {
                // A tuple of one by a stray comma in the SDK; kept, because it is what users have rules for.
                out.extend_from_slice(b"('");
                out.extend_from_slice(itoa::Buffer::new().format(nanos).as_bytes());
                out.extend_from_slice(b"',)");
            } else {
                invalid |= !self.escapes.append(last.1.value, out);
            }
        }
        Ok(Seen { time, invalid })
    }

    /// False where an earlier member has the name of `last`; otherwise `last` becomes the last one of that name.
    fn takes_place<'a>(
        &self,
        group: &LogGroup<'a>,
        log: &Log<'a>,
        nanos: bool,
        last: &mut (usize, Member<'a>),
    ) -> Result<bool, WireError> {
        let (index, member) = *last;
        let hash = member.hash();
        let from = self.names.partition_point(|(other, _)| *other < hash);
        let same = self.names.get(from..).unwrap_or(&[]).iter().take_while(|(other, _)| *other == hash);
        if same.take(2).count() < 2 {
            return Ok(true);
        }
        for (other_index, other) in members(group, log, nanos).enumerate() {
            let other = other?;
            if other.name().eq(member.name()) {
                if other_index < index {
                    return Ok(false);
                }
                *last = (other_index, other);
            }
        }
        Ok(true)
    }
}

/// Topic, source, the nanoseconds, tags, contents: the order in which the vendor's SDK flattens.
fn members<'a>(
    group: &LogGroup<'a>,
    log: &Log<'a>,
    nanos: bool,
) -> impl Iterator<Item = Result<Member<'a>, WireError>> {
    let fixed = [(TOPIC, group.topic), (SOURCE, group.source), (NANOS_PART, &[][..])];
    let fixed = fixed.into_iter().take(if nanos { NANOS_PLACE + 1 } else { NANOS_PLACE });
    let with = |prefix: &'static [u8]| {
        move |pair: Result<(&'a [u8], &'a [u8]), WireError>| {
            pair.map(|(key, value)| Member { prefix, key, value })
        }
    };
    fixed.map(Ok).map(with(b"")).chain(group.tags().map(with(TAG))).chain(log.contents().map(with(b"")))
}

const NANOS_PLACE: usize = 2;
const TOPIC: &[u8] = b"__topic__";
const SOURCE: &[u8] = b"__source__";
const TIME: &[u8] = b"__time__";
const NANOS_PART: &[u8] = b"__time_ns_part__";
const TAG: &[u8] = b"__tag__:";
