//! A client that pushes the layer and then its manifest, and the process that completes the commit of a dead one.

mod commit;
mod crash;
mod manifest;

use super::actor::{At, Rules, State, Steps};
use super::mutants::Mutant;
use super::state::{Content, Link, LinkState, Record, RecordState, Upload, Write};

#[derive(Clone, Copy)]
pub struct Push {
    pub repository: usize,
    pub upload: Upload,
    /// Mounts the layer from there, if it is there.
    pub mount_from: Option<usize>,
    /// Asks first whether the layer is present.
    pub asks: bool,
    pub puts_manifest: bool,
    pub puts_tag: bool,
    /// The process may die before any request, and its last request may be carried out later.
    pub may_crash: bool,
}

impl Push {
    pub fn new(repository: usize, upload: Upload) -> Push {
        Push {
            repository,
            upload,
            mount_from: None,
            asks: true,
            puts_manifest: true,
            puts_tag: false,
            may_crash: false,
        }
    }

    pub fn without_asking(self) -> Push {
        Push {
            asks: false,
            ..self
        }
    }

    pub fn without_manifest(self) -> Push {
        Push {
            puts_manifest: false,
            ..self
        }
    }

    pub fn with_tag(self) -> Push {
        Push {
            puts_tag: true,
            ..self
        }
    }

    pub fn mounting_from(self, repository: usize) -> Push {
        Push {
            mount_from: Some(repository),
            ..self
        }
    }

    pub fn may_crash(self) -> Push {
        Push {
            may_crash: true,
            ..self
        }
    }

    pub fn start(self) -> OfPush {
        let first = if self.asks {
            Request::Head
        } else {
            self.after_absent_head()
        };
        OfPush {
            request: first,
            round: 0,
            pending: Pending::NONE,
        }
    }

    fn after_absent_head(self) -> Request {
        if self.mount_from.is_some() {
            Request::ReadLinkToMount
        } else {
            Request::Upload
        }
    }
}

/// Where a push is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OfPush {
    request: Request,
    /// 1 after a refused manifest: the client uploads again.
    round: u8,
    pending: Pending,
}

/// Requests that were sent beside the write of the record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Pending {
    session: bool,
    link: bool,
    /// The link that was written beside the record stays, since it holds the bytes.
    link_is_final: bool,
}

impl Pending {
    const NONE: Pending = Pending {
        session: false,
        link: false,
        link_is_final: false,
    };
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Request {
    Head,
    RescueForHead(Link),
    ReadLinkToMount,
    ReadRecordToMount,
    RescueForMount(Record),
    /// The data and the session, or the beginning of a commit of inline bytes.
    Upload,
    /// Only a driver: is there a session, and are the data there?
    FindSession,
    /// The data are gone: another driver has published the layer, or an equal one.
    FindPublished,
    RescueFound(Record),
    /// The record, by If-None-Match.
    Publish,
    /// Over a record that reads as absent, by If-Match.
    Replace(Record),
    RescueRecord(Record),
    /// The alias, in front of the link: it names this content, or is about to.
    ReadAlias(Content),
    /// By If-None-Match or If-Match.
    WriteAlias(Content, Option<Content>),
    WriteLink(Content),
    RemoveDuplicate(Content),
    RemoveSession,
    ReadLinkForManifest,
    RescueForManifest(Link),
    WriteManifest,
    WriteTag,
    Acknowledge,
    /// The process is dead. Its last request may still land.
    StrayLink(Content),
    StrayRecord(Option<Record>, Record),
    StrayAlias(Content, Option<Content>),
    /// [`Mutant::LinkBeforeSecondLook`]
    LateLink(Content),
    LateLook(Content),
}

impl OfPush {
    pub const FIND_SESSION: OfPush = OfPush {
        request: Request::FindSession,
        round: 0,
        pending: Pending::NONE,
    };

