//! The mechanism with one piece broken, by name. Each is caught, which shows that the piece is needed.

use super::explore::Broken;

/// What is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// A mount copies the link of the other repository without reading the record.
    MountWithoutReadingRecord,
    /// A finish that meets a condemned record leaves it condemned.
    FinishWithoutRescue,
    /// A driver that finds its data gone links what is published, though condemned.
    FoundLayerWithoutRescue,
    /// A mount links a condemned record, and leaves it condemned.
    MountWithoutRescue,
    /// A driver removes the data of a duplicate long after it read the record: another driver of the same upload looks at
    /// the data, finds the record dead, and publishes them.
    DuplicateRemovedLate,
    HeadWithoutRescue,
    ManifestPutWithoutRescue,
    IndexPutWithoutRescue,
    RecordWithoutWait,
    RecordWithoutSecondListing,
    RecordWithoutLookingForSession,
    /// A finish keeps an alias that names data of another upload.
    AliasOfOldDataKept,
    /// A collector removes an alias though it names other data by then.
    AliasDeletedUnconditionally,
    /// A collector removes an alias that names other data than the record that it purges.
    AliasOfOtherDataRemoved,
    /// While a restore can still write the record back to live.
    AliasRemovedBeforePurging,
    /// Where a listing loses a line, a dead record is purged without listing the links again.
    PurgeWithoutListing,
    /// Data are removed from a dead record, which a restore can still write back to live.
    RemovalWithoutPurging,
    LinkWithoutWait,
    LinkWithoutSecondListing,
    /// An unconditional DELETE instead of the write of a tombstone.
    LinkDeletedUnconditionally,
    ManifestDeletedUnconditionally,
    /// A PUT of a manifest that is stored already writes nothing.
    ManifestPutKeepsTheOldOne,
    /// A manifest comes later than the promise.
    ManifestAfterThePromise,
    /// Over E: the link first, then the look at the record, then the link is taken back.
    LinkBeforeSecondLook,
    /// A late request lands after the wait.
    StrayAfterTheWait,
    /// A tombstone protects its record, and stays.
    TombstonesCountAsLinks,
    /// A forced cancel does not wait for drivers that read the session before.
    CancelWithoutWait,
    /// A cancel asks the record whether the data are published, and not the link (where both are written at once).
    CancelByRecordAlone,
    /// The link of a small layer, which is written beside the record, does not hold the bytes.
    SmallLinkWithoutBytes,
}

/// Each mutant, the mix that catches it, and the promise that it breaks there.
pub const CAUGHT: [(Mutant, &str, Broken); 29] = [
    (
        Mutant::MountWithoutReadingRecord,
        "mount, manifest deleted",
        Broken::LinkToNothing,
    ),
    (
        Mutant::FinishWithoutRescue,
        "HEAD, link and record collector",
        Broken::LinkToNothing,
    ),
    (
        Mutant::FoundLayerWithoutRescue,
        "crash, driver, unlink",
        Broken::LinkToNothing,
    ),
    (
        Mutant::MountWithoutRescue,
        "condemned long ago: mount, manifest deleted",
        Broken::LinkToNothing,
    ),
    (
        Mutant::AliasOfOldDataKept,
        "alias: collectors, push",
        Broken::AliasLost,
    ),
    (
        Mutant::AliasDeletedUnconditionally,
        "alias: collectors, push",
        Broken::AliasLost,
    ),
    (
        Mutant::AliasOfOtherDataRemoved,
        "alias: collectors, push",
        Broken::AliasLost,
    ),
    (
        Mutant::AliasRemovedBeforePurging,
        "alias: restore",
        Broken::AliasLost,
    ),
    (
        Mutant::PurgeWithoutListing,
        "listing that loses a line",
        Broken::AcknowledgedLayerLost,
    ),
    (
        Mutant::DuplicateRemovedLate,
        "crash, driver, unlink",
        Broken::LinkToNothing,
    ),
    (
        Mutant::HeadWithoutRescue,
        "HEAD, link collector",
        Broken::PushRefused,
    ),
    (
        Mutant::ManifestPutWithoutRescue,
        "HEAD, link collector",
        Broken::AcknowledgedLayerLost,
    ),
    (
        Mutant::IndexPutWithoutRescue,
        "retention, index",
        Broken::AcknowledgedParentWithoutManifest,
    ),
    (
        Mutant::RecordWithoutWait,
        "HEAD, link and record collector",
        Broken::LinkToNothing,
    ),
    (
        Mutant::RecordWithoutSecondListing,
        "manifest deleted and pushed",
        Broken::RecordLost,
    ),
    (
        Mutant::RecordWithoutLookingForSession,
        "empty: crash, collector, driver",
        Broken::UploadLost,
    ),
    (
        Mutant::RemovalWithoutPurging,
        "restore",
        Broken::RestoredLayerLost,
    ),
    (
        Mutant::LinkWithoutWait,
        "HEAD, link collector",
        Broken::PushRefused,
    ),
    (
        Mutant::LinkWithoutSecondListing,
        "HEAD, link collector",
        Broken::AcknowledgedLayerLost,
    ),
    (
        Mutant::LinkDeletedUnconditionally,
        "HEAD, link collector",
        Broken::PushRefused,
    ),
    (
        Mutant::ManifestDeletedUnconditionally,
        "retention, tag",
        Broken::AcknowledgedParentWithoutManifest,
    ),
    (
        Mutant::ManifestPutKeepsTheOldOne,
        "retention, tag",
        Broken::AcknowledgedParentWithoutManifest,
    ),
    (
        Mutant::ManifestAfterThePromise,
        "HEAD, link collector",
        Broken::PushRefused,
    ),
    (
        Mutant::LinkBeforeSecondLook,
        "mount, manifest deleted",
        Broken::LinkToNothing,
    ),
    (
        Mutant::StrayAfterTheWait,
        "empty: crash, cancel, observer",
        Broken::LinkToNothing,
    ),
    (
        Mutant::TombstonesCountAsLinks,
        "tombstone of a link",
        Broken::NeverCollected,
    ),
    (
        Mutant::CancelWithoutWait,
        "empty: crash, cancel, observer",
        Broken::LinkToNothing,
    ),
    (
        Mutant::CancelByRecordAlone,
        "empty: crash, cancel, observer",
        Broken::LinkToNothing,
    ),
    (
        Mutant::SmallLinkWithoutBytes,
        "empty, small: crash, observer",
        Broken::LinkToNothing,
    ),
];
