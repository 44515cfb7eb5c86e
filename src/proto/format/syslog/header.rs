//! Headers: what stands in front of the message, RFC 5424 or RFC 3164.
//!
//! Why: receivers route, and license, by these few fields, and a space or an umlaut in one of them shifts all that
//! follow.
//! Invariants: 1. fields are PRINTUSASCII within their lengths; an empty one is `-`. 2. an SD-ID stands once, an
//! empty parameter and an element without parameters not at all. 3. a TAG is letters and digits.
//! Bounds: a header without structured data is below 520 bytes; a short one below 160.
//! Driven by: `syslog`: front and tail for each message.
//! Spec: RFC 5424 section 6, RFC 3164 section 4.1. Departures: where CEF or LEEF begins the message of an RFC 3164
//! header, its own name is the TAG, as those formats want it.

use super::super::template::Template;
use super::escape::{Escapes, clean};
use super::framing::Framer;
use super::params::{HeaderForm, MessageForm, SdElement, SyslogParams};
use super::stamp::Stamp;
use crate::proto::sls::wire::{Log, LogGroup, LogTime, WireError};

/// Writes headers.
#[derive(Clone, Debug)]
pub(super) struct Header {
    form: HeaderForm,
    pub(super) stamp: Stamp,
    /// `<PRI>`, with the version in RFC 5424, for each severity.
    pri: [Vec<u8>; 8],
    hostname: Template,
    app_name: Template,
    proc_id: Template,
    msg_id: Template,
    data: Vec<Element>,
    data_escapes: Escapes,
    bom: bool,
    /// The message brings its own TAG.
    untagged: bool,
    rendered: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Element {
    /// `[ID`.
    id: Vec<u8>,
    params: Vec<Param>,
}

#[derive(Clone, Debug)]
struct Param {
    /// ` NAME="`.
    name: Vec<u8>,
    value: Template,
}

impl Header {
    pub(super) fn new(params: &SyslogParams) -> Self {
        let form = params.header;
        let version = if form == HeaderForm::Rfc5424 { "1 " } else { "" };
        let pri = |severity: usize| format!("<{}>{version}", usize::from(params.facility) * 8 + severity);
        let param = |(name, value): &(String, Template)| Param {
            name: format!(" {name}=\"").into_bytes(),
            value: value.clone(),
        };
        let element = |(id, params): &SdElement| Element {
            id: format!("[{id}").into_bytes(),
            params: params.iter().map(param).collect(),
        };
        // In a value of structured data a backslash is written as two, also the one that stands for a line break.
        let lines = if Framer::is_line(params.framing) {
            Escapes::none().with(b'\n', b"\\\\n").with(b'\r', b"\\\\r").with(0, b"\\\\0")
        } else {
            Escapes::none()
        };
        Self {
            form,
            stamp: Stamp::new(form, params.precision, params.utc_offset_secs),
            pri: core::array::from_fn(|severity| pri(severity).into_bytes()),
            hostname: params.hostname.clone(),
            app_name: params.app_name.clone(),
            proc_id: params.proc_id.clone(),
            msg_id: params.msg_id.clone(),
            data: params.structured_data.iter().map(element).collect(),
            data_escapes: lines.with(b'"', b"\\\"").with(b'\\', b"\\\\").with(b']', b"\\]"),
            bom: params.bom && form == HeaderForm::Rfc5424,
            untagged: matches!(params.message, MessageForm::Cef(_) | MessageForm::Leef(_)),
            rendered: Vec::new(),
        }
    }

    /// True when the tail can differ between the logs of one group.
    pub(super) fn needs_log(&self) -> bool {
        let fields = [&self.hostname, &self.app_name, &self.proc_id, &self.msg_id];
        let data = self.data.iter().flat_map(|element| element.params.iter().map(|param| &param.value));
        fields.into_iter().chain(data).any(Template::needs_log)
    }

    /// True where a message without a TAG of ours begins.
    pub(super) fn is_untagged(&self) -> bool {
        self.untagged && self.form == HeaderForm::Rfc3164
    }

    /// Appends PRI, version and time stamp.
    pub(super) fn front(&mut self, severity: u8, time: LogTime, out: &mut Vec<u8>) {
        out.extend_from_slice(self.pri.get(usize::from(severity)).map_or(&[], Vec::as_slice));
        self.stamp.write(time, out);
    }

