//! What the tests stand on.

pub mod aged;
pub mod answers;
pub mod bucket;
pub mod bytes;
pub mod cases;
pub mod cli_fixture;
pub mod crowd;
pub mod fault_client;
pub mod http_request;
pub mod interceptor;
pub mod killed;
pub mod log;
pub mod own_process;
pub(crate) mod program;
pub mod reply;
pub mod scenario;
pub mod schedule;
pub mod session;
pub mod store_clock;
pub mod stores;
pub mod tcp_proxy;
pub(crate) mod terminal;
