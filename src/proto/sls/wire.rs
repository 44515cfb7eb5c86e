//! Borrowing reader of the decompressed body of a pull: a `LogGroupList` walked in place.
//!
//! Why: a decoder that builds messages (prost) costs ten to forty times the walk itself and allocates per field;
//! the transcoder needs every key and value exactly once, as slices of the body.
//! Invariants: 1. peer bytes never panic and never make anything here allocate. 2. A [`Position`] that came from
//! [`Position::seek`] stands in front of a whole log, so encoding can stop after any record and go on from a copy
//! of it. 3. Every sub-message is read through a [`Reader`] that ends where the message ends: a length that
//! points past its parent is an error, not a read. Bounds: none of its own; the caller bounds the body.
//! Driven by: `proto::format` (records to frames), the pipeline ([`scan`] before anything is sent).
//! Spec: proto2 schema in the SLS data format: fields in any order, unknown ones skipped, repeated scalars keep
//! the last; the number of a field with another wire type than the schema's is an unknown field. Departure: the
//! deprecated wire types 3 and 4 (groups) are refused instead of skipped; no writer of SLS emits them.

use core::fmt;

use reader::Reader;
pub(crate) use reader::usual_secs;

mod reader;

/// Why a body is not a `LogGroupList`, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireError {
    /// Offset in the decompressed body.
    pub offset: usize,
    /// What is wrong there.
    pub what: Fault,
}

/// What can be wrong with protobuf bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A varint or a fixed-width value is cut off by the end of its message.
    Truncated,
    /// A length points past the end of its message.
    LengthPastEnd,
    /// A varint of more than ten bytes or more than 64 bits.
    LongVarint,
    /// Field number 0, or one that does not fit into 29 bits.
    BadField,
    /// Wire type 3, 4, 6 or 7.
    BadWireType,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "value cut off by the end of its message",
            Self::LengthPastEnd => "length points past the end of its message",
            Self::LongVarint => "varint longer than 64 bits",
            Self::BadField => "impossible field number",
            Self::BadWireType => "unsupported wire type",
        })
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "protobuf: {} at byte {}", self.what, self.offset)
    }
}

impl core::error::Error for WireError {}

/// How much a body holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyShape {
    /// Log groups, those without logs included.
    pub groups: u32,
    /// Logs of all groups.
    pub records: u32,
}

/// Where the own fields of the first groups of a body begin, as [`survey`] saw it: offsets in the body, 0 for unknown.
/// Writers put them behind the logs, and to walk over the logs again once the body has left the cache costs as much as
/// a third of writing the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tails([u32; TAILS]);

/// Groups whose tails are remembered: a body of the usual size has fewer.
const TAILS: usize = 64;

impl Default for Tails {
    fn default() -> Self {
        Self([0; TAILS])
    }
}

/// Counts groups and records. Checks the lengths of groups and of the fields in them, not the contents of logs.
pub fn scan(body: &[u8]) -> Result<BodyShape, WireError> {
    survey(body, &mut Tails::default())
}

/// [`scan`] that also notes where the logs of each group end.
pub fn survey(body: &[u8], tails: &mut Tails) -> Result<BodyShape, WireError> {
    let mut shape = BodyShape::default();
    let mut list = Reader::new(body);
    while let Some(tag) = list.tag()? {
        if tag != LIST_GROUP {
            list.skip(tag)?;
            continue;
        }
        shape.groups = shape.groups.saturating_add(1);
        let mut group = list.message()?;
        loop {
            while let Some(log) = group.usual_log() {
                shape.records = shape.records.saturating_add(1);
                group.pos = log.end;
            }
            if let Some(tail) = tails.0.get_mut(shape.groups as usize - 1).filter(|tail| **tail == 0) {
                *tail = u32::try_from(group.pos).unwrap_or(0);
            }
            let Some(tag) = group.tag()? else { break };
            if tag == GROUP_LOG {
                shape.records = shape.records.saturating_add(1);
            }
            group.skip(tag)?;
        }
    }
    Ok(shape)
}

