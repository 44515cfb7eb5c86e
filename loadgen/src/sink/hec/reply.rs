//! What the receiver answers: splunkd's codes, statuses, texts and pages.
//!
//! Why: a sender decides by status, code and `invalid-event-number`; one table keeps them in agreement.
//! Invariants: every code has one status and one text.   Bounds: none.
//! Driven by: `collector`, rendered by `conn`.   Spec: hec.md 1, 4, 5.

use std::fmt::Write as _;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// The connection ends after it.
    pub(super) close: bool,
}

impl Reply {
    /// The JSON body of a code.
    pub(super) fn code(code: u8) -> Self {
        Self::with(code, None, None)
    }

    /// The JSON body of a code with the numbers that may stand beside it.
    pub(super) fn with(code: u8, invalid: Option<usize>, ack_id: Option<u64>) -> Self {
        let (status, text) = meaning(code);
        Self::json(status, coded(text, code, invalid, ack_id))
    }

    /// An answer by status and, if given, code: what a fault asks for.
    pub(super) fn refusal(status: u16, code: Option<u8>) -> Self {
        let code = code.or(match status {
            401 => Some(2),
            403 => Some(4),
            429 => Some(26),
            500 => Some(8),
            503 => Some(9),
            _ => None,
        });
        match (status, code) {
            (_, Some(code)) => Self { status, ..Self::code(code) },
            (404 | 405, None) => Self::not_found(status),
            (301..=308, None) => Self::splunk_web(status),
            (status, None) => Self::html(status, "The server could not process the request."),
        }
    }

    /// Unknown path, or a method that the path does not take.
    pub(super) fn not_found(status: u16) -> Self {
        let text = "{\"text\":\"The requested URL was not found on this server.\",\"code\":404}";
        Self::json(status, text.to_owned())
    }

    /// What Splunk Web answers to a sender that got the port wrong.
    pub(super) fn splunk_web(status: u16) -> Self {
        let mut reply =
            Self::html(status, "The resource has moved temporarily <a href=\"/en-US/\">here</a>.");
        reply.headers.push(("Location", "/en-US/".to_owned()));
        reply
    }

    /// An error page.
    pub(super) fn html(status: u16, text: &str) -> Self {
        let title = format!("{status} {}", reason(status));
        Self {
            status,
            content_type: "text/html; charset=UTF-8",
            headers: Vec::new(),
            body: format!(
                "<!doctype html><html><head><title>{title}</title></head><body><h1>{title}</h1><p>{text}</p></body></html>\r\n"
            )
            .into_bytes(),
            close: false,
        }
    }

    /// A body over the limit.
    pub(super) fn too_large(size: u64, max: usize) -> Self {
        let text = format!("Content-Length of {size} too large (maximum is {max})");
        Self { close: true, ..Self::html(413, &text) }
    }

    /// An empty answer to OPTIONS.
    pub(super) fn options(allow: &str) -> Self {
        let mut reply = Self::json(200, String::new());
        reply.headers.push(("Allow", allow.to_owned()));
        reply
    }

    /// Any JSON.
    pub(super) fn json(status: u16, body: String) -> Self {
        Self {
            status,
            content_type: "application/json; charset=UTF-8",
            headers: Vec::new(),
            body: body.into_bytes(),
            close: false,
        }
    }

    /// The bytes on the wire; `minor` is that of the HTTP version answered with.
    pub(super) fn render(&self, minor: u8, close: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.{minor} {} {}\r\n", self.status, reason(self.status));
        let connection = if close { "Close" } else { "Keep-Alive" };
        // Writing into a String cannot fail.
        let _ = write!(
            head,
            "Server: Splunkd\r\nContent-Type: {}\r\nX-Content-Type-Options: nosniff\r\nContent-Length: {}\r\n\
             Vary: Authorization\r\nConnection: {connection}\r\n",
            self.content_type,
            self.body.len()
        );
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The code in the body, if it is one of splunkd's.
    pub(super) fn code_in_body(&self) -> Option<u64> {
        serde_json::from_slice::<serde_json::Value>(&self.body).ok()?.get("code")?.as_u64()
    }
}

fn coded(text: &str, code: u8, invalid: Option<usize>, ack_id: Option<u64>) -> String {
    let mut body = format!("{{\"text\":\"{text}\",\"code\":{code}");
    if let Some(number) = invalid {
        let _ = write!(body, ",\"invalid-event-number\":{number}");
    }
    if let Some(id) = ack_id {
        let _ = write!(body, ",\"ackId\":{id}");
    }
    body.push('}');
    body
}

/// Status and text of a code.
pub(super) fn meaning(code: u8) -> (u16, &'static str) {
    match code {
        0 => (200, "Success"),
        1 => (403, "Token disabled"),
        2 => (401, "Token is required"),
        3 => (401, "Invalid authorization"),
        4 => (403, "Invalid token"),
        5 => (400, "No data"),
        6 => (400, "Invalid data format"),
        7 => (400, "Incorrect index"),
        8 => (500, "Internal server error"),
        9 => (503, "Server is busy"),
        10 => (400, "Data channel is missing"),
        11 => (400, "Invalid data channel"),
        12 => (400, "Event field is required"),
        13 => (400, "Event field cannot be blank"),
        14 => (400, "ACK is disabled"),
        15 => (400, "Error in handling indexed fields"),
        16 => (400, "Query string authorization is not enabled"),
        17 => (200, "HEC is healthy"),
        18 => (503, "HEC is unhealthy, queues are full"),
        19 => (503, "HEC is unhealthy, ack service unavailable"),
        20 => (503, "HEC is unhealthy, queues are full, ack service unavailable"),
        21 => (400, "Invalid token"),
        22 => (400, "Token disabled"),
        23 => (503, "Server is shutting down"),
        24 => (200, "HEC queue is approaching its capacity limit"),
        25 => (200, "HEC ACK is approaching its capacity limit"),
        26 => (429, "HEC queue is at capacity and cannot process any more requests"),
        27 => (429, "HEC ACK channel is at capacity and cannot process any more requests"),
        28 => (
            400,
            "Data channel is missing. If you have multiple indexers, sticky session load balancers must be provisioned",
        ),
        _ => (500, "Unknown code"),
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        303 => "See Other",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}
