//! demo
use clap::Args;

use super::Context;
use super::failure::Failure;
/// See it work
#[derive(Debug, Args)]
pub(super) struct Demo {}

impl Demo {
    pub(super) async fn run(&self, _context: &Context) -> Result<(), Failure> {
        Ok(())
    }
}
