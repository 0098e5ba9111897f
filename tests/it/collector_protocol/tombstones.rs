//! How tombstones are removed where DELETE knows no condition: one key, collectors, writers, and a user who deletes.
//!
//! A collector announces the key, waits until no writer is left that looked for announcements before (E), reads the key again, and
//! sends DELETE. A writer over a tombstone looks for announcements first, and is refused while its key is announced. A writer that
//! finds the key absent does not look, so *no DELETE may be in flight when the key becomes absent by another one*: there
//! is one announcement at a time (If-None-Match), and its collector sends DELETE once, without repeating it.

use super::explore::search;

const COLLECTORS: usize = 2;
const ACTORS: usize = 5;

/// What is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    /// Any number of collectors announce at once.
    ManyAnnouncements,
    /// A DELETE that was not answered is sent again.
    DeleteRepeated,
    NoWait,
    NoSecondLook,
    WriterDoesNotLook,
    /// The announcement goes before a late DELETE has landed.
    AnnouncementRemovedEarly,
    /// The announcement of a dead collector goes before its last DELETE has landed.
    DeadAnnouncementRemovedEarly,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Key {
    Absent,
    Tombstone(u8),
    /// What a writer wrote.
    Document(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    // A collector.
    Read,
    Announce(Key),
    Wait(Key),
    ReadAgain(Key),
    Delete,
    WaitForStrays,
    RemoveAnnouncement,
    // A writer.
    Look,
    LookForAnnouncements(Key),
    Write(Key),
    // A user who deletes.
    Find,
    Bury(Key),
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State {
    key: Key,
    /// Collectors whose announcement stands, that died, and whose DELETE is in flight.
    announced: u8,
    dead: u8,
    strays: u8,
    /// Writers that looked and have not written yet (E), and those that each collector waits for.
    windows: u8,
    waits_for: [u8; COLLECTORS],
    /// A writer has stored its document, and no user has deleted it.
    is_stored: bool,
    actors: [At; ACTORS],
}

const FIRST: State = State {
    key: Key::Tombstone(0),
    announced: 0,
    dead: 0,
    strays: 0,
    windows: 0,
    waits_for: [0; COLLECTORS],
    is_stored: false,
    actors: [At::Read, At::Read, At::Look, At::Look, At::Find],
};

fn step(state: &State, mutant: Option<Mutant>, next: &mut Vec<(usize, State)>) {
    for me in 0..ACTORS {
        match state.actors[me] {
            At::Done => {}
            at if me < COLLECTORS => collect(me, at, state, mutant, next),
            at => write(me, at, state, mutant, next),
        }
    }
    for me in (0..COLLECTORS).filter(|me| state.strays & (1 << me) != 0) {
        let settled = State {
            strays: state.strays & !(1 << me),
            ..*state
        };
        next.push((me, settled));
        next.push((
            me,
            State {
                key: Key::Absent,
                ..settled
            },
        ));
    }
    // The next run removes what a dead collector left, once its last request must have landed.
    for me in (0..COLLECTORS).filter(|me| state.dead & state.announced & (1 << me) != 0) {
        if state.strays & (1 << me) == 0 || mutant == Some(Mutant::DeadAnnouncementRemovedEarly) {
            next.push((
                me,
                State {
                    announced: state.announced & !(1 << me),
                    ..*state
                },
            ));
        }
    }
}

fn collect(
    me: usize,
    at: At,
    state: &State,
    mutant: Option<Mutant>,
    next: &mut Vec<(usize, State)>,
) {
    let bit = 1 << me;
    let mut go = |state: State, at| next.push((me, moved(state, me, at)));
    let has = |mutants: &[Mutant]| mutant.is_some_and(|mutant| mutants.contains(&mutant));
    match at {
        At::Read if matches!(state.key, Key::Tombstone(_)) => go(*state, At::Announce(state.key)),
        At::Announce(_) if state.announced != 0 && !has(&[Mutant::ManyAnnouncements]) => {
            go(*state, At::Done)
        }
        At::Announce(seen) => {
            let mut announced = State {
                announced: state.announced | bit,
                ..*state
            };
            announced.waits_for[me] = state.windows;
            go(announced, At::Wait(seen));
        }
        At::Wait(_) if state.waits_for[me] != 0 && !has(&[Mutant::NoWait]) => {}
        At::Wait(seen) => go(*state, At::ReadAgain(seen)),
        At::ReadAgain(seen) if state.key == seen || has(&[Mutant::NoSecondLook]) => {
            go(*state, At::Delete)
        }
        At::ReadAgain(_) => go(*state, At::RemoveAnnouncement),
        At::Delete => {
            go(
                State {
                    key: Key::Absent,
                    ..*state
                },
                At::WaitForStrays,
            );
            let unanswered = State {
                strays: state.strays | bit,
                ..*state
            };
            go(unanswered, At::WaitForStrays);
            if has(&[Mutant::DeleteRepeated]) && state.strays & bit == 0 {
                go(unanswered, At::Delete);
            }
        }
        At::WaitForStrays
            if state.strays & bit != 0 && !has(&[Mutant::AnnouncementRemovedEarly]) => {}
        At::WaitForStrays => go(*state, At::RemoveAnnouncement),
        At::RemoveAnnouncement => go(
            State {
                announced: state.announced & !bit,
                ..*state
            },
            At::Done,
        ),
        _ => go(*state, At::Done),
    }
    go(
        State {
            dead: state.dead | bit,
            ..*state
        },
        At::Done,
    );
}

fn write(me: usize, at: At, state: &State, mutant: Option<Mutant>, next: &mut Vec<(usize, State)>) {
    let mut go = |state: State, at| next.push((me, moved(state, me, at)));
    match at {
        At::Look
            if matches!(state.key, Key::Tombstone(_))
                && mutant != Some(Mutant::WriterDoesNotLook) =>
        {
            go(*state, At::LookForAnnouncements(state.key));
        }
        At::Look => go(*state, At::Write(state.key)),
        // 503, with Retry-After.
        At::LookForAnnouncements(_) if state.announced != 0 => go(*state, At::Done),
        At::LookForAnnouncements(seen) => {
            go(
                State {
                    windows: state.windows | 1 << me,
                    ..*state
                },
                At::Write(seen),
            );
        }
        At::Write(seen) => {
            let mut closed = *state;
            closed.windows &= !(1 << me);
            closed.waits_for = closed.waits_for.map(|waits_for| waits_for & !(1 << me));
            if state.key == seen {
                go(
                    State {
                        key: Key::Document(me as u8),
                        is_stored: true,
                        ..closed
                    },
                    At::Done,
                );
            } else {
                go(closed, At::Look);
            }
        }
        At::Find if matches!(state.key, Key::Document(_)) => go(*state, At::Bury(state.key)),
        At::Find => {}
        At::Bury(seen) if state.key == seen => {
            go(
                State {
                    key: Key::Tombstone(me as u8),
                    is_stored: false,
                    ..*state
                },
                At::Done,
            );
        }
        _ => go(*state, At::Done),
    }
}

fn moved(mut state: State, me: usize, at: At) -> State {
    state.actors[me] = at;
    state
}

fn is_lost(state: &State) -> bool {
    state.is_stored && !matches!(state.key, Key::Document(_))
}

fn explore(mutant: Option<Mutant>) -> (usize, Option<String>) {
    let found = search(
        FIRST,
        |state, next| step(state, mutant, next),
        |state, _| is_lost(state).then_some(()),
    );
    let describe =
        |(actor, state): &(usize, State)| format!("  {actor}: {:?}", state.actors[*actor]);
    (
        found.states,
        found
            .broken
            .map(|(_, trail)| trail.iter().map(describe).collect::<Vec<_>>().join("\n")),
    )
}

#[test]
fn announced_tombstones_go_without_loss() {
    let (states, lost) = explore(None);
    println!("{states} states");
    assert_eq!(lost, None);
}

#[test]
fn every_mutant_of_the_announcement_is_caught() {
    for mutant in [
        Mutant::ManyAnnouncements,
        Mutant::DeleteRepeated,
        Mutant::NoWait,
        Mutant::NoSecondLook,
        Mutant::WriterDoesNotLook,
        Mutant::AnnouncementRemovedEarly,
        Mutant::DeadAnnouncementRemovedEarly,
    ] {
        let (states, lost) = explore(Some(mutant));
        println!(
            "{mutant:?}, {states} states:\n{}",
            lost.as_deref().unwrap_or("not caught")
        );
        assert!(lost.is_some(), "{mutant:?}");
    }
}
