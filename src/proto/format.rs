//! Records to bytes: JSON escaping, HEC envelopes, templates over a log's fields.

pub mod hec;
pub mod json;
pub mod template;
