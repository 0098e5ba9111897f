//! What the tests stand on.

pub mod answers;
pub mod bytes;
pub mod fault;
pub mod image;
pub mod killed;
pub mod life;
pub mod machine;
pub mod refusals;
pub mod schedule;
pub mod session;
pub mod stores;
