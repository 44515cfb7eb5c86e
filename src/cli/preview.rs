//! `sls2siem preview`: the frames that the sink would get, on standard output; nothing is sent and nothing is saved.
//!
//! Why: templates, indexes and formats are seen right or wrong at a glance, before the SIEM has a day of wrong events.
//! Invariants: 1. no lease is taken and no checkpoint moves: only shards, checkpoints, cursors and logs are read.
//! 2. the frames come from the encoder of `run`, with its settings.
//! Bounds: [`PULLS_MAX`] pulls of a shard, one body in memory.
//! Driven by: `main`, on its own thread. Spec: commands in README.md.

use std::io::{self, Write};

use super::PreviewArgs;
use super::run::parts;
use crate::config::{
    Environment, Moment, PipelineConfig, SinkConfig, SlsCompression, SlsConfig, SyslogTransport, SyslogUrl,
};
use crate::control::credentials::CredentialsSource;
use crate::control::sls_api::{Answer, ApiSpec, SlsApi};
use crate::drive::clock;
use crate::proto::format::Encoder;
use crate::proto::format::hec::RecordContext;
use crate::proto::format::syslog::MARK_BYTES;
use crate::proto::ids::{Cursor, ShardId};
use crate::proto::sls::api::answer::{self, AnswerError};
use crate::proto::sls::api::pull_head::PullHead;
use crate::proto::sls::api::{self, ApiRequest, CursorFrom, PullOptions};
use crate::proto::sls::body::{self, Compression};
use crate::proto::sls::lease::call::CallError;
use crate::proto::sls::sign::Credentials;
use crate::proto::sls::wire::Position;
use crate::proto::time::UnixTime;
use crate::report::{self, Doing, Exit, Place};

/// Pulls of one shard that may bring nothing, before the next one is looked at: a filter can hide everything.
const PULLS_MAX: u32 = 50;
/// Largest body that is believed.
const RAW_BYTES_MAX: usize = 64 << 20;

/// Prints the frames of each pipeline, or of the one that is named.
pub fn execute(args: &PreviewArgs, env: Environment) -> Exit {
    let loaded = match args.settings.load(env) {
        Ok(loaded) => loaded,
        Err(error) => return say(Exit::from(&error), &error.to_string()),
    };
    let wanted =
        |pipeline: &&PipelineConfig| args.pipeline.as_ref().is_none_or(|name| *name == pipeline.name);
    let pipelines: Vec<&PipelineConfig> = loaded.config.pipelines.iter().filter(wanted).collect();
    if pipelines.is_empty() {
        let names: Vec<&str> =
            loaded.config.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
        return say(Exit::Usage, &format!("there is no such pipeline; there are: {}", names.join(", ")));
    }
    let dead_letter = loaded.config.dead_letter.dir.is_some();
    for pipeline in pipelines {
        let mut out = io::stdout().lock();
        match show(pipeline, dead_letter, args.number, &mut out) {
            Ok(note) => drop(say(Exit::Done, &note)),
            Err(Stopped::Reader) => return Exit::Done,
            Err(Stopped::Trouble(exit, text)) => return say(exit, &text),
        }
    }
    Exit::Done
}

/// Notes and troubles go where they do not mix with the frames.
fn say(exit: Exit, text: &str) -> Exit {
    let _ = writeln!(io::stderr(), "sls2siem: {text}");
    exit
}

/// Why it ends early.
enum Stopped {
    /// Nobody reads what is printed (`| head`).
    Reader,
    Trouble(Exit, String),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Reader,
            _ => Self::Trouble(Exit::Failed, format!("standard output: {error}")),
        }
    }
}

