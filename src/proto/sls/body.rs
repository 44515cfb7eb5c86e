//! The body of a pull: decompression into a reused buffer, checked against its headers.

/// Why a body was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Bytes of the decompressed body differ from `x-log-bodyrawsize`.
    RawSize {
        /// From the header.
        announced: u64,
        /// Found.
        found: u64,
    },
    /// Not a valid lz4 block, zstd frame or zlib stream.
    Compression(String),
}
