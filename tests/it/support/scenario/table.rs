//! The steps of a scenario, and the table of all scenarios.

use s3layers::Algorithm::{self, Sha256, Sha512};

use self::Declared::Nothing;
use self::Step::*;
use super::registry_call::{Doc, RegistryCall};
use crate::support::bytes::{KIB, MIB};
use crate::support::stores;

/// One action of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// With the id declared, or without.
    Begin(Declared),
    /// Up to this offset.
    Write(u64),
    Close,
    /// Drops the handle, if there is one, and resumes the upload.
    Resume,
    /// As `Resume`, with the offset that the store acknowledged.
    ResumeAt,
    /// Resumes the upload by a new handle, while the one before stays open. The next byte replaces it.
    TakeOver,
    /// Writes a part of other bytes by each replaced handle, and closes it. Expects a refusal.
    WriteOlder,
    /// Finishes with a wrong SHA-512, and expects a refusal.
    FinishWrong,
    Finish(Algorithm),
    /// Resumes the upload by a second handle, which does nothing yet.
    Twin,
    /// Finishes the second handle after the first one, and expects a refusal.
    FinishTwin,
    /// Reads the whole layer, and some of it after a seek.
    Read,
    Cancel,
    /// Sweeps every upload.
    Sweep,
    /// A call of a registry. Comes last in a scenario, so that a recovery can repeat it.
    Call(RegistryCall),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    Nothing,
    Sha256,
    Sha512,
    /// The layer is an archive.
    TarSum,
}

/// One upload, from its beginning to its end.
#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// In bytes.
    pub size: u64,
    /// Another repository has a layer of the same bytes.
    pub duplicate: bool,
    pub steps: &'static [Step],
}

/// A part.
const P: u64 = stores::PART;

/// Every scenario. A suite runs each of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "interrupted, resumed, finished and read",
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
    Scenario {
        name: "a duplicate",
        size: P + 9 * KIB,
        duplicate: true,
        steps: &[Begin(Nothing), Write(P + 9 * KIB), Finish(Sha256)],
    },
    Scenario {
        name: "a small duplicate",
        size: 9 * KIB,
        duplicate: true,
        steps: &[Begin(Nothing), Write(9 * KIB), Finish(Sha256), Read],
    },
    Scenario {
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
    Scenario {
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
    Scenario {
        name: "in many requests to one process",
        size: 2 * P + 60 * KIB,
        duplicate: false,
        steps: &[
            Begin(Nothing),
            Close,
            ResumeAt,
            Write(KIB),
            Close,
            ResumeAt,
            Write(100 * KIB),
            Close,
            ResumeAt,
            Write(200 * KIB),
            Close,
            ResumeAt,
            Write(P + 50 * KIB),
            Close,
            ResumeAt,
            Write(2 * P + 60 * KIB),
            Close,
            ResumeAt,
            Finish(Sha256),
            Read,
        ],
    },
    Scenario {
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
    Scenario {
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
    Scenario {
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
    Scenario {
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
    Scenario {
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
    Scenario {
        name: "abandoned and swept",
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
    Scenario {
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
    // The recorded part of the first owner is frozen. The second one has sent a part, of which no session knows.
    Scenario {
        name: "taken over twice",
        size: 2 * P + 60 * KIB,
        duplicate: false,
        steps: &[
            Begin(Declared::Sha256),
            Write(P + KIB),
            Close,
            Resume,
            Write(P + 2 * KIB),
            TakeOver,
            Write(2 * P + 10 * KIB),
            TakeOver,
            Write(2 * P + 30 * KIB),
            WriteOlder,
            Write(2 * P + 60 * KIB),
            Finish(Sha256),
            Read,
        ],
    },
    Scenario {
        name: "taken over during a takeover",
        size: P + 80 * KIB,
        duplicate: false,
        steps: &[
            Begin(Nothing),
            Write(P + 20 * KIB),
            Close,
            Resume,
            Write(P + 40 * KIB),
            TakeOver,
            Write(P + 60 * KIB),
            TakeOver,
            Write(P + 80 * KIB),
            WriteOlder,
            Finish(Sha256),
        ],
    },
    Scenario {
        name: "taken over and cancelled",
        size: 2 * P,
        duplicate: false,
        steps: &[
            Begin(Declared::Sha256),
            Write(P),
            Close,
            Resume,
            Write(P + 20 * KIB),
            TakeOver,
            Write(P + 40 * KIB),
            Cancel,
            WriteOlder,
        ],
    },
    Scenario {
        name: "taken over and swept",
        size: 2 * P,
        duplicate: false,
        steps: &[
            Begin(Nothing),
            Write(P),
            Close,
            Resume,
            Write(P + 20 * KIB),
            TakeOver,
            Write(P + 40 * KIB),
            Sweep,
            WriteOlder,
        ],
    },
    Scenario {
        name: "mounted",
        size: 9 * KIB,
        duplicate: true,
        steps: &[Call(RegistryCall::Mount), Call(RegistryCall::Layer)],
    },
    Scenario {
        name: "mounted and unlinked",
        size: 9 * KIB,
        duplicate: true,
        steps: &[Call(RegistryCall::Mount), Call(RegistryCall::Unlink)],
    },
    Scenario {
        name: "an image and its signature",
        size: 3 * KIB,
        duplicate: false,
        steps: &[
            Begin(Nothing),
            Write(3 * KIB),
            Finish(Sha256),
            Call(RegistryCall::Layer),
            Call(RegistryCall::Put(Doc::Image)),
            Call(RegistryCall::Tag(Doc::Image)),
            Call(RegistryCall::Put(Doc::Signature)),
            Call(RegistryCall::Look(Doc::Image)),
            Call(RegistryCall::Referrers),
        ],
    },
    Scenario {
        name: "a tag is moved and deleted, manifests are deleted",
        size: 3 * KIB,
        duplicate: false,
        steps: &[
            Call(RegistryCall::Put(Doc::Image)),
            Call(RegistryCall::Put(Doc::Signature)),
            Call(RegistryCall::Tag(Doc::Image)),
            Call(RegistryCall::Tag(Doc::Signature)),
            Call(RegistryCall::Look(Doc::Signature)),
            Call(RegistryCall::Put(Doc::Image)),
            Call(RegistryCall::Untag),
            Call(RegistryCall::Tag(Doc::Signature)),
            Call(RegistryCall::Delete(Doc::Signature)),
            Call(RegistryCall::Delete(Doc::Image)),
        ],
    },
];