fn show(
    pipeline: &PipelineConfig,
    dead_letter: bool,
    number: u32,
    out: &mut impl Write,
) -> Result<String, Stopped> {
    let unusable = |is_of_settings: bool, text: String| {
        Stopped::Trouble(Exit::of_start(is_of_settings), format!("pipeline {}: {text}", pipeline.name))
    };
    let spec = parts::api(&pipeline.sls, CONSUMER);
    let place = Place::new(pipeline);
    let credentials = CredentialsSource::new(&pipeline.sls.credentials).read().map_err(|error| {
        let text = report::no_credentials(&place, &error.to_string(), error.todo(), false);
        Stopped::Trouble(Exit::Failed, text.to_string())
    })?;
    let credentials = credentials.credentials;
    let params = parts::core(pipeline, spec.caller(), credentials.clone(), dead_letter)
        .map_err(|text| unusable(true, text))?;
    let api = SlsApi::new(&ApiSpec { call_timeout: crate::control::sls_api::CALL_TIMEOUT_MAX, ..spec });
    let api = api.map_err(|error| unusable(!error.is_shortage(), error.to_string()))?;
    let reader = Reader { sls: &pipeline.sls, place, api, credentials };
    let marked = matches!(&pipeline.sink, SinkConfig::Syslog(syslog) if syslog.endpoints.iter().any(is_framed_by_sink));
    let printer = Printer { encoder: params.encoder, batch_bytes: params.batch_bytes, marked };
    reader.frames(printer, number, out)
}

/// RELP and UDP have message boundaries of their own.
fn is_framed_by_sink(url: &SyslogUrl) -> bool {
    !matches!(url.transport, SyslogTransport::Tcp | SyslogTransport::Tls)
}

struct Reader<'a> {
    sls: &'a SlsConfig,
    place: Place,
    api: SlsApi,
    credentials: Credentials,
}

impl Reader<'_> {
    /// Shard after shard until enough logs were shown.
    fn frames(&self, mut printer: Printer, number: u32, out: &mut impl Write) -> Result<String, Stopped> {
        let shards = self.list(Doing::ListShards, &api::list_shards(&self.sls.logstore), answer::shards)?;
        let mut left = number;
        let mut from = Vec::new();
        for shard in shards.into_iter().map(|shard| shard.id) {
            if left == 0 {
                break;
            }
            let (start, mut cursor) = self.start(shard)?;
            let before = left;
            for _ in 0..PULLS_MAX {
                let pulled = self.pull(shard, &cursor, left)?;
                left -= printer.print(left, (shard, &cursor), &pulled.raw, out)?;
                if left == 0 || pulled.next == cursor {
                    break;
                }
                cursor = pulled.next;
            }
            if left < before {
                from.push(format!("{} of shard {shard} from {start}", before - left));
            }
        }
        out.flush()?;
        let what = if from.is_empty() { "no logs".to_owned() } else { format!("logs: {}", from.join(", ")) };
        Ok(format!("pipeline {}: {what}; nothing was sent, no checkpoint moved", self.place.pipeline))
    }

    /// Where `run` would begin with this shard.
    fn start(&self, shard: ShardId) -> Result<(&'static str, Cursor), Stopped> {
        let (logstore, group) = (self.sls.logstore.as_str(), self.sls.consumer_group.as_str());
        let request = api::get_checkpoint(logstore, group, Some(shard));
        match self.ask(&request) {
            Ok(answer) => {
                let mut saved = answer::checkpoints(&answer.body).unwrap_or_default().into_iter();
                let ours = saved.find(|saved| saved.shard == shard && !saved.cursor.is_empty());
                if let Some(cursor) = ours.map(|saved| saved.cursor) {
                    return Ok(("its checkpoint", cursor));
                }
            }
            // Without a group, or without the permission, the settings say where.
            Err(CallError::Sls(_)) => {}
            Err(error) => return Err(self.trouble(Doing::GetCheckpoint(shard), &error)),
        }
        let (name, from) = match self.sls.start {
            Moment::Begin => ("the oldest log", CursorFrom::Begin),
            Moment::End => ("the newest log", CursorFrom::End),
            Moment::At(secs) => ("the start setting", CursorFrom::Time(UnixTime::from_secs(secs))),
        };
        let request = api::get_cursor(logstore, shard, from);
        Ok((name, self.list(Doing::GetCursor(shard), &request, answer::cursor)?))
    }

    fn pull(&self, shard: ShardId, cursor: &Cursor, left: u32) -> Result<Pulled, Stopped> {
        let options = PullOptions {
            // A log group holds at least one log, mostly many.
            count: left.min(self.sls.max_log_groups),
            query: self.sls.query.as_deref().unwrap_or_default(),
            processor: self.sls.processor.as_deref().unwrap_or_default(),
            compression: match self.sls.compression {
                SlsCompression::Lz4 => Compression::Lz4,
                SlsCompression::Zstd => Compression::Zstd,
                SlsCompression::None => Compression::None,
            },
        };
        let request = api::pull_logs(&self.sls.logstore, shard, cursor, None, &options);
        let doing = Doing::Pull(shard);
        let answer = self.ask(&request).map_err(|error| self.trouble(doing, &error))?;
        pulled(&answer, cursor).map_err(|why| self.trouble(doing, &CallError::not_understood(why)))
    }

    fn ask(&self, request: &ApiRequest) -> Result<Answer, CallError> {
        self.api.ask(request, &self.credentials, RAW_BYTES_MAX)?.into_good()
    }

    fn list<T>(
        &self,
        doing: Doing,
        request: &ApiRequest,
        read: fn(&[u8]) -> Result<T, AnswerError>,
    ) -> Result<T, Stopped> {
        let answer = self.ask(request).map_err(|error| self.trouble(doing, &error))?;
        read(&answer.body).map_err(|error| self.trouble(doing, &CallError::not_understood(error.to_string())))
    }

    fn trouble(&self, doing: Doing, error: &CallError) -> Stopped {
        let text = match error {
            CallError::Sls(error) => report::sls_error(&self.place, doing, error, clock::wall()),
            CallError::Transport { why, .. } => report::sls_unreachable(&self.place, doing, why),
        };
        Stopped::Trouble(Exit::Failed, text.to_string())
    }
}

