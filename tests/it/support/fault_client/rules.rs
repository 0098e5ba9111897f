//! Which requests go wrong, and how.

use std::time::Duration;

use super::request::{Operation, Request};

/// Which requests.
#[derive(Clone, Debug, Default)]
pub struct On {
    number: Option<usize>,
    from: Option<usize>,
    operation: Option<Operation>,
    key_ends: Option<&'static str>,
    key_contains: Option<&'static str>,
    /// Of those that match otherwise, from 1.
    nth: Option<usize>,
}

impl On {
    /// The one with this number.
    pub fn request(number: usize) -> Self {
        On {
            number: Some(number),
            ..On::default()
        }
    }

    /// The one with this number, and all that follow.
    pub fn from(number: usize) -> Self {
        On {
            from: Some(number),
            ..On::default()
        }
    }

    pub fn every(operation: Operation) -> Self {
        On {
            operation: Some(operation),
            ..On::default()
        }
    }

    /// The `nth` from now on, from 1, of those that match.
    pub fn nth(operation: Operation, nth: usize) -> Self {
        On {
            nth: Some(nth),
            ..On::every(operation)
        }
    }

    pub fn key_ends(mut self, end: &'static str) -> Self {
        self.key_ends = Some(end);
        self
    }

    pub fn key_contains(mut self, part: &'static str) -> Self {
        self.key_contains = Some(part);
        self
    }

    /// It does not reach the store, which seems to answer with this status.
    pub fn status(self, status: u16) -> Rule {
        self.with(Fault::Status(status))
    }

    /// It takes effect, and the connection breaks.
    pub fn lose_answer(self) -> Rule {
        self.with(Fault::LoseAnswer)
    }

    /// It takes effect, and something in between answers 500.
    pub fn garble_answer(self) -> Rule {
        self.with(Fault::GarbleAnswer)
    }

    /// The connection breaks in the middle of the request's body.
    pub fn half_body(self) -> Rule {
        self.with(Fault::HalfBody)
    }

    /// The connection breaks after so many bytes of the answer's body.
    pub fn cut_answer(self, after: Position) -> Rule {
        self.cut(after, Then::Breaks)
    }

    /// The answer's body ends after so many bytes as if that were all.
    pub fn shorten_answer(self, after: Position) -> Rule {
        self.cut(after, Then::Ends)
    }

    /// After so many bytes of the answer's body no more come.
    pub fn stall_answer(self, after: Position) -> Rule {
        self.cut(after, Then::Stalls)
    }

    fn cut(self, after: Position, then: Then) -> Rule {
        self.with(Fault::CutAnswer { after, then })
    }

    /// A bit of this byte of the answer's body is another.
    pub fn flip_bit(self, at: Position) -> Rule {
        self.with(Fault::FlipBit(at))
    }

    /// A header of the answer has another value.
    pub fn header(self, name: &'static str, value: &'static str) -> Rule {
        self.with(Fault::Header(name, value))
    }

    /// It does not reach the store, and is never answered.
    pub fn hang(self) -> Rule {
        self.with(Fault::Hang)
    }

    pub fn with(self, fault: Fault) -> Rule {
        Rule {
            on: self,
            fault,
            seen: 0,
        }
    }

    fn matches(&self, request: &Request) -> bool {
        self.number.is_none_or(|number| number == request.number)
            && self.from.is_none_or(|from| from <= request.number)
            && self.operation.is_none_or(|op| op == request.operation)
            && self.key_ends.is_none_or(|end| request.key.ends_with(end))
            && self
                .key_contains
                .is_none_or(|part| request.key.contains(part))
    }
}

/// A place in a body.
#[derive(Clone, Copy, Debug)]
pub enum Position {
    Byte(u64),
    Middle,
}

impl Position {
    pub(super) fn of(self, length: u64) -> u64 {
        match self {
            Position::Byte(byte) => byte,
            Position::Middle => length / 2,
        }
    }
}

/// What a connection does after the last byte that comes of an answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Breaks,
    /// As if that were all.
    Ends,
    /// Nothing more comes.
    Stalls,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Status(u16),
    /// This header of the answer has this value.
    Header(&'static str, &'static str),
    /// The connection is refused, so nothing was sent.
    Refuse,
    /// 400: the credential has expired, says the store.
    Expire,
    LoseAnswer,
    GarbleAnswer,
    /// It takes effect, and is never answered.
    Silence,
    /// The store carries it out twice; the second answer is heard.
    Duplicate,
    /// As [`Duplicate`](Self::Duplicate), the second time [late](LATE).
    LateDuplicate,
    /// The connection breaks, and the store executes the request [later](STRAYED), after later requests.
    Stray,
    /// The answer comes after that of a later request, or, where there is none, [late](LATE).
    Late,
    /// 200, with an error for a body; whether the store has carried it out.
    ErrorIn200 {
        done: bool,
    },
    HalfBody,
    CutAnswer {
        after: Position,
        then: Then,
    },
    FlipBit(Position),
    Hang,
}

/// How long an answer is late, at most: not yet too late.
pub const LATE: Duration = Duration::from_secs(20);

/// How long a request is on its way that strayed. Longer than any life of the tests.
pub const STRAYED: Duration = Duration::from_secs(600);

/// A fault, and the requests that it strikes.
#[derive(Debug)]
pub struct Rule {
    on: On,
    pub(super) fault: Fault,
    seen: usize,
}

impl Rule {
    pub(super) fn strikes(&mut self, request: &Request) -> bool {
        let matches = self.on.matches(request);
        self.seen += usize::from(matches);
        matches && self.on.nth.is_none_or(|nth| nth == self.seen)
    }
}
