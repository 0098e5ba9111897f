//! The limit of open files and connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The `usual` number of connections, or fewer: half of the file descriptors are for clients, the other
/// half for files and the store. Raises their limit to its maximum before: shells and service managers set
/// 1,024 for programs that use `select`, which is too low for a server with many idle clients.
pub(super) fn connections(usual: usize) -> usize {
    let before = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::warn!(%error, "could not raise the limit of open files");
    }
    let open = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usual.min(usize::try_from(open).unwrap_or(usize::MAX) / 2)
}