struct Pulled {
    raw: Vec<u8>,
    next: Cursor,
}

fn pulled(answer: &Answer, asked: &Cursor) -> Result<Pulled, String> {
    let head = PullHead::read(&|name| answer.header(name), asked).map_err(|error| error.to_string())?;
    let raw_size = usize::try_from(head.raw_size).map_err(|error| error.to_string())?;
    let mut raw = Vec::new();
    body::decompress(head.compression, &answer.body, raw_size, RAW_BYTES_MAX, &mut raw)
        .map_err(|error| error.to_string())?;
    Ok(Pulled { raw, next: head.next_cursor })
}

/// Writes frames as the sink would get them.
struct Printer {
    encoder: Encoder,
    batch_bytes: usize,
    /// The sink puts headers of its own around each message; here each is a line.
    marked: bool,
}

impl Printer {
    /// Encodes and prints at most `left` records; how many there were.
    fn print(
        &mut self,
        left: u32,
        (shard, cursor): (ShardId, &Cursor),
        raw: &[u8],
        out: &mut impl Write,
    ) -> Result<u32, Stopped> {
        let context = RecordContext { shard, cursor };
        let (mut at, mut frame, mut records) = (Position::default(), Vec::new(), 0);
        while records < left {
            frame.clear();
            let written = self.encoder.encode(raw, &mut at, left, self.batch_bytes, &context, &mut frame);
            let written = written.map_err(|error| {
                Stopped::Trouble(Exit::Failed, format!("a pull of shard {shard} holds a broken log: {error}"))
            })?;
            if self.marked {
                lines_of(&frame, out)?;
            } else {
                out.write_all(&frame)?;
            }
            records += written.records;
            if written.body_done || written.records == 0 {
                break;
            }
        }
        Ok(records)
    }
}

/// Messages behind marks: their length in four bytes, the lowest first, and one more byte.
fn lines_of(mut frame: &[u8], out: &mut impl Write) -> io::Result<()> {
    while let Some(([a, b, c, d, _first], rest)) = frame.split_first_chunk::<MARK_BYTES>() {
        let bytes = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
        let (message, rest) = rest.split_at_checked(bytes).unwrap_or((rest, &[]));
        out.write_all(message)?;
        out.write_all(b"\n")?;
        frame = rest;
    }
    Ok(())
}

/// Named in the user agent; it never joins the group.
const CONSUMER: &str = "sls2siem-preview";
