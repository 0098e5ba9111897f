//! Decisions about a session, apart from carrying them out: no clock, no store, no waiting.

pub(crate) mod resume;
pub(crate) mod schedule;
