//! Visits every state that a mix can reach, in breadth, and checks the promises in each.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use super::actor::{Actor, At, Rules, State, Steps};
use super::mutants::Mutant;
use super::state::{ACTORS, Content, Link, LinkState, Manifest, Record, RecordState, Stamp};

/// What is stored before a mix begins: the layer, with the link and the manifest of the first repository.
#[derive(Clone, Copy)]
pub struct Beginning {
    pub link: Option<LinkState>,
    pub manifest: bool,
    /// The record. One that is condemned was so long ago.
    pub layer: Option<RecordState>,
    pub alias: bool,
    /// See [`State::lies`].
    pub lies: Option<u8>,
}

/// Actors that run at once.
pub struct Mix {
    pub name: &'static str,
    pub beginning: Beginning,
    pub actors: Vec<Actor>,
    /// The layer must be collected in every end.
    pub must_collect: bool,
}

/// A promise that was broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// An acknowledged manifest has no link, or its layer cannot be read.
    AcknowledgedLayerLost,
    /// The record of an acknowledged manifest's layer reads as absent, so other repositories cannot mount it. (Where record
    /// and link are written at once, the link serves the layer before the record does.)
    RecordLost,
    AcknowledgedParentWithoutManifest,
    /// A manifest was refused although no user deleted its layer.
    PushRefused,
    /// A committing upload was not published, although no user deleted its layer.
    UploadLost,
    RestoredLayerLost,
    LinkToNothing,
    /// A layer that was pushed under a second id is present, and is not found by it.
    AliasLost,
    Stuck,
    DataLeaked,
    NeverCollected,
}

/// The states that were explored, or the shortest way to a broken promise.
pub struct Outcome {
    pub states: usize,
    pub ends: usize,
    pub broken: Option<(Broken, String)>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.broken {
            None => write!(f, "{} states, {} ends", self.states, self.ends),
            Some((broken, trail)) => write!(f, "{broken:?} after {} states:\n{trail}", self.states),
        }
    }
}

/// Multiplies and rotates, as rustc's hasher does: the keys are our own.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

pub fn explore(mix: &Mix, rules: Rules) -> Outcome {
    let step = |state: &State, next: &mut Vec<(usize, State)>| {
        let mut states = Vec::new();
        for (me, actor) in mix
            .actors
            .iter()
            .enumerate()
            .filter(|(me, _)| !state.actors[*me].is_final())
        {
            actor.step(rules, &mut Steps::new(me, state, &mut states));
            next.extend(states.drain(..).map(|state| (me, state)));
        }
    };
    let broken = |state: &State, is_end| {
        let broken = mix.broken_promise(state, rules);
        if is_end {
            broken.or_else(|| mix.broken_end(state, rules))
        } else {
            broken
        }
    };
    let found = search(mix.first_state(), step, broken);
    let describe =
        |(actor, state): &(usize, State)| format!("  {actor}: {:?}", state.actors[*actor]);
    let broken = found.broken.map(|(broken, trail)| {
        (
            broken,
            trail.iter().map(describe).collect::<Vec<_>>().join("\n"),
        )
    });
    Outcome {
        states: found.states,
        ends: found.ends,
        broken,
    }
}

/// What a search found.
pub struct Found<S, B> {
    pub states: usize,
    /// States that nothing follows.
    pub ends: usize,
    /// The first broken promise, and the shortest way to it: each actor, and the state in which it took its step.
    pub broken: Option<(B, Vec<(usize, S)>)>,
}

/// Visits all states that can be reached, in breadth. `step` lists what follows a state, and which actor does it; `broken` judges a
/// state, and knows whether nothing follows.
pub fn search<S: Copy + Eq + Hash, B>(
    first: S,
    step: impl Fn(&S, &mut Vec<(usize, S)>),
    broken: impl Fn(&S, bool) -> Option<B>,
) -> Found<S, B> {
    let mut states = vec![first];
    let mut origins = vec![(0_u8, 0_u32)];
    let mut known: HashSet<S, BuildHasherDefault<Mixer>> = HashSet::default();
    known.insert(first);
    let mut next = Vec::new();
    let mut ends = 0;
    let mut current = 0;
    while current < states.len() {
        let state = states[current];
        step(&state, &mut next);
        ends += usize::from(next.is_empty());
        if let Some(broken) = broken(&state, next.is_empty()) {
            let trail = trail(&states, &origins, current);
            return Found {
                states: states.len(),
                ends,
                broken: Some((broken, trail)),
            };
        }
        for (actor, state) in next.drain(..) {
            if known.insert(state) {
                states.push(state);
                origins.push((actor as u8, current as u32));
            }
        }
        current += 1;
    }
    Found {
        states: states.len(),
        ends,
        broken: None,
    }
}

