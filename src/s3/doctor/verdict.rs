//! How one check ended.

use std::error::Error as StdError;

use crate::error::Error;
use crate::s3::wire::{ApiError, ApiResult};

/// How a check ended: the answer that shows that the statement holds, or why there is no such answer.
pub(super) type Verdict = std::result::Result<String, Failure>;

/// Why a check did not pass.
pub(super) enum Failure {
    /// The statement does not hold.
    No(String),
    /// The store does not provide what would decide it.
    Unknown(String),
    /// No answer to a request that the check needs.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Failure::Error(error.into())
    }
}

/// The statement does not hold.
pub(super) fn no(detail: impl Into<String>) -> Verdict {
    Err(Failure::No(detail.into()))
}

/// Whether the statement holds, with the detail for either case.
pub(super) fn holds(is_so: bool, yes: impl Into<String>, other: impl Into<String>) -> Verdict {
    if is_so { Ok(yes.into()) } else { no(other) }
}

/// The result of a request that must be refused: the answer, or a No if it was accepted.
pub(super) fn refused<T>(result: ApiResult<T>) -> Verdict {
    match result {
        Ok(_) => no("accepted"),
        // A Complete whose answer was lost may have taken effect.
        Err(error) if is_answer(&error) && !matches!(error, ApiError::NoSuchUpload(_)) => {
            Ok(error.storage().answer().unwrap_or("refused").to_owned())
        }
        Err(error) => Err(error.into()),
    }
}

/// The result of a request with nothing wrong: a refusal is a No.
pub(super) fn accepted<T>(result: ApiResult<T>) -> std::result::Result<T, Failure> {
    result.map_err(|error| {
        if is_answer(&error) && !matches!(error, ApiError::NoSuchUpload(_)) {
            Failure::No(reason(&error.into()))
        } else {
            error.into()
        }
    })
}

/// Whether the store answered: there was an answer, and it was not a missing permission.
pub(super) fn is_answer(error: &ApiError) -> bool {
    !error.storage().is_retryable() && !error.storage().is_permission()
}

/// An error on one line: the operation and its answer, or the error and its cause.
pub(super) fn reason(error: &Error) -> String {
    if let Error::Storage(storage) = error
        && let Some(answer) = storage.answer()
    {
        return format!("{}: {answer}", storage.operation());
    }
    let mut last: &dyn StdError = error;
    while let Some(source) = last.source() {
        last = source;
    }
    let (error, last) = (error.to_string(), last.to_string());
    if error.ends_with(&last) {
        error
    } else {
        format!("{error}: {last}")
    }
}
