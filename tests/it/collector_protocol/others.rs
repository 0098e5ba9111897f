//! A forced cancel, a PUT of an index, a restore, and the deletions of users.

use super::actor::{At, Rules, Steps};
use super::mutants::Mutant;
use super::state::{Content, Manifest, Record, RecordState, Stamp, Write};

/// Where a forced cancel is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OfCancel {
    /// From here on no driver begins.
    WriteCancelled,
    Wait,
    ReadRecord,
    ReadLink,
    RemoveData,
}

pub fn cancel(
    content: Content,
    repository: usize,
    at: OfCancel,
    rules: Rules,
    steps: &mut Steps<'_>,
) {
    let now = *steps.now();
    match at {
        OfCancel::WriteCancelled if now.sessions & content.session() == 0 => steps.done(),
        OfCancel::WriteCancelled => steps
            .write(|next| {
                next.sessions &= !content.session();
                next.cancel_waits_for = next.windows;
            })
            .go(OfCancel::Wait),
        OfCancel::Wait if now.cancel_waits_for != 0 && !rules.has(Mutant::CancelWithoutWait) => {}
        OfCancel::Wait => steps.go(OfCancel::ReadRecord),
        OfCancel::ReadRecord if now.record.is_some_and(|record| record.content == content) => {
            steps.done()
        }
        OfCancel::ReadRecord if rules.has(Mutant::CancelByRecordAlone) => {
            steps.go(OfCancel::RemoveData)
        }
        OfCancel::ReadRecord => steps.go(OfCancel::ReadLink),
        OfCancel::ReadLink
            if now
                .link(repository)
                .is_some_and(|link| link.content == content) =>
        {
            steps.done()
        }
        OfCancel::ReadLink => steps.go(OfCancel::RemoveData),
        OfCancel::RemoveData => steps.write(|next| next.data &= !content.objects()).done(),
    }
}

/// Where the PUT of an index that names the manifest is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OfIndex {
    ReadManifest,
    Rescue(Manifest),
    WriteIndex,
    Acknowledge,
}

pub fn index(repository: usize, at: OfIndex, rules: Rules, steps: &mut Steps<'_>) {
    let me = steps.me;
    match (at, steps.now().repositories[repository].manifest) {
        (OfIndex::ReadManifest, None) => steps.done(),
        (OfIndex::ReadManifest, Some(manifest))
            if manifest.condemned && !rules.has(Mutant::IndexPutWithoutRescue) =>
        {
            steps.go(OfIndex::Rescue(manifest));
        }
        (OfIndex::ReadManifest, Some(_)) => steps
            .write(|next| next.open_promise(me))
            .go(OfIndex::WriteIndex),
        (OfIndex::Rescue(seen), Some(manifest)) if manifest == seen => {
            let rescued = Manifest {
                condemned: false,
                stamp: steps.stamp(Write::Rescue),
            };
            steps
                .write(|next| {
                    next.repositories[repository].manifest = Some(rescued);
                    next.open_promise(me);
                })
                .go(OfIndex::WriteIndex);
        }
        (OfIndex::Rescue(_), _) => steps.go(OfIndex::ReadManifest),
        (OfIndex::WriteIndex, _) => {
            steps
                .write(|next| next.repositories[repository].indexed = true)
                .go(OfIndex::Acknowledge);
        }
        (OfIndex::Acknowledge, _) => {
            steps
                .write(|next| next.repositories[repository].parent_acknowledged = true)
                .done();
        }
    }
}

/// Where a restore is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OfRestore {
    Read,
    WriteLive(Record),
}

pub fn restore(at: OfRestore, steps: &mut Steps<'_>) {
    match (at, steps.now().record) {
        (OfRestore::Read, Some(record)) if record.state == RecordState::Dead => {
            steps.go(OfRestore::WriteLive(record))
        }
        (OfRestore::WriteLive(seen), Some(record)) if record == seen => {
            let restored = Record {
                state: RecordState::Live,
                stamp: Stamp::by(steps.me, Write::Rescue),
                ..record
            };
            steps
                .write(|next| {
                    next.record = Some(restored);
                    next.restored = Some(record.content);
                })
                .done();
        }
        _ => steps.done(),
    }
}

/// A user deletes the layer from the repository. Requests for it return 404 from here on.
pub fn unlink(repository: usize, steps: &mut Steps<'_>) {
    steps
        .write(|next| {
            next.repositories[repository].link = None;
            next.repositories[repository].manifest_acknowledged = false;
            next.user_unlinked = true;
        })
        .done();
}

pub fn delete_manifest(repository: usize, steps: &mut Steps<'_>) {
    steps
        .write(|next| {
            next.repositories[repository].manifest = None;
            next.repositories[repository].manifest_acknowledged = false;
        })
        .done();
}

impl From<OfCancel> for At {
    fn from(at: OfCancel) -> At {
        At::Cancel(at)
    }
}

impl From<OfIndex> for At {
    fn from(at: OfIndex) -> At {
        At::Index(at)
    }
}

impl From<OfRestore> for At {
    fn from(at: OfRestore) -> At {
        At::Restore(at)
    }
}
