//! Data, session, record, link.

use super::super::actor::{At, Rules, Steps};
use super::super::mutants::Mutant;
use super::super::state::{Content, Link, LinkState, Record, RecordState, Write};
use super::{OfPush, Pending, Push, Request, rescue_record};

pub fn begin(push: Push, at: OfPush, rules: Rules, steps: &mut Steps<'_>) {
    let me = steps.me;
    let own = push.upload.content(at.round);
    let now = steps.now();
    if at.request == Request::Upload {
        let pending = Pending {
            session: own.is_inline(),
            link: own.is_inline() || rules.link_beside_record,
            link_is_final: own.is_inline(),
        };
        steps
            .write(|next| {
                next.open_window(me);
                next.close_promise(me);
                next.data |= own.objects();
                if !pending.session {
                    next.sessions |= own.session();
                }
            })
            .go(OfPush { pending, ..at }.at(Request::Publish));
    } else if now.sessions & own.session() == 0 {
        steps.done();
    } else if now.has_data(own) {
        steps
            .write(|next| next.open_window(me))
            .go(at.at(Request::Publish));
    } else {
        steps.go(at.at(Request::FindPublished));
    }
}

/// The data are gone. The record is read, and rescued, as by a mount.
pub fn find_published(push: Push, at: OfPush, rules: Rules, steps: &mut Steps<'_>) {
    let me = steps.me;
    let rescues = !rules.has(Mutant::FoundLayerWithoutRescue);
    let now = steps.now();
    match (at.request, now.served_record()) {
        (Request::RescueFound(seen), Some(record)) if record == seen => {
            rescue_record(at, record, then_link(push, record.content), steps);
        }
        (Request::RescueFound(_), _) => steps.go(at.at(Request::FindPublished)),
        (_, Some(record)) if record.state == RecordState::Live || !rescues => steps
            .write(|next| next.open_window(me))
            .go(at.at(then_link(push, record.content))),
        (_, Some(record)) => steps.go(at.at(Request::RescueFound(record))),
        (_, None) => {
            let is_over = now.sessions & push.upload.content(at.round).session() == 0;
            let is_published = is_over || now.link(push.repository).is_some();
            steps.write(|next| next.upload_lost |= !is_published).done();
        }
    }
}

/// What was sent beside the write of the record lands at any time until the commit is acknowledged.
pub fn write_pending(push: Push, at: OfPush, steps: &mut Steps<'_>) {
    let me = steps.me;
    let own = push.upload.content(at.round);
    if at.pending.session {
        let pending = Pending {
            session: false,
            ..at.pending
        };
        steps
            .write(|next| next.sessions |= own.session())
            .go(At::Push(OfPush { pending, ..at }));
    }
    if at.pending.link {
        let pending = Pending {
            link: false,
            ..at.pending
        };
        let link = Link {
            state: LinkState::Live,
            content: own,
            stamp: steps.stamp(Write::in_round(at.round)),
        };
        steps
            .write(|next| {
                next.repositories[push.repository].link = Some(link);
                if pending.link_is_final {
                    next.open_promise(me);
                }
            })
            .go(At::Push(OfPush { pending, ..at }));
    }
}

pub fn write_record(push: Push, at: OfPush, rules: Rules, steps: &mut Steps<'_>) {
    let me = steps.me;
    let own = push.upload.content(at.round);
    match (at.request, steps.now().record) {
        (Request::WriteLink(content), _) => write_link(push, at, content, rules, steps),
        (Request::ReadAlias(_) | Request::WriteAlias(..), _) => write_alias(at, rules, steps),
        (Request::RescueRecord(seen), Some(record)) if record == seen => {
            rescue_record(at, record, then_link(push, record.content), steps)
        }
        (Request::Replace(seen), current) if current == Some(seen) => publish(push, at, own, steps),
        (Request::Replace(_) | Request::RescueRecord(_), _) => steps.go(at.at(Request::Publish)),
        (_, None) => publish(push, at, own, steps),
        (_, Some(record)) => match record.state {
            RecordState::Dead | RecordState::Purging => steps.go(at.at(Request::Replace(record))),
            RecordState::Condemned if !rules.has(Mutant::FinishWithoutRescue) => {
                steps.go(at.at(Request::RescueRecord(record)));
            }
            RecordState::Condemned | RecordState::Live => {
                steps
                    .write(|next| next.open_window(me))
                    .go(at.at(then_link(push, record.content)));
            }
        },
    }
}

