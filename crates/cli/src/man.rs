//! `man`: the manual, with a page for the program and one for each command.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, ValueHint};
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::output::Output;
use super::settings::ALL;

/// Print the manual, or write all of its pages
///
/// To read it at once: `s3layers man | man -l -`
#[derive(Debug, Args)]
pub(super) struct Man {
    /// Print the page of this command
    #[arg(conflicts_with = "out")]
    command: Option<String>,
    /// Write all pages into this folder
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename = "written")]
struct Written<'a> {
    path: &'a Path,
}

impl Man {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        self.print(context.output)
    }

    pub(super) fn print(&self, output: Output) -> Result<(), Failure> {
        // `build` adds the global options to each command.
        let mut program = super::grammar().disable_help_subcommand(true);
        program.build();
        if let Some(folder) = &self.out {
            return write_all(output, &program, folder);
        }
        let page = match &self.command {
            None => page(&program),
            Some(name) => page(command(&program, name)?),
        };
        let page = page.map_err(|error| Failure::of(&error))?;
        output.raw("man", &page)
    }
}

fn command<'a>(program: &'a Command, name: &str) -> Result<&'a Command, Failure> {
    program.find_subcommand(name).ok_or_else(|| {
        let names: Vec<_> = program.get_subcommands().map(Command::get_name).collect();
        let names = names.join(", ");
        Failure::usage(format!(
            "there is no command {name}; expected one of {names}"
        ))
    })
}

fn write_all(output: Output, program: &Command, folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| Failure::of_file_output(folder, &error))?;
    for command in with_below(program) {
        let name = command.get_display_name().unwrap_or(command.get_name());
        let path = folder.join(format!("{name}.1"));
        page(command)
            .and_then(|page| fs::write(&path, page))
            .map_err(|error| Failure::of_file_output(&path, &error))?;
        output.say(path.display())?;
        output.event(&Written { path: &path })?;
    }
    Ok(())
}

/// The command and all commands below it.
fn with_below(command: &Command) -> Vec<&Command> {
    let below = command.get_subcommands().flat_map(with_below);
    std::iter::once(command).chain(below).collect()
}

/// A page in troff.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let is_program = command.get_name() == super::grammar().get_name();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    if is_program {
        page.extend(settings().into_bytes());
        page.extend(END.as_bytes());
    }
    Ok(page)
}

/// The settings, by their names in the file and in the environment.
fn settings() -> String {
    let mut text = String::from(
        ".SH SETTINGS\n\
         A setting is what its flag says, else its environment variable, else the configuration \
         file, else its default.\n",
    );
    for setting in ALL {
        let variables: Vec<_> = setting.variables().collect();
        let default = (setting.default)().map(|default| format!(" Default: {default}."));
        let (name, about) = (escaped(setting.name), escaped(setting.about));
        let (variables, default) = (
            escaped(&variables.join(", ")),
            escaped(&default.unwrap_or_default()),
        );
        text.push_str(&format!(
            ".TP\n\\fB{name}\\fR\n{about}.{default}\n.br\nIn the environment: {variables}\n"
        ));
    }
    text
}

/// Escapes a text for troff.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

const END: &str = ".SH FILES
.TP
\\fI$XDG_CONFIG_HOME/s3layers/config.toml\\fR, \\fI~/.config/s3layers/config.toml\\fR
Settings, as TOML; another file is named by \\fB\\-\\-config\\fR or \\fBS3LAYERS_CONFIG\\fR. \
`s3layers config \\-\\-example` prints one.
.TP
\\fI$XDG_DATA_HOME/s3layers\\fR, \\fI~/.local/share/s3layers\\fR
The store, where none is named.
.SH EXIT STATUS
0: done. 1: refused or failed. 2: wrong usage or settings. \\fBs3layers\\-check\\fR(1) has its own.
";
