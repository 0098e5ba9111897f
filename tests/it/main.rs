//! The integration tests: one binary, a file per topic.

mod embedded;
mod embedded_doors;
mod embedded_folder;
