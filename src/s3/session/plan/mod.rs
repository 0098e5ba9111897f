//! Decisions about a session, apart from carrying them out: no clock, no store, no waiting.

pub(crate) mod checkpoint;
pub(crate) mod part_cursor;
pub(crate) mod resume;
pub(crate) mod schedule;
