//! What checks are about, and how they can end.

use serde::Serialize;

/// A group of checks, and the promise that depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// What the credentials may do.
    Permissions,
    /// Writes that depend on what is stored.
    ConditionalWrites,
    /// Reads and listings of what was just written.
    ReadsAndLists,
    /// Multipart uploads.
    Parts,
    /// What the store verifies.
    Checksums,
    /// The clock, and what the store removes by itself.
    Environment,
}

impl Topic {
    /// What s3layers promises if these checks pass.
    pub fn promise(self) -> &'static str {
        match self {
            Topic::Permissions => "every operation is allowed",
            Topic::ConditionalWrites => "of concurrent writers at most one succeeds",
            Topic::ReadsAndLists => "every process finds what was acknowledged",
            Topic::Parts => "an interrupted upload can be resumed",
            Topic::Checksums => "corrupt bytes are never published",
            Topic::Environment => "the store removes no layer by itself",
        }
    }
}

/// How much depends on a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As expected.
    Ok,
    /// Amazon S3 answers otherwise; s3layers works around it.
    Note,
    /// s3layers works around it at a cost.
    Costs,
    /// A promise is broken.
    Breaks,
}

/// Whether a statement holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It holds.
    Yes,
    /// It does not hold.
    No,
    /// The store gave no answer that decides it.
    Unknown,
    /// Another result makes this check meaningless.
    Skipped,
}