/// A place between two records of a body. Plain numbers: the engine keeps it while the body waits for credit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// First byte of the current group.
    pub group_start: usize,
    /// First byte after the current group.
    pub group_end: usize,
    /// Next byte to look at within the current group.
    pub log_offset: usize,
    /// Groups entered so far: the current one has index `group_count - 1`.
    pub group_count: u32,
    /// Index in the body of the next record.
    pub record_index: u32,
    /// Where the own fields of the groups begin, where that is known.
    pub tails: Tails,
}

/// Where a message lies in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// First byte after it.
    pub end: usize,
}

impl Position {
    /// The front of the body that `tails` were noted in.
    pub fn with(tails: Tails) -> Self {
        Self { tails, ..Self::default() }
    }

    /// What stands before the own fields of the current group are logs alone.
    fn tail(&self) -> Option<usize> {
        let index = (self.group_count as usize).checked_sub(1)?;
        let tail = *self.tails.0.get(index)? as usize;
        (self.group_start..=self.group_end).contains(&tail).then_some(tail)
    }

    /// Moves to the front of the next log, entering groups as needed, and says where the log lies. `None` at the
    /// end of the body. Repeating it changes nothing.
    #[inline]
    pub fn seek(&mut self, body: &[u8]) -> Result<Option<Span>, WireError> {
        loop {
            let mut group = Reader::within(body, Span { start: self.log_offset, end: self.group_end })?;
            if let Some(log) = group.usual_log() {
                return Ok(Some(log));
            }
            while let Some(tag) = group.tag()? {
                if tag == GROUP_LOG {
                    return group.span().map(Some);
                }
                group.skip(tag)?;
                self.log_offset = group.pos;
            }
            if !self.enter_group(body)? {
                return Ok(None);
            }
        }
    }

    /// Steps over the log that [`Self::seek`] found.
    #[inline]
    pub fn pass(&mut self, log: Span) {
        self.log_offset = log.end;
        self.record_index = self.record_index.saturating_add(1);
    }

    /// Steps over `records` records without reading them; says how many there were.
    pub fn skip(&mut self, body: &[u8], records: u32) -> Result<u32, WireError> {
        for passed in 0..records {
            match self.seek(body)? {
                Some(log) => self.pass(log),
                None => return Ok(passed),
            }
        }
        Ok(records)
    }

    fn enter_group(&mut self, body: &[u8]) -> Result<bool, WireError> {
        let mut list = Reader::within(body, Span { start: self.group_end, end: body.len() })?;
        while let Some(tag) = list.tag()? {
            if tag == LIST_GROUP {
                let span = list.span()?;
                self.group_start = span.start;
                self.log_offset = span.start;
                self.group_end = span.end;
                self.group_count = self.group_count.saturating_add(1);
                return Ok(true);
            }
            list.skip(tag)?;
        }
        self.group_end = body.len();
        self.log_offset = body.len();
        self.group_start = body.len();
        Ok(false)
    }
}

/// The groups of a body in order.
#[derive(Clone, Debug)]
pub struct LogGroups<'a> {
    list: Reader<'a>,
    failed: bool,
}

impl<'a> LogGroups<'a> {
    /// Starts at the beginning of `body`.
    pub fn new(body: &'a [u8]) -> Self {
        Self { list: Reader::new(body), failed: false }
    }
}

impl<'a> Iterator for LogGroups<'a> {
    type Item = Result<LogGroup<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let list = &mut self.list;
        fused(&mut self.failed, || {
            while let Some(tag) = list.tag()? {
                if tag == LIST_GROUP {
                    let group = list.message()?;
                    return LogGroup::read(group, group).map(Some);
                }
                list.skip(tag)?;
            }
            Ok(None)
        })
    }
}

/// One log group: its own fields. Writers put them after the logs, so a first pass steps over the logs.
#[derive(Clone, Copy, Debug)]
pub struct LogGroup<'a> {
    /// `Topic`, empty when absent.
    pub topic: &'a [u8],
    /// `Source`, empty when absent.
    pub source: &'a [u8],
    /// `MachineUUID`, empty when absent.
    pub machine_uuid: &'a [u8],
    reader: Reader<'a>,
    first_tag: Reader<'a>,
}