    /// Appends the rest of the header. False when structured data was not UTF-8.
    pub(super) fn tail(
        &mut self,
        group: &LogGroup<'_>,
        log: Option<&Log<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<bool, WireError> {
        if self.form == HeaderForm::Rfc3164 {
            let tagged = !self.untagged;
            self.old_tail(group, log, HOSTNAME_MAX, tagged, out)?;
            return Ok(true);
        }
        self.field(&Which::Hostname, group, log, HOSTNAME_MAX, out)?;
        self.field(&Which::AppName, group, log, APP_NAME_MAX, out)?;
        self.field(&Which::ProcId, group, log, PROC_ID_MAX, out)?;
        self.field(&Which::MsgId, group, log, MSG_ID_MAX, out)?;
        out.push(b' ');
        let valid = self.structured_data(group, log, out)?;
        out.push(b' ');
        self.mark(out);
        Ok(valid)
    }

    /// Appends a tail that fits into any limit: no structured data, no ids, a cut host.
    pub(super) fn short_tail(
        &mut self,
        group: &LogGroup<'_>,
        log: &Log<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        if self.form == HeaderForm::Rfc3164 {
            return self.old_tail(group, Some(log), SHORT_HOSTNAME_MAX, true, out);
        }
        self.field(&Which::Hostname, group, Some(log), SHORT_HOSTNAME_MAX, out)?;
        self.field(&Which::AppName, group, Some(log), APP_NAME_MAX, out)?;
        out.extend_from_slice(b" - - - ");
        self.mark(out);
        Ok(())
    }

    fn mark(&self, out: &mut Vec<u8>) {
        if self.bom {
            out.extend_from_slice(BOM);
        }
    }

    /// Appends a space and one field.
    fn field(
        &mut self,
        which: &Which,
        group: &LogGroup<'_>,
        log: Option<&Log<'_>>,
        max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let template = match which {
            Which::Hostname => &self.hostname,
            Which::AppName => &self.app_name,
            Which::ProcId => &self.proc_id,
            Which::MsgId => &self.msg_id,
        };
        self.rendered.clear();
        template.render(group, log, &mut self.rendered)?;
        out.push(b' ');
        if self.rendered.is_empty() {
            out.push(b'-');
        }
        clean(&self.rendered, max, out);
        Ok(())
    }

    fn structured_data(
        &mut self,
        group: &LogGroup<'_>,
        log: Option<&Log<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<bool, WireError> {
        let (begin, mut valid) = (out.len(), true);
        for element in &self.data {
            let mark = out.len();
            out.extend_from_slice(&element.id);
            let empty = out.len();
            for param in &element.params {
                self.rendered.clear();
                param.value.render(group, log, &mut self.rendered)?;
                if !self.rendered.is_empty() {
                    out.extend_from_slice(&param.name);
                    valid &= self.data_escapes.append(&self.rendered, out);
                    out.push(b'"');
                }
            }
            if out.len() == empty {
                out.truncate(mark);
            } else {
                out.push(b']');
            }
        }
        if out.len() == begin {
            out.push(b'-');
        }
        Ok(valid)
    }

    /// ` HOST TAG[pid]: `, or ` HOST ` alone.
    fn old_tail(
        &mut self,
        group: &LogGroup<'_>,
        log: Option<&Log<'_>>,
        hostname_max: usize,
        tagged: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        self.field(&Which::Hostname, group, log, hostname_max, out)?;
        out.push(b' ');
        if !tagged {
            return Ok(());
        }
        let rendered = &mut self.rendered;
        rendered.clear();
        self.app_name.render(group, log, rendered)?;
        let tag = out.len();
        out.extend(rendered.iter().copied().filter(u8::is_ascii_alphanumeric).take(TAG_MAX));
        if out.len() == tag {
            out.extend_from_slice(TAG_UNKNOWN);
        }
        rendered.clear();
        self.proc_id.render(group, log, rendered)?;
        if !rendered.is_empty() {
            out.push(b'[');
            let pid = out.len();
            clean(rendered, OLD_PID_MAX, out);
            for byte in out.iter_mut().skip(pid).filter(|byte| matches!(byte, b'[' | b']' | b':')) {
                *byte = b'_';
            }
            out.push(b']');
        }
        out.extend_from_slice(b": ");
        Ok(())
    }
}

enum Which {
    Hostname,
    AppName,
    ProcId,
    MsgId,
}

const HOSTNAME_MAX: usize = 255;
const APP_NAME_MAX: usize = 48;
const PROC_ID_MAX: usize = 128;
const MSG_ID_MAX: usize = 32;
const TAG_MAX: usize = 32;
/// RFC 3164 says nothing about its length; a process id is short.
const OLD_PID_MAX: usize = 32;
const SHORT_HOSTNAME_MAX: usize = 64;
/// Without a TAG the first word of the message would be taken for it.
const TAG_UNKNOWN: &[u8] = b"sls";
const BOM: &[u8] = b"\xef\xbb\xbf";
