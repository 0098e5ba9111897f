//! The process dies, and its last request is carried out later.

use super::super::actor::{Rules, Steps};
use super::super::mutants::Mutant;
use super::super::state::{Link, LinkState, Record, RecordState, Write};
use super::{OfPush, Pending, Push, Request};

pub fn die(push: Push, at: OfPush, rules: Rules, steps: &mut Steps<'_>) {
    let me = steps.me;
    let own = push.upload.content(at.round);
    let published = Record {
        state: RecordState::Live,
        content: own,
        stamp: steps.stamp(Write::Stray),
    };
    let stray = match at.request {
        Request::StrayLink(_) | Request::StrayRecord(..) | Request::StrayAlias(..) => return,
        Request::WriteAlias(content, seen) => Some(Request::StrayAlias(content, seen)),
        Request::WriteLink(content) if !at.pending.link_is_final => {
            Some(Request::StrayLink(content))
        }
        Request::Publish => Some(Request::StrayRecord(None, published)),
        Request::Replace(seen) => Some(Request::StrayRecord(Some(seen), published)),
        Request::RescueRecord(seen) => Some(Request::StrayRecord(
            Some(seen),
            Record {
                content: seen.content,
                ..published
            },
        )),
        _ => None,
    };
    steps.write(|_| {}).crashed();
    for stray in stray
        .into_iter()
        .chain(at.pending.link.then_some(Request::StrayLink(own)))
    {
        steps
            .write(|next| {
                next.close_promise(me);
                // Nothing limits when the write of an alias lands.
                if matches!(stray, Request::StrayAlias(..)) || rules.has(Mutant::StrayAfterTheWait)
                {
                    next.close_window(me);
                }
            })
            .go(OfPush {
                pending: Pending::NONE,
                ..at
            }
            .at(stray));
    }
}

pub fn stray(push: Push, at: OfPush, steps: &mut Steps<'_>) {
    steps.write(|_| {}).crashed();
    match at.request {
        Request::StrayLink(content) => {
            let link = Link {
                state: LinkState::Live,
                content,
                stamp: steps.stamp(Write::Stray),
            };
            steps
                .write(|next| next.repositories[push.repository].link = Some(link))
                .crashed();
        }
        Request::StrayAlias(content, seen) if steps.now().alias == seen => {
            steps.write(|next| next.alias = Some(content)).crashed();
        }
        Request::StrayRecord(seen, record) if steps.now().record == seen => {
            steps.write(|next| next.record = Some(record)).crashed();
        }
        _ => {}
    }
}
