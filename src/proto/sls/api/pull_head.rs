//! What the head of a PullLogs answer says, before a byte of its body is here.
//!
//! Why: the next pull is sent as soon as its cursor is known, and the size decides whether memory is there for it.
//! Invariants: 1. `next_cursor` is never empty: where the server leaves it empty, the position stays.
//! Bounds: a cursor is at most `CURSOR_BYTES_MAX`, a request id 64 bytes.
//! Driven by: `shard`, with the head of a 200. Spec: protocol notes 3.4. Headers that only inform are ignored
//! where they are malformed; those that decide about data refuse the answer.

use thiserror::Error;

use super::answer::cursor_text;
use crate::proto::http1::Head;
use crate::proto::ids::Cursor;
use crate::proto::sls::body::Compression;
use crate::proto::sls::error::clean;

/// A head that is not one of PullLogs: something between us and SLS answered or took headers out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PullHeadError {
    /// A header without which the body cannot be taken.
    #[error("the answer to PullLogs has no header {header}: a proxy may have removed it")]
    Missing {
        /// Its name.
        header: &'static str,
    },
    /// A header with a value that cannot be.
    #[error(
        "the answer to PullLogs has the header {header} with the value {value:?}, which is not one of SLS"
    )]
    Bad {
        /// Its name.
        header: &'static str,
        /// As received, at most 64 characters.
        value: String,
    },
}

/// The head of an answer to PullLogs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullHead {
    /// Position behind this answer.
    pub next_cursor: Cursor,
    /// Log groups in the body.
    pub count: u64,
    /// Bytes of the decompressed body.
    pub raw_size: u64,
    /// How the body is compressed.
    pub compression: Compression,
    /// When the server received what is at the cursor, unix seconds.
    pub cursor_time: Option<u64>,
    /// True where the answer reaches the end of the shard.
    pub end_of_cursor: bool,
    /// Sequence number of the last log group in the body.
    pub read_last_cursor: Option<u64>,
    /// Bytes before the SPL filter.
    pub raw_data_size: Option<u64>,
    /// Log groups before the SPL filter.
    pub raw_data_count: Option<u64>,
    /// `x-log-requestid`, for reports.
    pub request_id: String,
}

impl PullHead {
    /// Reads the head of the answer to a pull from `asked`.
    pub fn parse(head: &Head<'_>, asked: &Cursor) -> Result<Self, PullHeadError> {
        Self::read(&|name| head.header(name), asked)
    }

    /// The same of headers that somebody else has taken apart; `header` looks one up by its name in lower case.
    pub fn read<'h>(
        header: &impl Fn(&'static str) -> Option<&'h str>,
        asked: &Cursor,
    ) -> Result<Self, PullHeadError> {
        let next_cursor = match required(header, CURSOR)? {
            "" => asked.clone(),
            text => cursor_text(text).map_err(|_| bad(CURSOR, text))?,
        };
        let compression = header(COMPRESSION).unwrap_or_default();
        let informs = |name| header(name).and_then(|text| text.parse().ok());
        Ok(Self {
            next_cursor,
            count: number(header, "x-log-count")?,
            raw_size: number(header, "x-log-bodyrawsize")?,
            compression: Compression::parse(compression).ok_or_else(|| bad(COMPRESSION, compression))?,
            cursor_time: informs("x-log-cursor-time"),
            end_of_cursor: matches!(header("x-log-end-of-cursor"), Some("1" | "true" | "True")),
            read_last_cursor: informs("x-log-read-last-cursor"),
            raw_data_size: informs("x-log-rawdatasize"),
            raw_data_count: informs("x-log-rawdatacount"),
            request_id: header("x-log-requestid").map(|text| clean(text, 64)).unwrap_or_default(),
        })
    }
}

const CURSOR: &str = "x-log-cursor";
const COMPRESSION: &str = "x-log-compresstype";

fn required<'h>(
    lookup: &impl Fn(&'static str) -> Option<&'h str>,
    header: &'static str,
) -> Result<&'h str, PullHeadError> {
    lookup(header).ok_or(PullHeadError::Missing { header })
}

fn number<'h>(
    lookup: &impl Fn(&'static str) -> Option<&'h str>,
    header: &'static str,
) -> Result<u64, PullHeadError> {
    let text = required(lookup, header)?;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| bad(header, text))
}

fn bad(header: &'static str, value: &str) -> PullHeadError {
    PullHeadError::Bad { header, value: clean(value, 64) }
}
