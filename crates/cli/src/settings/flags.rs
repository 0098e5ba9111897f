//! The settings as flags: an argument for each row of the table that has one.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::table::{Flag, Setting, Shape};

/// The flags of the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags(Vec<FlagValue>);

#[derive(Clone, Debug)]
pub(super) struct FlagValue {
    /// The name of the setting.
    pub(super) name: &'static str,
    pub(super) text: String,
    /// The flag as it was written.
    pub(super) flag: String,
    /// Whether every command has the flag.
    is_common: bool,
}

impl Flags {
    /// The settings among these arguments, with `-v` and `--quiet`, which set the log level.
    pub(crate) fn of(matches: &ArgMatches, all: &'static [Setting]) -> Self {
        let mut innermost = matches;
        while let Some((_, below)) = innermost.subcommand() {
            innermost = below;
        }
        let given = |setting: &Setting| {
            // Only `serve` has its flags.
            let text = innermost.try_get_one::<String>(setting.name).ok()??;
            Some(FlagValue {
                name: setting.name,
                text: text.clone(),
                flag: format!("--{}", setting.long()),
                is_common: matches!(setting.flag, Flag::Common | Flag::Tuning),
            })
        };
        let mut flags: Vec<_> = all.iter().filter_map(given).collect();
        let level = match (innermost.get_flag("quiet"), innermost.get_count("verbose")) {
            (true, _) => Some(("error", "--quiet".to_owned())),
            (false, 0) => None,
            (false, 1) => Some(("info", "-v".to_owned())),
            (false, 2) => Some(("debug", "-vv".to_owned())),
            (false, count) => Some(("trace", format!("-{}", "v".repeat(count.into())))),
        };
        flags.extend(level.map(|(text, flag)| FlagValue {
            name: "log.level",
            text: text.to_owned(),
            flag,
            is_common: false,
        }));
        Flags(flags)
    }

    pub(super) fn get(&self, name: &str) -> Option<&FlagValue> {
        self.0.iter().find(|given| given.name == name)
    }

    /// The flags that every command has, as arguments that repeat them.
    pub(crate) fn words(&self) -> impl Iterator<Item = (&'static str, String)> {
        let words = |given: &FlagValue| (given.name, format!("{}={}", given.flag, given.text));
        self.0.iter().filter(|given| given.is_common).map(words)
    }
}

/// Adds the settings to the command line.
pub(crate) fn added_to(command: Command, all: &'static [Setting]) -> Command {
    let of = |flags: &'static [Flag]| {
        let has_flag = move |setting: &&Setting| flags.contains(&setting.flag);
        all.iter().filter(has_flag).map(argument)
    };
    command
        .args(of(&[Flag::Common, Flag::Tuning]))
        .mut_subcommand("serve", |serve| {
            serve.args(of(&[Flag::Serve, Flag::Policy]))
        })
        .mut_subcommand("policy", |policy| {
            policy.mut_subcommand("explain", |explain| explain.args(of(&[Flag::Policy])))
        })
}

fn argument(setting: &Setting) -> Arg {
    let mut about = setting.about.to_owned();
    if let Some(default) = (setting.default)()
        && setting.shapes != [Shape::Boolean]
    {
        about.push_str(&format!(" [default: {default}]"));
    }
    let variables: Vec<_> = setting.variables().collect();
    let mut long = format!("{about} [env: {}]", variables.join(", "));
    if !setting.more.is_empty() {
        long.push_str(&format!("\n\n{}", setting.more));
    }
    let mut argument = Arg::new(setting.name)
        .long(setting.long())
        .value_name(setting.placeholder)
        .action(ArgAction::Set)
        .help(about)
        .long_help(long);
    if !setting.choices.is_empty() {
        argument = argument
            .value_parser(PossibleValuesParser::new(setting.choices))
            .hide_possible_values(true);
    }
    if setting.shapes == [Shape::Boolean] {
        argument = argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true");
    }
    match setting.flag {
        Flag::Common => argument.global(true).help_heading("Common options"),
        Flag::Tuning => argument
            .global(true)
            .help_heading("Tuning")
            .hide_short_help(true),
        Flag::Serve | Flag::Policy | Flag::None => argument,
    }
}
