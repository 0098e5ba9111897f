//! What the tests stand on.

pub mod aged;
pub mod alone;
pub mod answers;
pub mod bucket;
pub mod bytes;
pub mod cases;
pub mod crowd;
pub mod killed;
pub mod life;
pub mod log;
pub mod machine;
pub(crate) mod program;
pub(crate) mod proxy;
pub mod reply;
pub mod schedule;
pub mod session;
pub mod stores;
pub(crate) mod terminal;
pub mod through;
pub mod wire;
