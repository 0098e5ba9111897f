//! Authentication and authorization of the registry.

mod credentials;
pub(super) mod fixture;
mod key_server;
mod limits;
mod matrix;
mod secrets;
mod tls;
mod tokens;
mod uploads;