    fn at(self, request: Request) -> At {
        At::Push(OfPush { request, ..self })
    }
}

pub fn step(push: Push, at: OfPush, rules: Rules, steps: &mut Steps<'_>) {
    use Request::*;
    if push.may_crash {
        crash::die(push, at, rules, steps);
    }
    match at.request {
        Head | RescueForHead(_) => head(push, at, rules, steps),
        ReadLinkToMount | ReadRecordToMount | RescueForMount(_) => mount(push, at, rules, steps),
        Upload | FindSession => commit::begin(push, at, rules, steps),
        FindPublished | RescueFound(_) => commit::find_published(push, at, rules, steps),
        Publish | Replace(_) | RescueRecord(_) | ReadAlias(_) | WriteAlias(..) | WriteLink(_) => {
            commit::write_pending(push, at, steps);
            commit::write_record(push, at, rules, steps);
        }
        RemoveDuplicate(_) | RemoveSession => commit::clean_up(push, at, rules, steps),
        ReadLinkForManifest | RescueForManifest(_) | WriteManifest | WriteTag | Acknowledge => {
            manifest::put(push, at, rules, steps)
        }
        StrayLink(_) | StrayRecord(..) | StrayAlias(..) => crash::stray(push, at, steps),
        LateLink(_) | LateLook(_) => commit::late(push, at, steps),
    }
}

/// 200 is a promise: the client skips its upload.
fn head(push: Push, at: OfPush, rules: Rules, steps: &mut Steps<'_>) {
    let me = steps.me;
    match (at.request, steps.now().link(push.repository)) {
        (Request::RescueForHead(seen), Some(link)) if link == seen => {
            let rescued = Link {
                state: LinkState::Live,
                stamp: steps.stamp(Write::Rescue),
                ..link
            };
            steps
                .write(|next| {
                    next.repositories[push.repository].link = Some(rescued);
                    promise_until_manifest(next, me, rules);
                })
                .go(at.at(Request::ReadLinkForManifest));
        }
        (Request::RescueForHead(_), _) => steps.go(at.at(Request::Head)),
        (_, None) => steps.go(at.at(push.after_absent_head())),
        (_, Some(link))
            if link.state == LinkState::Condemned && !rules.has(Mutant::HeadWithoutRescue) =>
        {
            steps.go(at.at(Request::RescueForHead(link)));
        }
        (_, Some(_)) => steps
            .write(|next| promise_until_manifest(next, me, rules))
            .go(at.at(Request::ReadLinkForManifest)),
    }
}

fn promise_until_manifest(next: &mut State, me: usize, rules: Rules) {
    next.open_promise(me);
    if rules.has(Mutant::ManifestAfterThePromise) {
        next.close_promise(me);
    }
}

fn mount(push: Push, at: OfPush, rules: Rules, steps: &mut Steps<'_>) {
    let me = steps.me;
    let source = push
        .mount_from
        .and_then(|repository| steps.now().link(repository));
    match (at.request, steps.now().served_record()) {
        (Request::ReadLinkToMount, _) if source.is_some() => {
            steps.go(at.at(Request::ReadRecordToMount))
        }
        (Request::ReadRecordToMount, _) if rules.has(Mutant::MountWithoutReadingRecord) => {
            match source {
                Some(link) => steps
                    .write(|next| next.open_window(me))
                    .go(at.at(Request::WriteLink(link.content))),
                None => steps.go(at.at(Request::Upload)),
            }
        }
        (Request::ReadRecordToMount, Some(record))
            if record.state == RecordState::Live || rules.has(Mutant::MountWithoutRescue) =>
        {
            steps
                .write(|next| next.open_window(me))
                .go(at.at(Request::WriteLink(record.content)));
        }
        (Request::ReadRecordToMount, Some(record)) => {
            steps.go(at.at(Request::RescueForMount(record)))
        }
        (Request::RescueForMount(seen), Some(record)) if record == seen => {
            rescue_record(at, record, Request::WriteLink(record.content), steps)
        }
        (Request::RescueForMount(_), _) => steps.go(at.at(Request::ReadRecordToMount)),
        _ => steps.go(at.at(Request::Upload)),
    }
}

fn rescue_record(at: OfPush, seen: Record, then: Request, steps: &mut Steps<'_>) {
    let me = steps.me;
    steps.replace_record(seen, RecordState::Live, Write::Rescue, |next, _| {
        next.open_window(me);
        at.at(then)
    });
}

impl From<OfPush> for At {
    fn from(at: OfPush) -> At {
        At::Push(at)
    }
}
