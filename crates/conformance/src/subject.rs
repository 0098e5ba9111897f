//! The implementation to test, and the form of a case.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use s3layers::LayerService;

/// The implementation to test: two instances over the same storage, as two processes would have them.
pub struct Subject {
    /// The instance that most steps of a case use.
    pub here: Arc<dyn LayerService>,
    /// The other instance.
    pub elsewhere: Arc<dyn LayerService>,
    /// A size in bytes; sizes around it, and around a multiple of it, are where the
    /// implementation may break. A case moves up to ten times as much.
    pub part_size: u64,
}

/// A case of a suite. It panics where the implementation does not keep the promise.
#[derive(Clone, Copy)]
pub struct NamedCase<S = Subject> {
    /// The topic and the promise, such as `read::a_second_full_read_is_identical`.
    pub name: &'static str,
    /// Runs the case on a fresh subject. Needs a tokio runtime with more than one thread.
    pub run: fn(S) -> BoxFuture<'static, ()>,
}
