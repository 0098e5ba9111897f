//! The three collectors. Every arm is one request (or the wait).

use super::actor::{At, Rules, Steps};
use super::mutants::Mutant;
use super::state::{Content, Link, LinkState, Manifest, Record, RecordState, Write};

/// Where the collector of records is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OfRecord {
    Read,
    Condemn(Record),
    /// W.
    Wait(Record),
    /// Lists the links of one repository, then of the other.
    ListFirst(Record),
    ListSecond(Record, bool),
    /// GET the session of the record's UUID.
    LookForSession(Record),
    Kill(Record),
    /// Only where listings may lie, as the code needs it for nothing else: both repositories are listed once more.
    ListFirstToPurge(Record),
    ListSecondToPurge(Record, bool),
    /// R later: from here on nothing restores it.
    Purge(Record),
    /// The dead record was replaced or restored. Are its data still in use?
    Replaced(Record),
    ReadAlias(Record),
    /// By If-Match.
    RemoveAlias(Record, Content),
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
                RecordState::Live => Condemn(record),
                RecordState::Condemned => Wait(record),
                RecordState::Dead => after_kill(record, now.lies.is_none(), rules),
                RecordState::Purging => ReadAlias(record),
            }),
        },
        Condemn(record) => steps.replace_record(
            record,
            RecordState::Condemned,
            write_of_pass(steps),
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
        ListFirst(record) => {
            steps.go(ListSecond(record, is_linked(0)));
            if is_linked(0) {
                lose_line(ListSecond(record, false), steps);
            }
        }
        ListSecond(_, true) => keep(steps),
        ListSecond(record, false) if is_linked(1) => {
            keep(steps);
            lose_line(LookForSession(record), steps);
        }
        ListSecond(record, false) => steps.go(LookForSession(record)),
        LookForSession(record) if is_in_commit(record) => steps.done(),
        LookForSession(record) => steps.go(Kill(record)),
        Kill(record) => {
            let is_honest = now.lies.is_none();
            let write = write_of_pass(steps);
            steps.replace_record(record, RecordState::Dead, write, |_, dead| {
                after_kill(dead, is_honest, rules)
            })
        }
        _ => remove_record(at, rules, steps),
    }
}

fn write_of_pass(steps: &Steps<'_>) -> Write {
    if steps.now().second_passes & (1 << steps.me) == 0 {
        Write::Collect
    } else {
        Write::CollectAgain
    }
}

/// A link was listed. The record stays as it is, also where it is condemned; this collector ends, or makes a second pass. One
/// collector of a mix does.
fn keep(steps: &mut Steps<'_>) {
    let me = 1 << steps.me;
    if steps.now().second_passes == 0 {
        steps
            .write(|next| next.second_passes |= me)
            .go(OfRecord::Read);
    }
    steps.done();
}

/// A listing loses the line of a link.
fn lose_line(then: OfRecord, steps: &mut Steps<'_>) {
    if let Some(lies @ 1..) = steps.now().lies {
        steps.write(|next| next.lies = Some(lies - 1)).go(then);
    }
}

/// R after the record was set to dead.
fn after_kill(dead: Record, is_honest: bool, rules: Rules) -> OfRecord {
    if rules.has(Mutant::RemovalWithoutPurging) {
        OfRecord::RemoveFirstObject(dead)
    } else if rules.has(Mutant::AliasRemovedBeforePurging) {
        OfRecord::ReadAlias(dead)
    } else if is_honest || rules.has(Mutant::PurgeWithoutListing) {
        OfRecord::Purge(dead)
    } else {
        OfRecord::ListFirstToPurge(dead)
    }
}

/// The second half: the record is dead.
fn remove_record(at: OfRecord, rules: Rules, steps: &mut Steps<'_>) {
    use OfRecord::*;
    let now = *steps.now();
    let is_alias_first = rules.has(Mutant::AliasRemovedBeforePurging);
    let after_alias = |record| {
        if is_alias_first {
            Purge(record)
        } else {
            RemoveFirstObject(record)
        }
    };
    let after_purging = |record| {
        if is_alias_first {
            RemoveFirstObject(record)
        } else {
            ReadAlias(record)
        }
    };
    match at {
        ListFirstToPurge(record) => {
            let found = now.link(0).is_some();
            steps.go(ListSecondToPurge(record, found));
            if found {
                lose_line(ListSecondToPurge(record, false), steps);
            }
        }
        ListSecondToPurge(_, true) => keep(steps),
        ListSecondToPurge(record, false) if now.link(1).is_some() => {
            keep(steps);
            lose_line(Purge(record), steps);
        }
        ListSecondToPurge(record, false) => steps.go(Purge(record)),
        Purge(record) if now.record != Some(record) => steps.go(Replaced(record)),
        Purge(record) => steps.replace_record(
            record,
            RecordState::Purging,
            write_of_pass(steps),
            |_, purging| after_purging(purging),
        ),
        Replaced(record)
            if now
                .record
                .is_some_and(|other| other.content == record.content) =>
        {
            steps.done()
        }
        Replaced(record) => steps.go(RemoveFirstObject(record)),
        ReadAlias(record) => {
            let is_removed = |named: &Content| {
                *named == record.content || rules.has(Mutant::AliasOfOtherDataRemoved)
            };
            match now.alias.filter(is_removed) {
                Some(named) if record.content.has_alias() => {
                    steps.go(RemoveAlias(record, named));
                }
                _ => steps.go(after_alias(record)),
            }
        }
        RemoveAlias(record, named) => steps
            .write(|next| {
                if next.alias == Some(named) || rules.has(Mutant::AliasDeletedUnconditionally) {
                    next.alias = None;
                }
            })
            .go(after_alias(record)),
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
