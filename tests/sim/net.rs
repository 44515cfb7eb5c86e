//! Connections of the virtual world, and HTTP as the servers speak it.

/// A request as a server reads it.
#[derive(Debug)]
pub struct Request {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    query: Vec<(String, String)>,
}

impl Request {
    pub fn query(&self, key: &str) -> Option<String> {
        self.query.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What a server sends.
#[derive(Debug)]
pub struct Answer {
    pub bytes: Vec<u8>,
    /// Nothing is sent, ever.
    pub hang: bool,
    /// Only a part is sent, then the connection breaks.
    pub torn: bool,
    /// The connection ends after the answer.
    pub close: bool,
    /// It comes so much later, ns, and whatever follows on the connection behind it.
    pub late: u64,
}

impl Answer {
    pub fn new(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> Self {
        let mut bytes = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n", body.len()).into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&body);
        Self { bytes, hang: false, torn: false, close: false, late: 0 }
    }

    pub fn hang() -> Self {
        Self { bytes: Vec::new(), hang: true, torn: false, close: false, late: 0 }
    }
}

/// Takes the first whole request out of `buffer`.
pub fn take_request(buffer: &mut Vec<u8>) -> Option<Request> {
    let head_end = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Request::new(&mut headers);
    assert!(parsed.parse(&buffer[..head_end]).expect("the core writes valid HTTP").is_complete());
    let target = parsed.path.unwrap().to_owned();
    let headers: Vec<(String, String)> = parsed
        .headers
        .iter()
        .map(|header| (header.name.to_owned(), String::from_utf8(header.value.to_vec()).unwrap()))
        .collect();
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    if buffer.len() < head_end + length {
        return None;
    }
    let body = buffer[head_end..head_end + length].to_vec();
    buffer.drain(..head_end + length);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.to_owned(), unescape(v)))
        .collect();
    Some(Request { path: path.to_owned(), headers, body, query })
}

fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex: String =
                [bytes.next().unwrap(), bytes.next().unwrap()].iter().map(|b| *b as char).collect();
            out.push(u8::from_str_radix(&hex, 16).unwrap());
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).unwrap()
}