impl<'a> LogGroup<'a> {
    /// The group that `at` stands in, after [`Position::seek`] found a log there.
    pub fn at(body: &'a [u8], at: &Position) -> Result<Self, WireError> {
        let reader = Reader::within(body, Span { start: at.group_start, end: at.group_end })?;
        let mut tail = reader;
        tail.pos = at.tail().unwrap_or(reader.pos);
        Self::read(reader, tail)
    }

    /// `rest` is `reader`, or what is left of it behind the first logs.
    fn read(reader: Reader<'a>, mut rest: Reader<'a>) -> Result<Self, WireError> {
        let mut group =
            Self { topic: &[], source: &[], machine_uuid: &[], reader, first_tag: reader.at_end() };
        let mut tags_seen = false;
        loop {
            while let Some(log) = rest.usual_log() {
                rest.pos = log.end;
            }
            let here = rest;
            match rest.tag()? {
                None => return Ok(group),
                Some(GROUP_TOPIC) => group.topic = rest.bytes()?,
                Some(GROUP_SOURCE) => group.source = rest.bytes()?,
                Some(GROUP_MACHINE) => group.machine_uuid = rest.bytes()?,
                Some(tag) => {
                    if tag == GROUP_TAG && !tags_seen {
                        tags_seen = true;
                        group.first_tag = here;
                    }
                    rest.skip(tag)?;
                }
            }
        }
    }

    /// Tags as (key, value), in order, repeated ones included.
    pub fn tags(&self) -> Pairs<'a> {
        Pairs { message: self.first_tag, wanted: GROUP_TAG, failed: false }
    }

    /// The logs in order.
    pub fn logs(&self) -> Logs<'a> {
        Logs { group: self.reader, failed: false }
    }
}

/// The logs of one group.
#[derive(Clone, Debug)]
pub struct Logs<'a> {
    group: Reader<'a>,
    failed: bool,
}

impl<'a> Iterator for Logs<'a> {
    type Item = Result<Log<'a>, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let group = &mut self.group;
        fused(&mut self.failed, || {
            if let Some(log) = group.usual_log() {
                group.pos = log.end;
                return Log::at(group.bytes, log).map(Some);
            }
            while let Some(tag) = group.tag()? {
                if tag == GROUP_LOG {
                    return Ok(Some(Log { reader: group.message()? }));
                }
                group.skip(tag)?;
            }
            Ok(None)
        })
    }
}

/// One log. Nothing of it is read before it is asked for: the time's fraction stands behind the contents.
#[derive(Clone, Copy, Debug)]
pub struct Log<'a> {
    reader: Reader<'a>,
}

/// When a log happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogTime {
    /// Unix seconds; 0 when absent. A longer varint is cut to 32 bits, as protobuf does.
    pub secs: u32,
    /// Nanosecond part as sent: peers may put more than 999,999,999 into it.
    pub nanos: Option<u32>,
}

/// One field of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogField<'a> {
    /// Seconds of the log's time; the last one counts.
    Secs(u32),
    /// Nanoseconds of the log's time; the last one counts.
    Nanos(u32),
    /// A (key, value) pair.
    Content(&'a [u8], &'a [u8]),
}

impl<'a> Log<'a> {
    /// The log at `span` of `body`, as [`Position::seek`] found it.
    pub fn at(body: &'a [u8], span: Span) -> Result<Self, WireError> {
        Reader::within(body, span).map(|reader| Self { reader })
    }

    /// Its time: steps over all contents.
    pub fn time(&self) -> Result<LogTime, WireError> {
        let mut time = LogTime::default();
        let mut rest = self.reader;
        while let Some(tag) = rest.tag()? {
            match tag {
                LOG_SECS => time.secs = rest.uint32()?,
                LOG_NANOS => time.nanos = Some(rest.fixed32()?),
                other => rest.skip(other)?,
            }
        }
        Ok(time)
    }

