//! One log becomes one syslog message: RFC 5424 or RFC 3164, in a frame.
//!
//! Why: receivers take what they cannot parse for something else, and cut what is too long, and say that all is
//! well; so every message is right and short enough before it leaves. As in `hec`, a record is written in one pass
//! from the body into the frame; what a group shares is prepared once.
//! Invariants: 1. a header is by the letter of its standard, whatever the log holds (`header`). 2. no message is
//! longer than `max_message_bytes`, but the one that [`Encoded::oversize`] tells of (`oversize`). 3. Same body,
//! position, settings and context give the same bytes. 4. After an error, or in front of a message that is too long
//! for the sink, `out` ends behind the last whole record and `at` stands in front of the next one. 5. No allocation
//! per record once the buffers have grown.
//! Bounds: a frame ends with the record that reaches `limit`; a record is at most seven times its log and a header,
//! and for each part of a split one a header more.
//! Driven by: the pipeline, one call per frame. With [`Oversize::DeadLetter`] a record that is too long is written
//! alone and without framing, into an empty `out`: after [`Encoded::before_oversize`] the caller comes again with
//! another one.
//! Spec: RFC 5424, RFC 3164, RFC 6587; see the parts.

use super::hec::{Encoded, RecordContext};
use crate::proto::sls::wire::{Log, LogGroup, LogTime, Position, Span, WireError};

mod escape;
mod event;
mod framing;
mod header;
mod kv;
mod message;
mod oversize;
mod params;
mod severity;
mod stamp;
#[cfg(test)]
mod tests;

pub(crate) use self::event::is_extension_key;
pub use self::event::{EventParams, LeefDelimiter};
use self::framing::Framer;
pub use self::framing::{Framing, MARK_BYTES};
use self::header::Header;
use self::message::{Message, Record};
pub use self::params::{
    HeaderForm, MESSAGE_BYTES_MIN, MessageForm, Oversize, ParamsError, Precision, SdElement, SyslogParams,
};
pub(crate) use self::params::{is_sd_id, is_sd_name, is_separator};
use self::severity::Severities;

/// Writes syslog messages. Holds only settings and scratch space: any body of any shard may come next.
#[derive(Clone, Debug)]
pub struct SyslogEncoder {
    framer: Framer,
    header: Header,
    severities: Severities,
    message: Message,
    max_message_bytes: usize,
    oversize: Oversize,
    /// The part of the header behind the time stamp, where the logs of a group share it.
    tail: Vec<u8>,
    tail_per_log: bool,
    tail_invalid: bool,
    /// Header and text of a message that is too long.
    long_header: Vec<u8>,
    long_text: Vec<u8>,
    /// Which records of this call are more than one message, and how many.
    split: Vec<(u32, u32)>,
}

/// Where a message lies in `out`.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Its frame.
    mark: usize,
    /// Its header.
    start: usize,
    /// Its text.
    text: usize,
}

/// What became of a record.
#[derive(Clone, Copy, Debug)]
struct Fate {
    invalid: bool,
    /// Written whole although it is too long.
    too_long: bool,
    /// How many messages it is.
    messages: u32,
}

impl SyslogEncoder {
    /// For these settings.
    pub fn new(params: SyslogParams) -> Result<Self, ParamsError> {
        params.check()?;
        let header = Header::new(&params);
        Ok(Self {
            framer: Framer::new(params.framing),
            tail_per_log: header.needs_log(),
            header,
            severities: Severities::new(params.severity, params.severity_field, params.severity_map),
            message: Message::new(params.message, params.framing),
            max_message_bytes: params.max_message_bytes,
            oversize: params.oversize,
            tail: Vec::new(),
            tail_invalid: false,
            long_header: Vec::new(),
            long_text: Vec::new(),
            split: Vec::new(),
        })
    }

