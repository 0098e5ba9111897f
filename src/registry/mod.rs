//! A container registry: OCI Distribution over any [`RepositoryService`].

pub(crate) mod store;

pub use store::{Manifest, Page, Referrer, RepositoryService};
