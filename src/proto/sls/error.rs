//! Error answers of SLS and what a consumer does about each.

/// An error answer, as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlsError {
    /// HTTP status.
    pub status: u16,
    /// `errorCode`, empty where the body is not the JSON of SLS.
    pub code: String,
    /// `errorMessage`, or the beginning of another body, at most 300 characters.
    pub message: String,
    /// `x-log-requestid`.
    pub request_id: String,
    /// `Date` of the answer, unix seconds: tells the clock skew.
    pub server_time: Option<u64>,
}