    /// Appends records of `body` from `at` on, up to the record with index `end` (not included), until they are at
    /// least `limit` bytes, or until the body ends. At least one record is written where there is one, but for
    /// [`Encoded::before_oversize`].
    pub fn encode(
        &mut self,
        body: &[u8],
        at: &mut Position,
        end: u32,
        limit: usize,
        context: &RecordContext<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, WireError> {
        let start = out.len();
        let mut encoded = Encoded::default();
        let mut current = None;
        self.split.clear();
        while at.record_index < end {
            let Some(span) = at.seek(body)? else {
                encoded.body_done = true;
                return Ok(encoded);
            };
            let group = match current {
                Some((count, group)) if count == at.group_count => group,
                _ => {
                    let group = LogGroup::at(body, at)?;
                    self.enter_group(&group)?;
                    current = Some((at.group_count, group));
                    group
                }
            };
            let mark = out.len();
            let fate = match self.record(body, &group, span, (context, at.record_index), out) {
                Ok(fate) => fate,
                Err(error) => {
                    out.truncate(mark);
                    return Err(error);
                }
            };
            if fate.too_long && mark > 0 {
                out.truncate(mark);
                encoded.before_oversize = true;
                return Ok(encoded);
            }
            at.pass(span);
            if fate.messages > 1 {
                self.split.push((encoded.records, fate.messages));
            }
            encoded.records += 1;
            encoded.invalid_utf8 += u32::from(fate.invalid);
            encoded.oversize = fate.too_long;
            if fate.too_long || out.len() - start >= limit {
                break;
            }
        }
        // What is broken behind whole records is found by the next call.
        encoded.body_done = matches!(at.seek(body), Ok(None));
        Ok(encoded)
    }

    /// Which records of the last call of [`Self::encode`] are more than one message: number in that call, messages.
    pub fn split(&self) -> &[(u32, u32)] {
        &self.split
    }

    /// Prepares what the records of `group` share.
    fn enter_group(&mut self, group: &LogGroup<'_>) -> Result<(), WireError> {
        self.tail.clear();
        self.tail_invalid = !self.tail_per_log && !self.header.tail(group, None, &mut self.tail)?;
        self.message.enter_group(group)
    }

    /// Appends one record with its frame.
    fn record(
        &mut self,
        body: &[u8],
        group: &LogGroup<'_>,
        span: Span,
        name: (&RecordContext<'_>, u32),
        out: &mut Vec<u8>,
    ) -> Result<Fate, WireError> {
        let log = Log::at(body, span)?;
        let record = Record { body, group, log: &log, span, severity: self.severities.of(&log)? };
        let guess = log.guess_time();
        let (mut place, mut wrote) = self.header_and_text(&record, guess, out)?;
        if !stamp::same(guess, wrote.seen.time) {
            out.truncate(place.mark);
            (place, wrote) = self.header_and_text(&record, wrote.seen.time, out)?;
        }
        let invalid = wrote.seen.invalid;
        if out.len() - place.start > self.max_message_bytes {
            if self.oversize != Oversize::DeadLetter {
                let messages = self.shorten(&record, (wrote.seen.time, wrote.json), place, name, out)?;
                return Ok(Fate { invalid, too_long: false, messages });
            }
            // Nobody is sent it, so it stands without a frame around it.
            out.drain(place.mark..place.start);
            return Ok(Fate { invalid, too_long: true, messages: 1 });
        }
        self.framer.close(place.mark, place.start, true, out);
        Ok(Fate { invalid, too_long: false, messages: 1 })
    }

    /// Everything of a message but the end of its frame.
    fn header_and_text(
        &mut self,
        record: &Record<'_>,
        time: LogTime,
        out: &mut Vec<u8>,
    ) -> Result<(Place, message::Wrote), WireError> {
        let mark = out.len();
        self.framer.open(out);
        let start = out.len();
        self.header.front(record.severity, time, out);
        let mut invalid = self.tail_invalid;
        if self.tail_per_log {
            invalid |= !self.header.tail(record.group, Some(record.log), out)?;
        } else {
            out.extend_from_slice(&self.tail);
        }
        let text = out.len();
        let mut wrote = self.message.write(record, &self.header.stamp, time, out)?;
        wrote.seen.invalid |= invalid;
        Ok((Place { mark, start, text }, wrote))
    }

    /// Writes the message at `place` again so that it is not too long; says how many it became.
    #[cold]
    fn shorten(
        &mut self,
        record: &Record<'_>,
        (time, json): (LogTime, bool),
        place: Place,
        (context, index): (&RecordContext<'_>, u32),
        out: &mut Vec<u8>,
    ) -> Result<u32, WireError> {
        let max = self.max_message_bytes;
        let split = self.oversize == Oversize::Split;
        self.long_header.clear();
        self.long_text.clear();
        self.long_header.extend_from_slice(out.get(place.start..place.text).unwrap_or(&[]));
        // The front of a part would stand where a TAG is looked for.
        let untagged = split && self.header.is_untagged();
        if untagged || self.long_header.len() + oversize::ROOM_MIN > max {
            let header = &mut self.long_header;
            if split && !untagged {
                self.long_text.extend_from_slice(header);
            }
            header.clear();
            self.header.front(record.severity, time, header);
            self.header.short_tail(record.group, record.log, header)?;
        }
        self.long_text.extend_from_slice(out.get(place.text..).unwrap_or(&[]));
        out.truncate(place.mark);
        let mut messages = 1;
        if split {
            let room = oversize::part_room(max, self.long_header.len());
            let id = oversize::record_id(context, index);
            let of = u32::try_from(oversize::parts(&self.long_text, room).count()).unwrap_or(u32::MAX);
            messages = of;
            for (part, text) in (1..=of).zip(oversize::parts(&self.long_text, room)) {
                let mark = out.len();
                self.framer.open(out);
                let start = out.len();
                out.extend_from_slice(&self.long_header);
                oversize::push_part_head(part, of, id, out);
                out.extend_from_slice(text);
                self.framer.close(mark, start, part == 1, out);
            }
        } else {
            self.framer.open(out);
            let start = out.len();
            out.extend_from_slice(&self.long_header);
            let room = max.saturating_sub(self.long_header.len());
            oversize::push_cut(&self.long_text, room, json, out);
            self.framer.close(place.mark, start, true, out);
        }
        // One huge log must not stay in memory for good.
        self.long_text.clear();
        self.long_text.shrink_to(LONG_TEXT_KEPT);
        Ok(messages)
    }
}

/// Scratch space for messages that are too long, between two of them.
const LONG_TEXT_KEPT: usize = 1 << 20;
