//! The registry, over real HTTP on a loopback port, on the model and on the embedded store. A file
//! per promise; `site.rs` has the servers, `client.rs` a client that can break off.

mod access;
mod auth;
mod begun;
mod client;
mod costs;
mod crowds;
mod cuts;
mod full_disk;
mod http;
mod layers;
mod listings;
mod load;
mod manifests;
mod prices;
mod processes;
mod refusals;
mod removals;
mod site;
mod slow;
mod spoilt;
mod store;
mod webhooks;
