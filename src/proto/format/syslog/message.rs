//! What stands behind the header, in each of its forms.
//!
//! Why: the encoder knows headers, frames and lengths; it need not know what the text of a log looks like.
//! Invariants: 1. a message is UTF-8. 2. with newline framing it holds no LF, CR or NUL. 3. what a header does not
//! tell of a log's time (nanoseconds, the year in RFC 3164) stands in `json` and `kv`.
//! Bounds: as the forms. Driven by: `syslog`: [`Message::enter_group`], then [`Message::write`] for each log.
//! Spec: `json` is the HEC event.

use super::super::hec::{close_object, object_head};
use super::super::simd::{Kernel, Seen, Shapes};
use super::escape::Escapes;
use super::event::Event;
use super::framing::{Framer, Framing};
use super::kv::{AliyunKv, Kv};
use super::params::MessageForm;
use super::stamp::Stamp;
use crate::proto::sls::wire::{Log, LogGroup, LogTime, Span, WireError};

/// Writes messages.
#[derive(Clone, Debug)]
pub(super) struct Message {
    form: Form,
    kernel: Kernel,
    shapes: Shapes,
    /// What the logs of a group share.
    head: Vec<u8>,
    head_invalid: bool,
}

#[derive(Clone, Debug)]
enum Form {
    Json,
    Kv(Box<Kv>),
    AliyunKv(Box<AliyunKv>),
    Field(String, Box<Escapes>),
    Event(Box<Event>),
}

/// One log and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) body: &'a [u8],
    pub(super) group: &'a LogGroup<'a>,
    pub(super) log: &'a Log<'a>,
    pub(super) span: Span,
    /// 0 to 7.
    pub(super) severity: u8,
}

/// What a message turned out to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wrote {
    /// The true time of the log, and whether bytes were not UTF-8.
    pub(super) seen: Seen,
    /// It is an object of strings.
    pub(super) json: bool,
}

impl Message {
    pub(super) fn new(form: MessageForm, framing: Framing) -> Self {
        let form = match form {
            MessageForm::Json => Form::Json,
            MessageForm::Kv(separator) => Form::Kv(Box::new(Kv::new(&separator))),
            MessageForm::AliyunKv(separator) => Form::AliyunKv(Box::new(AliyunKv::new(&separator, framing))),
            MessageForm::Field(name) => {
                let line = Framer::is_line(framing);
                Form::Field(name, Box::new(if line { Escapes::lines() } else { Escapes::none() }))
            }
            MessageForm::Cef(params) => Form::Event(Box::new(Event::cef(&params))),
            MessageForm::Leef(params) => Form::Event(Box::new(Event::leef(&params))),
        };
        Self { form, kernel: Kernel::best(), shapes: Shapes::new(), head: Vec::new(), head_invalid: false }
    }

    /// Prepares what the logs of `group` share.
    pub(super) fn enter_group(&mut self, group: &LogGroup<'_>) -> Result<(), WireError> {
        self.head.clear();
        self.head_invalid = !match &mut self.form {
            Form::Json | Form::Field(..) => object_head(group, &mut self.head)?,
            Form::Kv(kv) => kv.head(group, &mut self.head)?,
            Form::AliyunKv(_) => true,
            Form::Event(event) => {
                event.enter_group(group)?;
                true
            }
        };
        Ok(())
    }

    /// Appends the message of one log whose time is thought to be `time`.
    pub(super) fn write(
        &mut self,
        record: &Record<'_>,
        stamp: &Stamp,
        time: LogTime,
        out: &mut Vec<u8>,
    ) -> Result<Wrote, WireError> {
        match &mut self.form {
            Form::Json => self.object(record, stamp, time, out),
            Form::Kv(kv) => {
                let begin = out.len();
                out.extend_from_slice(&self.head);
                let mut seen = kv.contents(record.body, record.span, stamp, time, &mut self.shapes, out)?;
                kv.finish(begin, out);
                seen.invalid |= self.head_invalid;
                Ok(Wrote { seen, json: false })
            }
            Form::AliyunKv(kv) => Ok(Wrote { seen: kv.message(record.group, record.log, out)?, json: false }),
            Form::Field(name, escapes) => match record.log.last(name.as_bytes())? {
                Some(value) if !value.is_empty() => {
                    let invalid = !escapes.append(value, out);
                    Ok(Wrote { seen: Seen { time: record.log.time()?, invalid }, json: false })
                }
                _ => self.object(record, stamp, time, out),
            },
            Form::Event(event) => {
                let (time, invalid) =
                    event.message(record.body, record.group, record.span, record.severity, out)?;
                Ok(Wrote { seen: Seen { time, invalid }, json: false })
            }
        }
    }

    fn object(
        &mut self,
        record: &Record<'_>,
        stamp: &Stamp,
        time: LogTime,
        out: &mut Vec<u8>,
    ) -> Result<Wrote, WireError> {
        out.extend_from_slice(&self.head);
        if stamp.hides_year() {
            number_member(b"\"__time__\":\"", time.secs, out);
        }
        if let Some(nanos) = stamp.hidden_nanos(time) {
            number_member(b"\"__time_ns_part__\":\"", nanos, out);
        }
        let mut seen = self.kernel.contents(record.body, record.span, &mut self.shapes, out)?;
        close_object(out);
        seen.invalid |= self.head_invalid;
        Ok(Wrote { seen, json: true })
    }
}

/// A member whose value is text, as all values are.
fn number_member(key: &[u8], number: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\",");
}
