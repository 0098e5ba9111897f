//! The words of a life, and all lives that are told in them.

use s3layers::Algorithm::{self, Sha256, Sha512};

use self::Declared::Nothing;
use self::Step::*;
use super::deeds::{Deed, Doc};
use crate::support::bytes::{KIB, MIB};
use crate::support::stores;

/// What the client does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// With the id declared, or without.
    Begin(Declared),
    /// Up to this offset.
    Write(u64),
    Close,
    /// The handle is dropped, if there is one, and the upload resumed.
    Resume,
    /// As `Resume`, by a client that says which offset it was told.
    GoOn,
    /// Claims a SHA-512 that is wrong, and is refused.
    FinishWrong,
    Finish(Algorithm),
    /// Another handle takes the upload up, and does nothing yet.
    Twin,
    /// That one finishes too, when the first one has: it is refused.
    FinishTwin,
    /// The whole layer, and some of it after a seek.
    Read,
    Cancel,
    /// Of whatever there is.
    Sweep,
    /// What a registry does besides. Goes last in an act, so that it can be done again.
    Do(Deed),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    Nothing,
    Sha256,
    Sha512,
    /// The layer is an archive, then.
    TarSum,
}

/// One upload, from its beginning to its end.
#[derive(Debug)]
pub struct Act {
    pub name: &'static str,
    /// In bytes.
    pub size: u64,
    /// The same bytes are a layer of another repository already.
    pub duplicate: bool,
    pub steps: &'static [Step],
}

/// A part.
const P: u64 = stores::PART;

/// All that an upload can go through.
pub const ACTS: &[Act] = &[
    Act {
        name: "cut in the middle, resumed, finished and read",
        size: 2 * P + 100 * KIB,
        duplicate: false,
        steps: &[
            Begin(Declared::Sha256),
            Write(P + MIB),
            Close,
            Resume,
            Write(2 * P + 100 * KIB),
            Finish(Sha256),
            Read,
        ],
    },
    Act {
        name: "a duplicate",
        size: P + 9 * KIB,
        duplicate: true,
        steps: &[Begin(Nothing), Write(P + 9 * KIB), Finish(Sha256)],
    },
    Act {
        name: "a small duplicate",
        size: 9 * KIB,
        duplicate: true,
        steps: &[Begin(Nothing), Write(9 * KIB), Finish(Sha256), Read],
    },
    Act {
        name: "one PutObject",
        size: 100 * KIB,
        duplicate: false,
        steps: &[
            Begin(Declared::Sha512),
            Write(100 * KIB),
            Close,
            Resume,
            Finish(Sha256),
            Read,
        ],
    },
    Act {
        name: "inline, then a tail, then a tail, then parts",
        size: P + 50 * KIB,
        duplicate: false,
        steps: &[
            Begin(Nothing),
            Write(KIB),
            Close,
            Resume,
            Write(100 * KIB),
            Close,
            Resume,
            Write(200 * KIB),
            Close,
            Resume,
            Write(P + 50 * KIB),
            Finish(Sha256),
        ],
    },
    Act {
        name: "in many requests to one process",
        size: 2 * P + 60 * KIB,
        duplicate: false,
        steps: &[
            Begin(Nothing),
            Close,
            GoOn,
            Write(KIB),
            Close,
            GoOn,
            Write(100 * KIB),
            Close,
            GoOn,
            Write(200 * KIB),
            Close,
            GoOn,
            Write(P + 50 * KIB),
            Close,
            GoOn,
            Write(2 * P + 60 * KIB),
            Close,
            GoOn,
            Finish(Sha256),
            Read,
        ],
    },
    Act {
        name: "a SHA-512 that only reading back can verify",
        size: P + 70 * KIB,
        duplicate: false,
        steps: &[
            Begin(Nothing),
            Write(P + 70 * KIB),
            Close,
            Resume,
            FinishWrong,
            Finish(Sha512),
        ],
    },
    Act {
        name: "a duplicate with a SHA-512 that only reading back can verify",
        size: 90 * KIB,
        duplicate: true,
        steps: &[
            Begin(Nothing),
            Write(90 * KIB),
            Close,
            Resume,
            Finish(Sha512),
        ],
    },
    Act {
        name: "a TarSum that only reading back can verify",
        size: P + 70 * KIB,
        duplicate: false,
        steps: &[
            Begin(Declared::TarSum),
            Write(60 * KIB),
            Close,
            Resume,
            Write(P + 70 * KIB),
            FinishWrong,
            Finish(Sha256),
        ],
    },
    Act {
        name: "a duplicate with a TarSum that only reading back can verify",
        size: 80 * KIB,
        duplicate: true,
        steps: &[
            Begin(Declared::TarSum),
            Write(80 * KIB),
            Close,
            Resume,
            Finish(Sha256),
            Read,
        ],
    },
    Act {
        name: "cancelled",
        size: 2 * P,
        duplicate: false,
        steps: &[
            Begin(Declared::Sha256),
            Write(P + 80 * KIB),
            Close,
            Resume,
            Write(P + 90 * KIB),
            Cancel,
        ],
    },
    Act {
        name: "left alone and swept",
        size: 2 * P,
        duplicate: false,
        steps: &[
            Begin(Declared::Sha256),
            Write(100 * KIB),
            Close,
            Resume,
            Write(P + 80 * KIB),
            Close,
            Sweep,
        ],
    },
    Act {
        name: "finished by two handles",
        size: P + 9 * KIB,
        duplicate: false,
        steps: &[
            Begin(Nothing),
            Write(P + 9 * KIB),
            Close,
            Resume,
            Twin,
            Finish(Sha256),
            FinishTwin,
        ],
    },
    Act {
        name: "mounted",
        size: 9 * KIB,
        duplicate: true,
        steps: &[Do(Deed::Mount), Do(Deed::Layer)],
    },
    Act {
        name: "mounted and taken away",
        size: 9 * KIB,
        duplicate: true,
        steps: &[Do(Deed::Mount), Do(Deed::Unlink)],
    },
    Act {
        name: "an image and its signature",
        size: 3 * KIB,
        duplicate: false,
        steps: &[
            Begin(Nothing),
            Write(3 * KIB),
            Finish(Sha256),
            Do(Deed::Layer),
            Do(Deed::Put(Doc::Image)),
            Do(Deed::Tag(Doc::Image)),
            Do(Deed::Put(Doc::Signature)),
            Do(Deed::Look(Doc::Image)),
            Do(Deed::Referrers),
        ],
    },
    Act {
        name: "a tag that moves and goes, and manifests that go",
        size: 3 * KIB,
        duplicate: false,
        steps: &[
            Do(Deed::Put(Doc::Image)),
            Do(Deed::Put(Doc::Signature)),
            Do(Deed::Tag(Doc::Image)),
            Do(Deed::Tag(Doc::Signature)),
            Do(Deed::Look(Doc::Signature)),
            Do(Deed::Put(Doc::Image)),
            Do(Deed::Untag),
            Do(Deed::Tag(Doc::Signature)),
            Do(Deed::Delete(Doc::Signature)),
            Do(Deed::Delete(Doc::Image)),
        ],
    },
];
