//! Why a collection or a check ended early.

use std::error::Error as StdError;
use std::fmt;

/// The error of a collection or a check that ended early. What it did before stays done, and is in its report.
#[derive(Debug)]
pub struct RunError<T, E> {
    /// Why it ended.
    pub error: E,
    /// What it did and found before.
    pub report: Box<T>,
}

impl<T, E> RunError<T, E> {
    pub(super) fn of(result: Result<(), E>, report: T) -> Result<T, Self> {
        match result {
            Ok(()) => Ok(report),
            Err(error) => Err(RunError {
                error,
                report: Box::new(report),
            }),
        }
    }

    /// The report of a run, and why it ended early, if it did.
    pub fn split(result: Result<T, Self>) -> (T, Option<E>) {
        match result {
            Ok(report) => (report, None),
            Err(RunError { error, report }) => (*report, Some(error)),
        }
    }
}

impl<T, E: fmt::Display> fmt::Display for RunError<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T: fmt::Debug, E: StdError> StdError for RunError<T, E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}
