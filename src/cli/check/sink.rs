//! The sink of a pipeline, endpoint by endpoint.
//!
//! Why: several endpoints are there so that one may fail; each is looked at on its own.
//! Invariants: those of the command. Bounds: those of the command. Driven by: [`super`]. Spec: settings `[hec]`, `[syslog]`.

use super::{Printer, hec, syslog};
use crate::config::SinkConfig;
use crate::proto::event::{Alarm, Cause, Scope};
use crate::proto::ids::EndpointId;
use crate::report::{self, Finding, Grade, Place, Text, place_of};

/// Looks at every endpoint. `probe`: test messages may be sent to a syslog receiver.
pub(super) fn check(place: &Place, sink: &SinkConfig, probe: bool, out: &mut Printer) {
    match sink {
        SinkConfig::Hec(hec) => hec::check(place, hec, out),
        SinkConfig::Syslog(syslog) => syslog::check(place, syslog, probe, out),
        SinkConfig::Stdout(_) => {
            out.add(Finding::ok(&place_of(place), "stdout", "logs go to standard output"));
        }
    }
}

/// The words of the log for a trouble of an endpoint.
pub(super) fn text(place: &Place, endpoint: EndpointId, cause: Cause) -> Text {
    let alarm = Alarm { scope: Scope::Sink(endpoint), cause, retry_in: std::time::Duration::ZERO };
    report::alarm(place, &alarm, crate::drive::clock::wall())
}

/// A trouble of an endpoint.
pub(super) fn trouble(
    place: &Place,
    endpoint: EndpointId,
    grade: Grade,
    topic: &'static str,
    cause: Cause,
) -> Finding {
    Finding::of(grade, topic, place, text(place, endpoint, cause))
}
