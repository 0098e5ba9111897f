//! Which request a commit makes next. Pure: the answer follows from the facts alone, so a driver
//! that begins anywhere, knowing nothing, comes to the same end.

/// Who else may be completing the multipart upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concurrency {
    /// No other process: this handle has just written the session, or it was written long ago.
    None,
    /// The process that wrote the session. Not every store survives two Completes at once:
    /// LocalStack has emptied the object then.
    Possible,
}

/// What the driver is to achieve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// A complete object of the recorded parts.
    Freeze,
    /// A published layer.
    Publish,
}

/// What is known of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bytes {
    Unknown,
    /// The object is not there; the parts are, with the ETags that are known.
    InParts,
    /// S3 does not know the multipart upload: it was completed, or is lost.
    UploadGone,
    /// S3 refused to complete these parts.
    PartsRefused,
    /// All bytes are in complete objects.
    Complete(Proof),
    /// The object and the multipart upload are both missing.
    Gone,
    /// They are there, and are not those that were sent.
    Damaged(String),
}

/// How it is known that an object has the bytes that were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// By the store's checksum, or by the ETags of its parts.
    Store,
    /// Not: it has to be read.
    None,
}

/// What reading the bytes back has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReadBack {
    NotNeeded,
    Needed,
    Verified,
    /// The bytes are those that were sent, and have not the id that was claimed.
    WrongClaim,
    /// The bytes are not those that were sent.
    Differs,
}

/// What is known of the layer's documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PublishState {
    Unknown,
    /// The record is there, the link may not be.
    Record,
    /// Both are there.
    Linked,
    /// Looked for, and not there.
    Absent,
}

/// What is known of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionState {
    /// It was `committing` a short time ago.
    Committing,
    /// It was `committing` too long ago.
    Stale,
    /// Another driver has removed it, or it was published and removed.
    Removed,
    Cancelled,
}

/// All that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) goal: Goal,
    pub(super) concurrency: Concurrency,
    /// The bytes are in the documents themselves.
    pub(super) is_inline: bool,
    /// The session does not say `committing` yet: it is written together with the documents.
    pub(super) is_pending: bool,
    /// Parts are to be completed; else all bytes are in complete objects already.
    pub(super) has_parts: bool,
    pub(super) bytes: Bytes,
    /// How often the parts were listed after a refusal.
    pub(super) listings: u32,
    /// The bytes were looked at a short time ago.
    pub(super) is_fresh: bool,
    pub(super) read_back: ReadBack,
    pub(super) published: PublishState,
    pub(super) session: SessionState,
}

/// One step of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// HEAD of the object, repeated for a few seconds while it is absent.
    AwaitObject,
    /// HEAD of every object.
    Look,
    Complete,
    ListParts,
    ReadBack,
    Publish,
    Link,
    /// Record, link and, where it does not say `committing` yet, the session at once.
    PublishInline,
    /// Write the session as `rejected`.
    Reject,
    /// Look for a layer that another driver has published.
    FindPublished,
    /// Read the session again.
    ReadSession,
    End(End),
}

/// How a commit ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Frozen,
    Published,
    WrongClaim,
    UploadUnknown,
    Damaged(String),
}

/// A store that takes only parts of one size says no more than this.
const PARTS_REFUSED: &str = "the store refuses to complete its parts (`s3layers doctor` says whether it takes parts of different sizes)";
/// How often parts are listed after S3 has refused them: a listing may lag behind.
const LISTINGS: u32 = 2;

