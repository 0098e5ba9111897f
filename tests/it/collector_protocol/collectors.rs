//! The three collectors. Every arm is one request (or the wait).

use super::actor::{At, Rules, Steps};
use super::mutants::Mutant;
use super::state::{Link, LinkState, Manifest, Record, RecordState, Write};

/// Where the collector of records is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OfRecord {
    Read,
    /// GET the session of the record's UUID.
    LookForSession(Record),
    Condemn(Record),
    /// W.
    Wait(Record),
    /// Lists the links of one repository, then of the other.
    ListFirst(Record),
    ListSecond(Record, bool),
    /// A link was found: back to live.
    Keep(Record),
    LookForSessionAgain(Record),
    Kill(Record),
    /// R later: from here on nothing restores it.
    Purge(Record),
    /// The dead record was replaced or restored. Are its data still in use?
    Replaced(Record),
    RemoveFirstObject(Record),
    RemoveSecondObject(Record),
    RemoveRecord(Record),
}

pub fn record(at: OfRecord, rules: Rules, steps: &mut Steps<'_>) {
    use OfRecord::*;
    let now = *steps.now();
    let is_in_commit = |record: Record| {
        now.sessions & record.content.session() != 0
            && !rules.has(Mutant::RecordWithoutLookingForSession)
    };
    let is_linked = |repository: usize| {
        let link = now.repositories[repository].link;
        now.link(repository).is_some()
            || (rules.has(Mutant::TombstonesCountAsLinks) && link.is_some())
    };
    match at {
        Read => match now.record {
            None => steps.done(),
            Some(record) => steps.go(match record.state {
                RecordState::Live => LookForSession(record),
                RecordState::Condemned => Wait(record),
                RecordState::Dead => Purge(record),
                RecordState::Purging => RemoveFirstObject(record),
            }),
        },
        LookForSession(record) if is_in_commit(record) => steps.done(),
        LookForSession(record) => steps.go(Condemn(record)),
        Condemn(record) => steps.replace_record(
            record,
            RecordState::Condemned,
            Write::Collect,
            |next, condemned| {
                next.record_waits_for = next.windows;
                next.record_waits_next_for = 0;
                Wait(condemned)
            },
        ),
        Wait(record) => {
            let is_over = (now.record_waits_for | now.record_waits_next_for) == 0
                || now.record != Some(record);
            if rules.has(Mutant::RecordWithoutSecondListing) && is_over {
                steps.go(Kill(record));
            } else if is_over || rules.has(Mutant::RecordWithoutWait) {
                steps.go(ListFirst(record));
            }
        }
        ListFirst(record) => steps.go(ListSecond(record, is_linked(0))),
        ListSecond(record, found) if found || is_linked(1) => steps.go(Keep(record)),
        ListSecond(record, _) => steps.go(LookForSessionAgain(record)),
        Keep(record) => steps.replace_record_and_end(record, RecordState::Live),
        LookForSessionAgain(record) if is_in_commit(record) => steps.done(),
        LookForSessionAgain(record) => steps.go(Kill(record)),
        Kill(record) => {
            steps.replace_record(record, RecordState::Dead, Write::Collect, |_, dead| {
                if rules.has(Mutant::RemovalWithoutPurging) {
                    RemoveFirstObject(dead)
                } else {
                    Purge(dead)
                }
            })
        }
        Purge(_) | Replaced(_) | RemoveFirstObject(_) | RemoveSecondObject(_) | RemoveRecord(_) => {
            remove_record(at, rules, steps)
        }
    }
}

/// The second half: the record is dead.
fn remove_record(at: OfRecord, rules: Rules, steps: &mut Steps<'_>) {
    use OfRecord::*;
    let now = *steps.now();
    match at {
        Purge(record) if now.record != Some(record) => steps.go(Replaced(record)),
        Purge(record) => steps.replace_record(
            record,
            RecordState::Purging,
            Write::Collect,
            |_, purging| RemoveFirstObject(purging),
        ),
        Replaced(record)
            if now
                .record
                .is_some_and(|other| other.content == record.content) =>
        {
            steps.done()
        }
        Replaced(record) => steps.go(RemoveFirstObject(record)),
        RemoveFirstObject(record) => steps
            .write(|next| next.data &= !record.content.first_object())
            .go(RemoveSecondObject(record)),
        RemoveSecondObject(record) => steps
            .write(|next| next.data &= !record.content.second_object())
            .go(RemoveRecord(record)),
        RemoveRecord(record)
            if now.record == Some(record) && !rules.has(Mutant::TombstonesCountAsLinks) =>
        {
            steps.write(|next| next.record = None).done()
        }
        _ => steps.done(),
    }
}

/// Where the collector of the links of one repository is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OfLink {
    ListManifests,
    Read,
    Condemn(Link),
    Wait(Link),
    ListManifestsAgain(Link),
    Keep(Link),
    /// The tombstone, by If-Match.
    Bury(Link),
    RemoveTombstone(Link),
}