fn trail<S: Copy>(states: &[S], origins: &[(u8, u32)], mut at: usize) -> Vec<(usize, S)> {
    let mut trail = Vec::new();
    while at != 0 {
        let (actor, before) = origins[at];
        at = before as usize;
        trail.push((usize::from(actor), states[at]));
    }
    trail.reverse();
    trail
}

impl Mix {
    fn first_state(&self) -> State {
        let mut actors = [At::Done; ACTORS];
        for (at, actor) in actors.iter_mut().zip(&self.actors) {
            *at = actor.start();
        }
        let mut state = State::new(actors);
        let content = if self.beginning.alias {
            Content::FIRST_WITH_ALIAS
        } else {
            Content::FIRST
        };
        state.alias = self.beginning.alias.then_some(content);
        state.alias_acknowledged = state.alias;
        state.lies = self.beginning.lies;
        // With five actors, second passes make twice as many states and show nothing new.
        if self.actors.len() > 4 {
            state.second_passes = u8::MAX;
        }
        if let Some(record) = self.beginning.layer {
            state.record = Some(Record {
                state: record,
                content,
                stamp: Stamp::FIRST,
            });
            state.data = content.objects();
        }
        state.repositories[0].link = self.beginning.link.map(|state| Link {
            state,
            content,
            stamp: Stamp::FIRST,
        });
        if self.beginning.manifest {
            state.repositories[0].manifest = Some(Manifest {
                condemned: false,
                stamp: Stamp::FIRST,
            });
            state.repositories[0].manifest_acknowledged = true;
        }
        state
    }

    /// What no state may show, not even for a moment.
    fn broken_promise(&self, state: &State, rules: Rules) -> Option<Broken> {
        let is_readable = |content: Content| {
            let link_has_bytes = content.is_inline() && !rules.has(Mutant::SmallLinkWithoutBytes);
            let link_has_data = !content.is_inline() && state.has_data(content);
            link_has_bytes
                || link_has_data
                || state
                    .served_record()
                    .is_some_and(|record| state.has_data(record.content))
        };
        for (repository, here) in state.repositories.iter().enumerate() {
            let link = state.link(repository);
            let reads = link.is_some_and(|link| is_readable(link.content));
            if here.manifest_acknowledged && !reads {
                return Some(Broken::AcknowledgedLayerLost);
            }
            // The record of a layer whose link was not listed can read as absent. Its bytes stay.
            let is_written_in_order = !rules.link_beside_record
                && state.lies.is_none()
                && link.is_some_and(|link| !link.content.is_inline());
            if here.manifest_acknowledged && is_written_in_order && state.served_record().is_none()
            {
                return Some(Broken::RecordLost);
            }
            if link.is_some() && !reads {
                return Some(Broken::LinkToNothing);
            }
            if here.parent_acknowledged && here.manifest.is_none() {
                return Some(Broken::AcknowledgedParentWithoutManifest);
            }
        }
        let has_unlink = self
            .actors
            .iter()
            .any(|actor| matches!(actor, Actor::Unlink(_)));
        let promised = state.served_record().map(|record| record.content);
        if promised.is_some() && promised == state.alias_acknowledged && state.alias.is_none() {
            return Some(Broken::AliasLost);
        }
        let restored = state.record.filter(|record| {
            record.state == RecordState::Live && state.restored == Some(record.content)
        });
        if state.manifest_refused && !has_unlink {
            Some(Broken::PushRefused)
        } else if state.upload_lost && !has_unlink {
            Some(Broken::UploadLost)
        } else if restored.is_some_and(|record| !state.has_data(record.content)) {
            Some(Broken::RestoredLayerLost)
        } else {
            None
        }
    }

    /// What no state may show in which no actor has a step left.
    fn broken_end(&self, state: &State, rules: Rules) -> Option<Broken> {
        let mut named = state.record.map_or(0, |record| record.content.objects());
        for repository in 0..2 {
            named |= state
                .link(repository)
                .map_or(0, |link| link.content.objects());
        }
        // What these leave is found by `check`.
        let may_leak = state.actors.contains(&At::Crashed)
            || rules.link_beside_record
            // A later pass finds them: they were written down before the record was set to dead.
            || state.lies.is_some();
        let is_collected = state
            .record
            .is_none_or(|record| record.state == RecordState::Purging);
        if !state.actors.iter().all(|at| at.is_final()) {
            Some(Broken::Stuck)
        } else if state.data & !named != 0 && !may_leak {
            Some(Broken::DataLeaked)
        } else if self.must_collect && !is_collected {
            Some(Broken::NeverCollected)
        } else {
            None
        }
    }
}