pub(super) fn next(facts: &Facts) -> Step {
    let may_wait = facts.concurrency == Concurrency::Possible;
    match &facts.bytes {
        Bytes::Unknown if !facts.has_parts => Step::Look,
        Bytes::Unknown if may_wait => Step::AwaitObject,
        Bytes::Unknown | Bytes::InParts => Step::Complete,
        Bytes::UploadGone => Step::AwaitObject,
        Bytes::PartsRefused if facts.listings < LISTINGS => Step::ListParts,
        Bytes::PartsRefused => Step::End(End::Damaged(PARTS_REFUSED.to_owned())),
        Bytes::Damaged(reason) => Step::End(End::Damaged(reason.clone())),
        Bytes::Gone => after_loss(facts),
        Bytes::Complete(proof) => match facts.goal {
            Goal::Freeze => Step::End(End::Frozen),
            Goal::Publish => towards_publication(facts, *proof),
        },
    }
}

/// The bytes are complete.
fn towards_publication(facts: &Facts, proof: Proof) -> Step {
    let has_to_be_read = facts.read_back == ReadBack::Needed
        || (proof == Proof::None && facts.read_back == ReadBack::NotNeeded);
    match (&facts.read_back, facts.published) {
        (ReadBack::WrongClaim, _) if facts.is_pending => Step::End(End::WrongClaim),
        (ReadBack::WrongClaim, _) => Step::Reject,
        (ReadBack::Differs, _) => {
            let reason = "its bytes are not those that were sent".to_owned();
            Step::End(End::Damaged(reason))
        }
        (_, PublishState::Linked) => answer(facts),
        (_, PublishState::Record) => Step::Link,
        _ if has_to_be_read => Step::ReadBack,
        _ if facts.is_inline => Step::PublishInline,
        _ if !facts.is_fresh => Step::Look,
        (_, published) => match facts.session {
            SessionState::Committing => Step::Publish,
            // A sweep may be removing the bytes that were just seen.
            SessionState::Stale => Step::ReadSession,
            SessionState::Removed if published == PublishState::Unknown => Step::FindPublished,
            SessionState::Removed | SessionState::Cancelled => Step::End(End::UploadUnknown),
        },
    }
}

/// The bytes are gone: another driver has published them, or has found a duplicate and removed
/// them, or they are lost.
fn after_loss(facts: &Facts) -> Step {
    match (facts.goal, facts.published, facts.session) {
        (Goal::Publish, PublishState::Unknown, _) => Step::FindPublished,
        (Goal::Publish, PublishState::Record, _) => Step::Link,
        (Goal::Publish, PublishState::Linked, _) => Step::End(End::Published),
        (Goal::Publish, PublishState::Absent, SessionState::Committing | SessionState::Stale) => {
            Step::End(End::Damaged(
                "the bytes of the upload are gone, and no layer came of them".to_owned(),
            ))
        }
        (Goal::Publish, PublishState::Absent, _) => Step::End(End::UploadUnknown),
        (Goal::Freeze, ..) => Step::End(End::Damaged("its multipart upload is gone".to_owned())),
    }
}