/// The link comes last, so that it shows when all else stands.
fn then_link(push: Push, content: Content) -> Request {
    if push.upload.has_alias {
        Request::ReadAlias(content)
    } else {
        Request::WriteLink(content)
    }
}

/// An alias that names other data is replaced: a collector that removes those removes it too.
fn write_alias(at: OfPush, rules: Rules, steps: &mut Steps<'_>) {
    let standing = steps.now().alias;
    match at.request {
        Request::ReadAlias(content) => {
            let keeps_any = rules.has(Mutant::AliasOfOldDataKept) && standing.is_some();
            if standing == Some(content) || keeps_any {
                steps.go(at.at(Request::WriteLink(content)));
            } else {
                steps.go(at.at(Request::WriteAlias(content, standing)));
            }
        }
        Request::WriteAlias(content, seen) if standing == seen => {
            steps
                .write(|next| next.alias = Some(content))
                .go(at.at(Request::WriteLink(content)));
        }
        Request::WriteAlias(content, _) => steps.go(at.at(Request::ReadAlias(content))),
        _ => {}
    }
}

fn publish(push: Push, at: OfPush, own: Content, steps: &mut Steps<'_>) {
    let me = steps.me;
    let record = Record {
        state: RecordState::Live,
        content: own,
        stamp: steps.stamp(Write::in_round(at.round)),
    };
    steps
        .write(|next| {
            next.record = Some(record);
            next.open_window(me);
        })
        .go(at.at(then_link(push, own)));
}

fn write_link(push: Push, at: OfPush, content: Content, rules: Rules, steps: &mut Steps<'_>) {
    let me = steps.me;
    if at.pending.link_is_final {
        if !at.pending.link && !at.pending.session {
            steps.go(at.at(Request::RemoveDuplicate(content)));
        }
        return;
    }
    let link = Link {
        state: LinkState::Live,
        content,
        stamp: steps.stamp(Write::in_round(at.round)),
    };
    let settled = OfPush {
        pending: Pending::NONE,
        ..at
    };
    steps
        .write(|next| {
            next.repositories[push.repository].link = Some(link);
            if rules.has(Mutant::DuplicateRemovedLate) {
                next.close_window(me);
            }
            next.open_promise(me);
            if push.upload.has_alias {
                next.alias_acknowledged = Some(content);
            }
        })
        .go(settled.at(Request::RemoveDuplicate(content)));
    let is_mounted = push.mount_from.is_some() && content != push.upload.content(at.round);
    if rules.has(Mutant::LinkBeforeSecondLook) && is_mounted {
        steps
            .write(|next| next.close_window(me))
            .go(settled.at(Request::LateLink(content)));
    }
}

pub fn late(push: Push, at: OfPush, steps: &mut Steps<'_>) {
    let me = steps.me;
    let written = |content| Link {
        state: LinkState::Live,
        content,
        stamp: steps.stamp(Write::in_round(at.round)),
    };
    match at.request {
        Request::LateLink(content) => {
            let link = written(content);
            steps
                .write(|next| next.repositories[push.repository].link = Some(link))
                .go(at.at(Request::LateLook(content)));
        }
        Request::LateLook(_) if steps.now().served_record().is_some() => {
            steps
                .write(|next| next.open_promise(me))
                .go(at.at(Request::ReadLinkForManifest));
        }
        Request::LateLook(content) => {
            let link = written(content);
            steps
                .write(|next| {
                    let here = &mut next.repositories[push.repository].link;
                    if *here == Some(link) {
                        *here = Some(Link {
                            state: LinkState::Gone,
                            ..link
                        });
                    }
                })
                .go(at.at(Request::Upload));
        }
        _ => {}
    }
}

/// The data of an upload that lost to another one, then the session.
pub fn clean_up(push: Push, at: OfPush, rules: Rules, steps: &mut Steps<'_>) {
    let me = steps.me;
    let own = push.upload.content(at.round);
    if let Request::RemoveDuplicate(published) = at.request {
        let is_owner = steps.now().sessions & own.session() != 0;
        steps
            .write(|next| {
                if published != own && is_owner {
                    next.data &= !own.objects();
                }
                next.close_window(me);
            })
            .go(at.at(Request::RemoveSession));
    } else if push.puts_manifest {
        steps
            .write(|next| {
                next.sessions &= !own.session();
                if rules.has(Mutant::ManifestAfterThePromise) {
                    next.close_promise(me);
                }
            })
            .go(at.at(Request::ReadLinkForManifest));
    } else {
        steps.write(|next| next.sessions &= !own.session()).done();
    }
}