    /// A time read from both ends of the log, where writers put its parts. It can be wrong: check it against the
    /// fields once they are read.
    #[inline]
    pub(crate) fn guess_time(&self) -> LogTime {
        let secs = usual_secs(self.reader.rest()).map_or(0, |(secs, _)| secs);
        let nanos = match self.reader.rest().last_chunk::<5>() {
            Some(&[0x25, a, b, c, d]) => Some(u32::from_le_bytes([a, b, c, d])),
            _ => None,
        };
        LogTime { secs, nanos }
    }

    /// The fields in wire order, each read once.
    pub fn fields(&self) -> LogFields<'a> {
        LogFields { log: self.reader, failed: false }
    }

    /// The (key, value) pairs in order, repeated ones included.
    pub fn contents(&self) -> Pairs<'a> {
        Pairs { message: self.reader, wanted: LOG_CONTENT, failed: false }
    }

    /// Value of the last content named `key`, as a reader that keeps the last sees it.
    pub fn last(&self, key: &[u8]) -> Result<Option<&'a [u8]>, WireError> {
        let mut found = None;
        for pair in self.contents() {
            let (name, value) = pair?;
            if name == key {
                found = Some(value);
            }
        }
        Ok(found)
    }
}

/// The fields of one log.
#[derive(Clone, Debug)]
pub struct LogFields<'a> {
    log: Reader<'a>,
    failed: bool,
}

impl<'a> LogFields<'a> {
    /// Fields of the rest of a log: for a reader that stepped over the first ones by itself.
    #[inline]
    pub(crate) fn within(body: &'a [u8], span: Span) -> Result<Self, WireError> {
        Reader::within(body, span).map(|log| Self { log, failed: false })
    }

    /// Offset in the body of the next field.
    #[inline]
    pub(crate) fn offset(&self) -> usize {
        self.log.pos
    }
}

impl<'a> Iterator for LogFields<'a> {
    type Item = Result<LogField<'a>, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let log = &mut self.log;
        fused(&mut self.failed, || {
            if let Some((key, value)) = log.usual_content() {
                return Ok(Some(LogField::Content(key, value)));
            }
            while let Some(tag) = log.tag()? {
                return Ok(Some(match tag {
                    LOG_CONTENT => {
                        let (key, value) = log.message()?.pair()?;
                        LogField::Content(key, value)
                    }
                    LOG_SECS => LogField::Secs(log.uint32()?),
                    LOG_NANOS => LogField::Nanos(log.fixed32()?),
                    other => {
                        log.skip(other)?;
                        continue;
                    }
                }));
            }
            Ok(None)
        })
    }
}

/// (key, value) messages of one field of a message: contents of a log, tags of a group.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    message: Reader<'a>,
    wanted: u32,
    failed: bool,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (message, wanted) = (&mut self.message, self.wanted);
        fused(&mut self.failed, || {
            while let Some(tag) = message.tag()? {
                if tag == wanted {
                    return message.message()?.pair().map(Some);
                }
                message.skip(tag)?;
            }
            Ok(None)
        })
    }
}

/// An iterator step that ends for good after its first error.
#[inline]
fn fused<T>(
    failed: &mut bool,
    step: impl FnOnce() -> Result<Option<T>, WireError>,
) -> Option<Result<T, WireError>> {
    if *failed {
        return None;
    }
    let item = step();
    *failed = item.is_err();
    item.transpose()
}

// Keys of the schema's fields: number << 3 | wire type.
const LIST_GROUP: u32 = 1 << 3 | 2;
const GROUP_LOG: u32 = 1 << 3 | 2;
const GROUP_TOPIC: u32 = 3 << 3 | 2;
const GROUP_SOURCE: u32 = 4 << 3 | 2;
const GROUP_MACHINE: u32 = 5 << 3 | 2;
const GROUP_TAG: u32 = 6 << 3 | 2;
const LOG_SECS: u32 = 1 << 3;
const LOG_CONTENT: u32 = 2 << 3 | 2;
const LOG_NANOS: u32 = 4 << 3 | 5;

#[cfg(test)]
mod tests;