/// The layer is published and linked.
fn answer(facts: &Facts) -> Step {
    match facts.session {
        SessionState::Committing | SessionState::Removed => Step::End(End::Published),
        SessionState::Stale => Step::ReadSession,
        SessionState::Cancelled => Step::End(End::UploadUnknown),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, VecDeque};

    use super::*;

    fn facts() -> Facts {
        Facts {
            goal: Goal::Publish,
            concurrency: Concurrency::None,
            is_inline: false,
            is_pending: false,
            has_parts: true,
            bytes: Bytes::Unknown,
            listings: 0,
            is_fresh: false,
            read_back: ReadBack::NotNeeded,
            published: PublishState::Unknown,
            session: SessionState::Committing,
        }
    }

    fn complete() -> Facts {
        Facts {
            bytes: Bytes::Complete(Proof::Store),
            is_fresh: true,
            ..facts()
        }
    }

    fn damaged(reason: &str) -> Step {
        Step::End(End::Damaged(reason.to_owned()))
    }

    #[test]
    #[rustfmt::skip]
    fn step_follows_from_the_facts() {
        let bytes = |bytes| Facts { bytes, ..facts() };
        let lost = "the bytes of the upload are gone, and no layer came of them";
        for (case, facts, want) in [
            ("begun by this handle", facts(), Step::Complete),
            ("begun by another process", Facts { concurrency: Concurrency::Possible, ..facts() }, Step::AwaitObject),
            ("it is not completed", bytes(Bytes::InParts), Step::Complete),
            ("all bytes are in segments", Facts { has_parts: false, ..facts() }, Step::Look),
            ("S3 does not know the upload", bytes(Bytes::UploadGone), Step::AwaitObject),
            ("S3 refuses the parts", bytes(Bytes::PartsRefused), Step::ListParts),
            ("S3 refuses them for good", Facts { listings: 2, ..bytes(Bytes::PartsRefused) }, damaged(PARTS_REFUSED)),
            ("completed", complete(), Step::Publish),
            ("frozen", Facts { goal: Goal::Freeze, ..complete() }, Step::End(End::Frozen)),
            ("completed long ago", Facts { is_fresh: false, ..complete() }, Step::Look),
            ("the session was seen long ago", Facts { session: SessionState::Stale, ..complete() }, Step::ReadSession),
            ("cancelled", Facts { session: SessionState::Cancelled, ..complete() }, Step::End(End::UploadUnknown)),
            ("ended", Facts { session: SessionState::Removed, ..complete() }, Step::FindPublished),
            ("ended by a cancel", Facts { session: SessionState::Removed, published: PublishState::Absent, ..complete() }, Step::End(End::UploadUnknown)),
            ("a store that verifies nothing", Facts { read_back: ReadBack::Needed, ..complete() }, Step::ReadBack),
            ("no checksum", Facts { bytes: Bytes::Complete(Proof::None), ..complete() }, Step::ReadBack),
            ("read back", Facts { bytes: Bytes::Complete(Proof::None), read_back: ReadBack::Verified, ..complete() }, Step::Publish),
            ("a wrong claim", Facts { read_back: ReadBack::WrongClaim, ..complete() }, Step::Reject),
            ("a wrong claim, nothing written yet", Facts { read_back: ReadBack::WrongClaim, is_pending: true, is_inline: true, ..complete() }, Step::End(End::WrongClaim)),
            ("other bytes", Facts { read_back: ReadBack::Differs, ..complete() }, damaged("its bytes are not those that were sent")),
            ("the record is there", Facts { published: PublishState::Record, ..complete() }, Step::Link),
            ("linked", Facts { published: PublishState::Linked, ..complete() }, Step::End(End::Published)),
            ("linked, the session was seen long ago", Facts { published: PublishState::Linked, session: SessionState::Stale, ..complete() }, Step::ReadSession),
            ("linked, the session is gone", Facts { published: PublishState::Linked, session: SessionState::Removed, ..complete() }, Step::End(End::Published)),
            ("cancelled meanwhile", Facts { published: PublishState::Linked, session: SessionState::Cancelled, ..complete() }, Step::End(End::UploadUnknown)),
            ("inline", Facts { is_inline: true, ..complete() }, Step::PublishInline),
            ("object and upload are missing", bytes(Bytes::Gone), Step::FindPublished),
            ("published by another driver", Facts { published: PublishState::Record, ..bytes(Bytes::Gone) }, Step::Link),
            ("and linked", Facts { published: PublishState::Linked, ..bytes(Bytes::Gone) }, Step::End(End::Published)),
            ("lost", Facts { published: PublishState::Absent, ..bytes(Bytes::Gone) }, damaged(lost)),
            ("over", Facts { published: PublishState::Absent, session: SessionState::Removed, ..bytes(Bytes::Gone) }, Step::End(End::UploadUnknown)),
            ("parts lost before the freeze", Facts { goal: Goal::Freeze, ..bytes(Bytes::Gone) }, damaged("its multipart upload is gone")),
        ] {
            assert_eq!(next(&facts), want, "{case}");
        }
    }

    /// A bucket, as far as one commit sees it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct World {
        is_upload_open: bool,
        has_object: bool,
        /// Whose data the record names.
        record: Option<Owner>,
        is_linked: bool,
        has_session: bool,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Owner {
        Us,
        AnEqualLayer,
    }

    impl World {
        /// Carries out one step, and turns its answer into facts. The removals after a success are
        /// part of the last step.
        fn perform(&mut self, step: &Step, facts: &mut Facts) {
            match step {
                Step::AwaitObject | Step::Look => {
                    facts.bytes = match (self.has_object, &facts.bytes) {
                        (true, _) => Bytes::Complete(Proof::Store),
                        (false, Bytes::Unknown) if facts.has_parts => Bytes::InParts,
                        (false, _) => Bytes::Gone,
                    };
                    facts.is_fresh = self.has_object;
                }
                Step::Complete if self.is_upload_open => {
                    (self.is_upload_open, self.has_object) = (false, true);
                    facts.bytes = Bytes::Complete(Proof::Store);
                    facts.is_fresh = true;
                }
                Step::Complete => facts.bytes = Bytes::UploadGone,
                Step::Publish => {
                    self.record.get_or_insert(Owner::Us);
                    facts.published = PublishState::Record;
                }
                Step::Link => {
                    self.is_linked = true;
                    facts.published = PublishState::Linked;
                }
                Step::FindPublished => {
                    let is_there = self.record == Some(Owner::AnEqualLayer) || self.has_object;
                    facts.published = match self.record {
                        Some(_) if is_there => PublishState::Record,
                        _ => PublishState::Absent,
                    };
                    if !self.has_session {
                        facts.session = SessionState::Removed;
                    }
                }
                Step::ReadSession => {
                    facts.session = if self.has_session {
                        SessionState::Committing
                    } else {
                        SessionState::Removed
                    };
                }
                Step::End(End::Published) => {
                    self.has_object &= self.record == Some(Owner::Us);
                    self.has_session = false;
                }
                other => panic!("{other:?} is not needed here"),
            }
        }
    }

    /// Drivers that end after any request, and drivers that begin again, knowing nothing: each
    /// combination comes to a published and linked layer, and never to a record without its data.
    #[test]
    fn commit_interrupted_anywhere_is_completed_by_the_next_driver() {
        let begun = |record| World {
            is_upload_open: true,
            has_object: false,
            record,
            is_linked: false,
            has_session: true,
        };
        let mut seen = BTreeSet::new();
        let mut queue = VecDeque::from([begun(None), begun(Some(Owner::AnEqualLayer))]);
        while let Some(start) = queue.pop_front() {
            if !seen.insert(start) {
                continue;
            }
            let possible = Concurrency::Possible;
            for (concurrency, session) in [
                (Concurrency::None, SessionState::Committing),
                (possible, SessionState::Committing),
                (possible, SessionState::Stale),
            ] {
                let (mut world, mut facts) = (start, facts());
                (facts.concurrency, facts.session) = (concurrency, session);
                let mut steps = 0;
                loop {
                    let step = next(&facts);
                    if step == Step::End(End::Published) {
                        // The data of a duplicate goes before the session.
                        let has_object = world.has_object && world.record == Some(Owner::Us);
                        queue.push_back(World {
                            has_object,
                            ..world
                        });
                    }
                    world.perform(&step, &mut facts);
                    assert!(
                        world.record != Some(Owner::Us) || world.has_object,
                        "{world:?}"
                    );
                    queue.push_back(world);
                    if let Step::End(end) = step {
                        assert_eq!(end, End::Published, "from {start:?}");
                        assert!(world.is_linked && world.record.is_some(), "from {start:?}");
                        break;
                    }
                    steps += 1;
                    assert!(steps < 10, "no end from {start:?}");
                }
            }
        }
        assert!(seen.len() >= 8, "only {} states were reached", seen.len());
    }
}
