//! How many files and connections this process may have open at a time.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes as many as this process may. Shells and service managers begin with 1,024 for the sake of
/// programs that use `select`, which a server with that many silent clients has used up. `None`
/// where there is no limit.
pub(super) fn raise() -> Option<usize> {
    let before = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::warn!(%error, "could not raise the limit of open files");
    }
    let now = getrlimit(Resource::Nofile).current?;
    Some(usize::try_from(now).unwrap_or(usize::MAX))
}
