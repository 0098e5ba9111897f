//! Authentication and authorization of the registry.

mod fixture;
mod limits;
mod matrix;
mod secrets;
mod tls;
mod tokens;
mod uploads;
