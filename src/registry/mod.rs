//! A container registry: OCI Distribution over any [`RepositoryService`].

mod store;

pub use store::{Manifest, Page, Referrer, RepositoryService};