pub fn link(repository: usize, at: OfLink, rules: Rules, steps: &mut Steps<'_>) {
    use OfLink::*;
    let now = *steps.now();
    let here = now.repositories[repository];
    match at {
        ListManifests if here.manifest.is_some() => steps.done(),
        ListManifests => steps.go(Read),
        Read => match now.link(repository) {
            None => steps.done(),
            Some(link) if link.state == LinkState::Condemned => steps.go(Wait(link)),
            Some(link) => steps.go(Condemn(link)),
        },
        Condemn(link) => steps.replace_link(
            repository,
            link,
            LinkState::Condemned,
            Write::Collect,
            |next, condemned| {
                next.repositories[repository].link_waits_for = next.promises;
                Wait(condemned)
            },
        ),
        Wait(link) => {
            let is_over = here.link_waits_for == 0 || here.link != Some(link);
            if rules.has(Mutant::LinkWithoutSecondListing) && is_over {
                steps.go(Bury(link));
            } else if is_over || rules.has(Mutant::LinkWithoutWait) {
                steps.go(ListManifestsAgain(link));
            }
        }
        ListManifestsAgain(link) if here.manifest.is_some() => steps.go(Keep(link)),
        ListManifestsAgain(link) => steps.go(Bury(link)),
        Keep(link) if here.link == Some(link) => {
            let kept = Link {
                state: LinkState::Live,
                stamp: steps.stamp(Write::Keep),
                ..link
            };
            steps
                .write(|next| next.repositories[repository].link = Some(kept))
                .done();
        }
        Keep(_) => steps.done(),
        Bury(_) if rules.has(Mutant::LinkDeletedUnconditionally) => steps
            .write(|next| next.repositories[repository].link = None)
            .done(),
        Bury(link) => steps.replace_link(
            repository,
            link,
            LinkState::Gone,
            Write::Collect,
            |_, gone| RemoveTombstone(gone),
        ),
        RemoveTombstone(gone)
            if here.link == Some(gone) && !rules.has(Mutant::TombstonesCountAsLinks) =>
        {
            steps
                .write(|next| next.repositories[repository].link = None)
                .done()
        }
        RemoveTombstone(_) => steps.done(),
    }
}

/// Where retention, which removes the untagged manifest of one repository, is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OfManifest {
    ListParents,
    Read,
    Condemn(Manifest),
    Wait(Manifest),
    ListParentsAgain(Manifest),
    Keep(Manifest),
    Remove(Manifest),
    RemoveUnconditionally,
}

pub fn manifest(repository: usize, at: OfManifest, rules: Rules, steps: &mut Steps<'_>) {
    use OfManifest::*;
    let here = steps.now().repositories[repository];
    let has_parent = here.tagged || here.indexed;
    match at {
        ListParents if has_parent => steps.done(),
        ListParents => steps.go(Read),
        Read => match here.manifest {
            None => steps.done(),
            Some(_) if rules.has(Mutant::ManifestDeletedUnconditionally) => {
                steps.go(RemoveUnconditionally)
            }
            Some(manifest) if manifest.condemned => steps.go(Wait(manifest)),
            Some(manifest) => steps.go(Condemn(manifest)),
        },
        Condemn(manifest) if here.manifest == Some(manifest) => {
            let condemned = Manifest {
                condemned: true,
                stamp: steps.stamp(Write::Collect),
            };
            let waits_for = steps.now().promises;
            steps
                .write(|next| {
                    next.repositories[repository].manifest = Some(condemned);
                    next.repositories[repository].manifest_waits_for = waits_for;
                })
                .go(Wait(condemned));
        }
        Wait(manifest) if here.manifest == Some(manifest) && here.manifest_waits_for != 0 => {}
        Wait(manifest) => steps.go(ListParentsAgain(manifest)),
        ListParentsAgain(manifest) if has_parent => steps.go(Keep(manifest)),
        ListParentsAgain(manifest) => steps.go(Remove(manifest)),
        Keep(manifest) if here.manifest == Some(manifest) => {
            let kept = Manifest {
                condemned: false,
                stamp: steps.stamp(Write::Keep),
            };
            steps
                .write(|next| next.repositories[repository].manifest = Some(kept))
                .done();
        }
        Remove(manifest) if here.manifest == Some(manifest) => remove_manifest(repository, steps),
        RemoveUnconditionally => remove_manifest(repository, steps),
        Condemn(_) | Keep(_) | Remove(_) => steps.done(),
    }
}

fn remove_manifest(repository: usize, steps: &mut Steps<'_>) {
    steps
        .write(|next| {
            next.repositories[repository].manifest = None;
            next.repositories[repository].manifest_acknowledged = false;
        })
        .done();
}

impl From<OfRecord> for At {
    fn from(at: OfRecord) -> At {
        At::Record(at)
    }
}

impl From<OfLink> for At {
    fn from(at: OfLink) -> At {
        At::Link(at)
    }
}

impl From<OfManifest> for At {
    fn from(at: OfManifest) -> At {
        At::Manifest(at)
    }
}
