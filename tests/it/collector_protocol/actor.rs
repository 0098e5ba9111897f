//! Actors, their positions, and what a step can do.

use super::collectors::{self, OfLink, OfManifest, OfRecord};
use super::mutants::Mutant;
use super::others::{self, OfCancel, OfIndex, OfRestore};
use super::push::{self, OfPush, Push};
use super::state::{self, Content, Link, LinkState, Record, RecordState, Stamp, Write};

pub type State = state::State<At>;

/// The protocol that is explored.
#[derive(Clone, Copy, Default, Debug)]
pub struct Rules {
    pub mutant: Option<Mutant>,
    /// A variant that is safe: layers with data objects, too, get record and link at the same time.
    pub link_beside_record: bool,
}

impl Rules {
    pub fn has(self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

/// Who takes part in a mix.
#[derive(Clone, Copy)]
pub enum Actor {
    RecordCollector,
    LinkCollector(usize),
    Retention(usize),
    Push(Push),
    /// Completes the commit of an upload whose process died.
    Driver(Push),
    /// A forced cancel of such an upload, begun in this repository.
    Cancel(Content, usize),
    Index(usize),
    Unlink(usize),
    DeleteManifest(usize),
    Restore,
}

/// The position of an actor: the request that it sends next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum At {
    Record(OfRecord),
    Link(OfLink),
    Manifest(OfManifest),
    Push(OfPush),
    Cancel(OfCancel),
    Index(OfIndex),
    Restore(OfRestore),
    /// An actor of one request.
    Once,
    Done,
    Crashed,
}

impl At {
    pub fn is_final(self) -> bool {
        matches!(self, At::Done | At::Crashed)
    }
}

impl Actor {
    pub fn start(self) -> At {
        match self {
            Actor::RecordCollector => OfRecord::Read.into(),
            Actor::LinkCollector(_) => OfLink::ListManifests.into(),
            Actor::Retention(_) => OfManifest::ListParents.into(),
            Actor::Push(push) => push.start().into(),
            Actor::Driver(_) => OfPush::FIND_SESSION.into(),
            Actor::Cancel(..) => OfCancel::WriteCancelled.into(),
            Actor::Index(_) => OfIndex::ReadManifest.into(),
            Actor::Restore => OfRestore::Read.into(),
            Actor::Unlink(_) | Actor::DeleteManifest(_) => At::Once,
        }
    }

    /// All states that one request of this actor can lead to.
    pub fn step(self, rules: Rules, steps: &mut Steps<'_>) {
        match (self, steps.now().actors[steps.me]) {
            (Actor::RecordCollector, At::Record(at)) => collectors::record(at, rules, steps),
            (Actor::LinkCollector(repository), At::Link(at)) => {
                collectors::link(repository, at, rules, steps)
            }
            (Actor::Retention(repository), At::Manifest(at)) => {
                collectors::manifest(repository, at, rules, steps)
            }
            (Actor::Push(push) | Actor::Driver(push), At::Push(at)) => {
                push::step(push, at, rules, steps)
            }
            (Actor::Cancel(content, repository), At::Cancel(at)) => {
                others::cancel(content, repository, at, rules, steps)
            }
            (Actor::Index(repository), At::Index(at)) => {
                others::index(repository, at, rules, steps)
            }
            (Actor::Restore, At::Restore(at)) => others::restore(at, steps),
            (Actor::Unlink(repository), At::Once) => others::unlink(repository, steps),
            (Actor::DeleteManifest(repository), At::Once) => {
                others::delete_manifest(repository, steps)
            }
            (_, at) => unreachable!("{at:?} belongs to another actor"),
        }
    }
}

/// Collects the states that follow.
pub struct Steps<'a> {
    pub me: usize,
    now: &'a State,
    next: &'a mut Vec<State>,
}

/// A state that follows, but for the position of its actor.
pub struct Written<'s, 'a> {
    steps: &'s mut Steps<'a>,
    state: State,
}

impl<'a> Steps<'a> {
    pub fn new(me: usize, now: &'a State, next: &'a mut Vec<State>) -> Self {
        Steps { me, now, next }
    }

    pub fn now(&self) -> &'a State {
        self.now
    }

    pub fn stamp(&self, write: Write) -> Stamp {
        Stamp::by(self.me, write)
    }

    /// A request that changes the store.
    pub fn write(&mut self, change: impl FnOnce(&mut State)) -> Written<'_, 'a> {
        let mut state = *self.now;
        change(&mut state);
        Written { steps: self, state }
    }

    /// A request that only reads.
    pub fn go(&mut self, at: impl Into<At>) {
        self.write(|_| {}).go(at);
    }

    pub fn done(&mut self) {
        self.write(|_| {}).done();
    }

    /// Writes the record in another state, with If-Match. Where it was refused, the actor ends.
    pub fn replace_record<A: Into<At>>(
        &mut self,
        seen: Record,
        state: RecordState,
        write: Write,
        then: impl FnOnce(&mut State, Record) -> A,
    ) {
        if self.now.record != Some(seen) {
            return self.done();
        }
        let written = Record {
            state,
            stamp: self.stamp(write),
            ..seen
        };
        let mut next = *self.now;
        next.record = Some(written);
        let at = then(&mut next, written);
        Written {
            steps: self,
            state: next,
        }
        .go(at);
    }

    /// The same for a link.
    pub fn replace_link<A: Into<At>>(
        &mut self,
        repository: usize,
        seen: Link,
        state: LinkState,
        write: Write,
        then: impl FnOnce(&mut State, Link) -> A,
    ) {
        if self.now.repositories[repository].link != Some(seen) {
            return self.done();
        }
        let written = Link {
            state,
            stamp: self.stamp(write),
            ..seen
        };
        let mut next = *self.now;
        next.repositories[repository].link = Some(written);
        let at = then(&mut next, written);
        Written {
            steps: self,
            state: next,
        }
        .go(at);
    }
}

impl Written<'_, '_> {
    pub fn go(mut self, at: impl Into<At>) {
        self.state.actors[self.steps.me] = at.into();
        self.steps.next.push(self.state);
    }

    pub fn done(self) {
        self.end(At::Done);
    }

    pub fn crashed(self) {
        self.end(At::Crashed);
    }

    fn end(mut self, at: At) {
        self.state.close_window(self.steps.me);
        self.state.close_promise(self.steps.me);
        self.go(at);
    }
}
