//! The rule by which uploads share memory, as a model that is searched exhaustively: from every state
//! the end can be reached in every order of steps. Without any part of the rules it cannot.
//!
//! N uploads of T units each share B units of memory. A part has P units, the shortest part m; X parts
//! are streamed at a time. An upload receives, sends a part, streams one that begins with tails, or
//! spills what it holds to a tail.

use std::collections::HashMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Mode {
    Receiving,
    Sending,
    Streaming,
    Spilling,
    /// Of a mutant: it has the first of two units for a stream, and waits for the second.
    Waiting,
}

use Mode::{Receiving, Sending, Spilling, Streaming, Waiting};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Upload {
    left: u8,
    held: u8,
    stored: u8,
    mode: Mode,
}

/// The uploads in order: which of them is which does not matter.
type State = Vec<Upload>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    None,
    /// What an upload holds is stored only when its part is full.
    NoSpill,
    /// A part that begins with tails is gathered in memory again.
    Gather,
    /// A stream takes its two units from the uploads' pool.
    Scratch,
}

#[derive(Clone, Copy, Debug)]
struct Setting {
    uploads: usize,
    units: u8,
    budget: u8,
    part: u8,
    least: u8,
    streams: usize,
}

const fn setting(
    uploads: usize,
    units: u8,
    budget: u8,
    part: u8,
    least: u8,
    streams: usize,
) -> Setting {
    Setting {
        uploads,
        units,
        budget,
        part,
        least,
        streams,
    }
}

const SETTINGS: [Setting; 5] = [
    setting(3, 4, 3, 3, 2, 1),
    setting(3, 5, 4, 3, 2, 1),
    setting(3, 5, 2, 3, 2, 1),
    setting(4, 3, 4, 3, 2, 1),
    setting(3, 6, 5, 4, 3, 2),
];

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Ok,
    /// Nothing can happen, and it is not the end.
    Deadlock(State),
    /// Something can happen, but the end cannot be reached.
    Trap(State),
}

impl Setting {
    /// What can become of an upload while so much is free and so many others stream.
    fn steps(self, mutant: Mutant, upload: Upload, free: u8, streaming: usize) -> Vec<Upload> {
        let Upload {
            left,
            held,
            stored,
            mode,
        } = upload;
        let to = |left, held, stored, mode| Upload {
            left,
            held,
            stored,
            mode,
        };
        let mut steps = Vec::new();
        match mode {
            Receiving => {
                if left > 0 && held < self.part && free > 0 {
                    steps.push(to(left - 1, held + 1, stored, Receiving));
                }
                let is_full = held == self.part || left == 0;
                if stored == 0 && held > 0 && (is_full || (free == 0 && held >= self.least)) {
                    steps.push(to(left, held, stored, Sending));
                }
                if free == 0 && held > 0 && mutant != Mutant::NoSpill {
                    steps.push(to(left, held, stored, Spilling));
                }
                let is_part = stored + held >= self.least || left == 0;
                if stored > 0 && is_part {
                    match mutant {
                        Mutant::Gather if free >= stored && stored + held <= self.part => {
                            let is_short = stored + held < self.least && left > 0;
                            let mode = if is_short { Receiving } else { Sending };
                            steps.push(to(left, held + stored, 0, mode));
                        }
                        Mutant::Scratch if free > 0 => {
                            steps.push(to(left, held + 1, stored, Waiting));
                        }
                        Mutant::None | Mutant::NoSpill if streaming < self.streams => {
                            steps.push(to(left, held, stored, Streaming));
                        }
                        _ => {}
                    }
                }
            }
            Sending => steps.push(to(left, 0, stored, Receiving)),
            Spilling => steps.push(to(left, 0, stored + held, Receiving)),
            Waiting if free > 0 => steps.push(to(left, held + 1, stored, Streaming)),
            Waiting => {}
            Streaming => steps.push(to(left, 0, 0, Receiving)),
        }
        steps
    }

    fn next_states(self, mutant: Mutant, state: &State) -> Vec<State> {
        let held: u8 = state.iter().map(|upload| upload.held).sum();
        let streaming = state
            .iter()
            .filter(|upload| upload.mode == Streaming)
            .count();
        let mut next = Vec::new();
        for (index, upload) in state.iter().enumerate() {
            for step in self.steps(mutant, *upload, self.budget - held, streaming) {
                let mut changed = state.clone();
                changed[index] = step;
                changed.sort_unstable();
                next.push(changed);
            }
        }
        next
    }

    /// The outcome, and how many states there are.
    fn search(self, mutant: Mutant) -> (Outcome, usize) {
        let upload = |left| Upload {
            left,
            held: 0,
            stored: 0,
            mode: Receiving,
        };
        let (begin, end) = (
            vec![upload(self.units); self.uploads],
            vec![upload(0); self.uploads],
        );
        let mut numbers = HashMap::from([(begin.clone(), 0)]);
        let mut states = vec![begin];
        let mut before: Vec<Vec<usize>> = vec![Vec::new()];
        let mut at = 0;
        while at < states.len() {
            let next = self.next_states(mutant, &states[at]);
            if next.is_empty() && states[at] != end {
                return (Outcome::Deadlock(states[at].clone()), states.len());
            }
            for state in next {
                let number = *numbers.entry(state.clone()).or_insert(states.len());
                if number == states.len() {
                    states.push(state);
                    before.push(Vec::new());
                }
                before[number].push(at);
            }
            at += 1;
        }
        let mut reaches_end = vec![false; states.len()];
        let mut open: Vec<usize> = numbers.get(&end).copied().into_iter().collect();
        while let Some(number) = open.pop() {
            if !std::mem::replace(&mut reaches_end[number], true) {
                open.extend(&before[number]);
            }
        }
        let trap = reaches_end.iter().position(|reaches| !reaches);
        let outcome = trap.map_or(Outcome::Ok, |trap| Outcome::Trap(states[trap].clone()));
        (outcome, states.len())
    }
}

#[test]
fn every_upload_can_end_from_every_state() {
    for setting in SETTINGS {
        let (outcome, states) = setting.search(Mutant::None);
        println!("{setting:?}: {states} states");
        assert_eq!(outcome, Outcome::Ok, "{setting:?}");
    }
}

#[test]
fn each_part_of_the_rule_is_needed() {
    for mutant in [Mutant::NoSpill, Mutant::Gather, Mutant::Scratch] {
        let fails = |setting: &&Setting| setting.search(mutant).0 != Outcome::Ok;
        let failed = SETTINGS.iter().filter(fails).count();
        println!("{mutant:?}: caught in {failed} settings");
        assert!(failed > 0, "{mutant:?}");
    }
}
