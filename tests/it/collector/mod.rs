//! The collector beside writers: it removes what no manifest names and frees its bytes, and never
//! what a client may rely on. `../collector_protocol` has the protocol as a model.

mod check;
mod faults;
mod guards;
mod outside;
mod passes;
mod rescue;
mod scale;
mod schedules;
pub mod site;
mod trash;
