//! From bytes in the store to a published layer.
//!
//! A commit can be interrupted after any request and continued by any process, so it is a state
//! machine: [`mod@next`] decides from the facts at hand which request comes next, without doing
//! anything; [`perform`] makes that request and turns its answer into facts. Freezing the multipart
//! upload of a previous owner is the first half of the same machine.
//!
//! # Order
//!
//! 1. The session says `committing`, with all that publishing needs. It fences earlier owners.
//! 2. Complete, at a key that no other upload completes. The object then has the bytes or is absent.
//! 3. The record, by a conditional PUT: the commit point. Aliases and the link follow.
//! 4. The caller is answered. The session and what is left of the upload go in the background
//!    ([`cleanup`]).
//!
//! A layer of at most 16 KiB has no data object: record and link hold its bytes and are written at
//! once, beside the session, on which nothing depends.
//!
//! # Rules
//!
//! 1. A driver has looked at the bytes, and seen the session `committing`, at most 15 minutes before it signs the PUT of
//!    the record: one that was suspended must not publish what was removed meanwhile.
//! 2. A driver answers only if it saw the session `committing` at most 15 minutes ago, else
//!    it reads the session again: a cancelled upload is unknown.
//! 3. What is known to be damaged, and what S3 refuses to complete, can be cancelled. Its data objects
//!    stay, since another driver may be publishing them; a sweep removes them long after, unless
//!    the record or the link names them. Its multipart upload is aborted at once.
//! 4. A link relies on a record that was live at most 15 minutes ago ([`publish`](crate::s3::publish)), and so does the removal of
//!    the data of a duplicate: another driver that looked at them since would publish them if the record is dead.
//! 5. Commits of one upload take turns within a process, so retries never read back in parallel.

pub(crate) mod claims;
pub(crate) mod cleanup;
mod next;
mod perform;
mod readback;
mod recover;

pub(crate) use cleanup::{is_over, remove_unrecorded};
pub(crate) use next::Concurrency;
pub(crate) use perform::{cancel, commit, commit_inline, freeze};
pub(crate) use readback::wrong_claim;
