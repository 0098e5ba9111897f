//! PUT of the manifest, and of a tag.

use super::super::actor::{Rules, Steps};
use super::super::mutants::Mutant;
use super::super::state::{Link, LinkState, Manifest, Write};
use super::{OfPush, Push, Request};

pub fn put(push: Push, at: OfPush, rules: Rules, steps: &mut Steps<'_>) {
    let me = steps.me;
    let here = steps.now().repositories[push.repository];
    match (at.request, steps.now().link(push.repository)) {
        (Request::ReadLinkForManifest, None) => refused(at, steps),
        (Request::ReadLinkForManifest, Some(link))
            if link.state == LinkState::Condemned
                && !rules.has(Mutant::ManifestPutWithoutRescue) =>
        {
            steps.go(at.at(Request::RescueForManifest(link)));
        }
        (Request::ReadLinkForManifest, Some(_)) => {
            steps
                .write(|next| next.open_promise(me))
                .go(at.at(Request::WriteManifest));
        }
        (Request::RescueForManifest(seen), Some(link)) if link == seen => {
            let rescued = Link {
                state: LinkState::Live,
                stamp: steps.stamp(Write::Rescue),
                ..link
            };
            steps
                .write(|next| {
                    next.repositories[push.repository].link = Some(rescued);
                    next.open_promise(me);
                })
                .go(at.at(Request::WriteManifest));
        }
        (Request::RescueForManifest(_), _) => steps.go(at.at(Request::ReadLinkForManifest)),
        (Request::WriteManifest, _) => {
            let after = if push.puts_tag {
                Request::WriteTag
            } else {
                Request::Acknowledge
            };
            let is_kept = rules.has(Mutant::ManifestPutKeepsTheOldOne) && here.manifest.is_some();
            let manifest = Manifest {
                condemned: false,
                stamp: steps.stamp(Write::FirstRound),
            };
            steps
                .write(|next| {
                    if !is_kept {
                        next.repositories[push.repository].manifest = Some(manifest);
                    }
                })
                .go(at.at(after));
        }
        (Request::WriteTag, _) => {
            steps
                .write(|next| next.repositories[push.repository].tagged = true)
                .go(at.at(Request::Acknowledge));
        }
        _ => steps
            .write(|next| {
                let here = &mut next.repositories[push.repository];
                here.manifest_acknowledged |= push.puts_tag || here.manifest.is_some();
                here.parent_acknowledged |= push.puts_tag;
            })
            .done(),
    }
}

/// MANIFEST_BLOB_UNKNOWN: the client pushes once more.
fn refused(at: OfPush, steps: &mut Steps<'_>) {
    let me = steps.me;
    let again = OfPush { round: 1, ..at }.at(Request::Upload);
    let written = steps.write(|next| {
        next.close_promise(me);
        next.manifest_refused = true;
    });
    if at.round == 0 {
        written.go(again)
    } else {
        written.done()
    }
}
