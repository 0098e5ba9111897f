//! `completions`: shell completions.

use clap::Args;
use clap_complete::Shell;

use super::Context;
use super::failure::Failure;
use super::output::Output;

/// Print the completions of a shell
///
/// bash: `source <(s3layers completions bash)` in ~/.bashrc, or as a file `s3layers` in
/// ~/.local/share/bash-completion/completions. zsh: as a file `_s3layers` in a folder of $fpath.
/// fish: as a file `s3layers.fish` in ~/.config/fish/completions.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Print the completions of this shell
    shell: Shell,
}

impl Completions {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        self.print(context.output)
    }

    pub(super) fn print(&self, output: Output) -> Result<(), Failure> {
        let mut script = Vec::new();
        let mut grammar = super::grammar();
        clap_complete::generate(self.shell, &mut grammar, "s3layers", &mut script);
        output.raw("completions", &script)
    }
}
