//! Authentication and authorization of the registry.

mod fixture;
mod matrix;
mod tls;
mod tokens;
mod uploads;
