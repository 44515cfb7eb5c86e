//! What the answers of HEC mean to an operator.
//!
//! Why: Splunk answers one word for troubles whose repairs differ, and a wrong port answers with a web page.
//! Invariants: 1. an answer that names no known code is judged by its status.
//! Bounds: none.   Driven by: `report`.   Spec: HEC status codes 0 to 28.

use std::fmt::Write as _;

use super::{Advice, clean};
use crate::proto::event::HecAnswer;

/// The cause as received.
pub(super) fn cause(answer: &HecAnswer) -> String {
    let mut out = match answer.code {
        Some(code) => format!("HTTP {}, code {code}: {}", answer.status, clean(&answer.text)),
        None => format!("HTTP {}: {}", answer.status, clean(&answer.text)),
    };
    if let Some(event) = answer.invalid_event {
        let _ = write!(out, ", event number {event}");
    }
    if let Some(location) = &answer.location {
        // A redirect can carry a session or token in its query.
        let target = location.split(['?', '#']).next().unwrap_or_default();
        let _ = write!(out, ", Location {}", clean(target));
    }
    out
}

/// What it means and what to do.
pub(super) fn advice(answer: &HecAnswer) -> Advice {
    match answer.code {
        Some(code) => token(code).or_else(|| event(code)).or_else(|| channel(code)).or_else(|| busy(code)),
        None => None,
    }
    .unwrap_or_else(|| by_status(answer.status))
}

fn token(code: u16) -> Option<Advice> {
    let todo = "set the right token: [hec] token_file, token or HEC_TOKEN, and restart";
    Some(match code {
        1 | 22 => Advice::new(
            "hec-token",
            "says that the token is disabled",
            "enable the token in Splunk (Settings, Data inputs, HTTP Event Collector); it goes on by itself",
        ),
        2 => {
            Advice::new("hec-token", "sees no token", "look for a proxy that strips the Authorization header")
        }
        3 => Advice::new("hec-token", "does not accept the form of the token", todo),
        4 | 21 => Advice::new(
            "hec-token",
            "refused the token",
            format!(
                "{todo}; right after a token was made in a cluster it can take a while to be known everywhere"
            ),
        ),
        16 => {
            Advice::new("hec-token", "refuses tokens in the query", "look for a proxy that rewrites requests")
        }
        _ => return None,
    })
}

fn event(code: u16) -> Option<Advice> {
    Some(match code {
        5 => Advice::new(
            "hec-event",
            "says that there is no data",
            "report this with the version: it is a bug",
        ),
        6 => Advice::new(
            "hec-event",
            "cannot parse an event",
            "raise maxEventSize in the indexer's inputs.conf where the log is larger than that (5 MB by default), or make \
             batches smaller ([hec] batch_bytes) where this is said of event 0: Splunk Cloud takes about 5 MB a request",
        ),
        7 => Advice::new(
            "hec-index",
            "refuses the index of an event",
            "check [hec] index (HEC_INDEX): the index must exist and stand in the token's list of allowed indexes; it goes \
             on by itself when the list is changed",
        ),
        12 | 13 => Advice::new("hec-event", "refuses an empty event", "check [hec] event"),
        15 => Advice::new("hec-event", "refuses the indexed fields of an event", "check [hec] fields"),
        _ => return None,
    })
}

fn channel(code: u16) -> Option<Advice> {
    Some(match code {
        10 | 28 => Advice::new(
            "hec-channel",
            "does not know the channel",
            "nothing: a new channel is used; when it lasts: name the indexers themselves in [hec] endpoints, or make the \
             load balancer keep sessions with cookies",
        ),
        11 => Advice::new("hec-channel", "refuses the channel", "look for a proxy that rewrites headers"),
        14 => Advice::new(
            "hec-ack-off",
            "does not acknowledge with this token",
            "turn on indexer acknowledgement for the token, or set [hec] ack = \"auto\" or \"off\"",
        ),
        _ => return None,
    })
}

fn busy(code: u16) -> Option<Advice> {
    let todo = "nothing, sending slows down by itself; when it lasts: the indexers are too slow, look at their queues";
    Some(match code {
        8 => Advice::new("hec-server", "has trouble of its own", "look into splunkd.log; it is tried again"),
        9 | 18 | 20 | 26 => Advice::new("hec-busy", "is busy: its queues are full", todo),
        19 | 27 => Advice::new("hec-busy", "cannot take more acknowledgements", todo),
        23 => Advice::new(
            "hec-busy",
            "is shutting down",
            "nothing: it is tried again, and other endpoints are used",
        ),
        _ => return None,
    })
}

fn by_status(status: u16) -> Advice {
    let wrong_port = "name the port of HEC in [hec] endpoints, 8088 unless it was changed";
    match status {
        300..=399 => Advice::new("hec-redirect", "redirects: this is Splunk Web, not HEC", wrong_port),
        401 | 403 => Advice::new(
            "hec-token",
            "refused us without a HEC code: a proxy or firewall answered, or the token is wrong",
            "check [hec] token (HEC_TOKEN) and what stands between here and Splunk",
        ),
        404 => Advice::new(
            "hec-not-found",
            "has no HEC at this address",
            "enable HEC (Global Settings of the HTTP Event Collector) and check host and port; an indexer that restarts \
             says this too, then it goes on by itself",
        ),
        405 => Advice::new("hec-not-found", "does not take events at this address", wrong_port),
        408 => Advice::new(
            "hec-slow",
            "waited too long for the request",
            "nothing; when it lasts: look at the network",
        ),
        413 => Advice::new(
            "hec-too-large",
            "refuses a body of this size",
            "set a smaller [hec] batch_bytes, or raise max_content_length in limits.conf [http_input]",
        ),
        415 => Advice::new("hec-encoding", "refuses the encoding", "set [hec] compression = \"none\""),
        429 | 503 => Advice::new(
            "hec-busy",
            "is busy",
            "nothing, sending slows down by itself; when it lasts: the indexers are too slow, look at their queues",
        ),
        502 | 504 => Advice::new(
            "hec-gateway",
            "is behind a load balancer that does not reach it",
            "look at the load balancer and the indexers behind it",
        ),
        500..=599 => {
            Advice::new("hec-server", "has trouble of its own", "look into splunkd.log; it is tried again")
        }
        200..=299 => Advice::new(
            "hec-unclear",
            "answered success, but not in the words of HEC",
            "check that the endpoint is HEC itself and not a page of a proxy; the batch is sent again",
        ),
        _ => Advice::new("hec-refused", "refuses the request", "see the text of the answer"),
    }
}
