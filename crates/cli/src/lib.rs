//! The command line of `s3layers`.
//!
//! [`run`] parses the arguments, reads the settings, builds the runtime, runs the command and returns
//! the exit code: 0 done, 1 refused or failed, 2 wrong usage; `check` has its own. Each command has a file with its
//! arguments and a `run` that receives a `Context`. To add one, write its file, and its lines in `mod` and in
//! `commands!`. An option that is a property of the installation is a row in the table of
//! settings.
//!
//! 1. Stdout is for results: text, one JSON object per line with `--json`, or the bytes of a layer.
//!    Everything else goes to stderr.
//! 2. A command returns `Ok` or a `Failure`; only [`run`] prints it.
//! 3. No output or error contains a secret, except the random key that `store` creates.

use std::ffi::OsString;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::{
    ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueHint,
};

use self::failure::{Failure, WRONG_USAGE};
use self::output::Output;
use self::settings::Settings;
use self::settings::flags::Flags;
use self::store_url::{Absent, StoreUrl};
use s3layers::aws_sdk_s3::Client;
use s3layers::{S3Config, S3LayerService};

mod blocking_io;
mod cancel;
mod check;
mod collector;
mod completions;
mod config;
mod demo;
mod doctor;
mod du;
mod failure;
mod format;
mod gc;
mod input;
mod layer_ref;
mod log;
mod ls;
mod man;
mod output;
mod periodic;
mod policy;
mod progress;
mod pull;
mod push;
mod rlimit;
mod rm;
mod serve;
mod settings;
mod stat;
mod stop;
mod store;
mod store_url;
mod sweep;
mod sweeper;
mod table;
mod tarsum;
mod trash;
mod uploads;

/// Keep container layers in any S3-compatible object store.
#[derive(Debug, Parser)]
#[command(name = "s3layers", version)]
struct CommandLine {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// The options of every command, besides the [settings] that are flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
struct Common {
    /// Read this configuration file instead of the user's own
    ///
    /// S3LAYERS_CONFIG names it too; an empty name means no file. A flag overrides the environment, and
    /// that overrides the file. `s3layers config` shows the effective values, their sources, and the
    /// path of the default file.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        display_order = 90
    )]
    config: Option<OsString>,
    /// Print one JSON object per line on stdout
    #[arg(long, global = true, display_order = 91)]
    json: bool,
    /// Print only errors on stderr
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "verbose",
        display_order = 92
    )]
    quiet: bool,
    /// Log more; -vv logs each request to the store
    ///
    /// -v logs operations, and shows the requests of transfers by operation. RUST_LOG filters by module.
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 93)]
    verbose: u8,
}

impl Common {
    fn output(&self) -> Output {
        Output {
            json: self.json,
            quiet: self.quiet,
            verbose: self.verbose > 0,
            to_the_end: false,
        }
    }
}

/// Declares the commands: the type in the module, which has an async `run(&Context)`.
macro_rules! commands {
    ($($command:ident in $module:ident,)*) => {
        #[derive(Debug, Subcommand)]
        enum Command {
            $($command($module::$command),)*
        }

        impl Command {
            async fn run(&self, context: &Context) -> Result<(), Failure> {
                match self {
                    $(Command::$command(command) => command.run(context).await,)*
                }
            }
        }
    };
}

commands! {
    Demo in demo,
    Doctor in doctor,
    Push in push,
    Pull in pull,
    Stat in stat,
    Ls in ls,
    Uploads in uploads,
    Du in du,
    Rm in rm,
    Trash in trash,
    Cancel in cancel,
    Serve in serve,
    Policy in policy,
    Sweep in sweep,
    Gc in gc,
    Check in check,
    Store in store,
    Tarsum in tarsum,
    Config in config,
    Completions in completions,
    Man in man,
}

/// Limits the wait for background removals at exit; a sweep does the rest.
pub(crate) const BACKGROUND_PATIENCE: Duration = Duration::from_secs(5);

/// The environment of a command.
#[derive(Debug)]
struct Context {
    output: Output,
    store_url: StoreUrl,
    settings: Settings,
    /// The connected service.
    service: Mutex<Option<S3LayerService>>,
}

impl Context {
    fn new(output: Output, settings: Settings) -> Result<Self, Failure> {
        let store_url = match &settings.store.value {
            Some(url) => url.clone(),
            None => StoreUrl::default_of_user()?,
        };
        let names_s3 = settings.endpoint_url.is_flag()
            || settings.region.is_flag()
            || settings.profile.is_flag();
        if names_s3 && !matches!(store_url, StoreUrl::S3 { .. }) {
            return Err(Failure::usage(format!(
                "--endpoint-url, --region and --profile are for s3://BUCKET, and the store is {store_url}"
            )));
        }
        Ok(Context {
            output,
            store_url,
            settings,
            service: Mutex::default(),
        })
    }

    /// Connects to the store.
    async fn connect(&self, absent: Absent) -> Result<S3LayerService, Failure> {
        if self.store_url == StoreUrl::Memory {
            self.output
                .note("memory: is empty, and is lost when this program ends");
        }
        let (client, config) = self.client(absent).await?;
        let service = S3LayerService::connect(client, config).await;
        let service = service.map_err(|error| self.store_url.unusable(error))?;
        *self.lock() = Some(service.clone());
        Ok(service)
    }

    /// A client of the store, and the configuration of the service.
    async fn client(&self, absent: Absent) -> Result<(Client, S3Config), Failure> {
        let options = self.settings.client_options();
        let (client, config) = self.store_url.client(absent, options).await?;
        Ok((client, self.settings.apply(config)))
    }

    /// Waits for background removals, for `patience` at most.
    async fn wait_for_background(&self, patience: Duration) {
        let service = self.lock().take();
        let Some(service) = service else { return };
        let waiting = service.wait_for_background();
        if tokio::time::timeout(patience, waiting).await.is_err() {
            tracing::warn!("left the removal of finished uploads to a sweep: it takes too long");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<S3LayerService>> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A command line of this program for the same store, with the settings of this one.
    fn command_line(&self, arguments: &[&str]) -> String {
        let mut words = vec![program()];
        words.extend(self.settings.words(&self.store_url));
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        let quoted: Vec<_> = words.iter().map(|word| quoted(word)).collect();
        quoted.join(" ")
    }
}

/// The name by which this program was called, so that printed commands can be pasted.
fn program() -> String {
    let called = std::env::args_os().next();
    called.map_or_else(
        || "s3layers".to_owned(),
        |called| called.to_string_lossy().into_owned(),
    )
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&b);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The grammar of the command line.
fn grammar() -> clap::Command {
    settings::flags::added_to(CommandLine::command(), settings::ALL)
}

/// Runs the program with the arguments of this process. `on_thread_start` is called on each thread of
/// its runtime.
pub fn run(on_thread_start: fn()) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let parsed = grammar()
        .try_get_matches_from(&arguments)
        .and_then(|matches| {
            let command_line = CommandLine::from_arg_matches(&matches)?;
            Ok((command_line, Flags::of(&matches, settings::ALL)))
        });
    let (command_line, flags) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return refuse(&error, &arguments),
    };
    let output = command_line.common.output();
    let failure = match start(command_line, flags, on_thread_start) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    output.fail(&failure);
    ExitCode::from(failure.code)
}

/// Prints help, the version, or the error of the arguments.
fn refuse(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    // A closed stdout is no error.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--json") {
        let text = error.to_string();
        // An empty line separates the message from usage and advice.
        let lines = text.lines().take_while(|line| !line.trim().is_empty());
        let message = lines.map(str::trim).collect::<Vec<_>>().join(" ");
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        let event = serde_json::json!({"event": "error", "message": message, "causes": []});
        let output = Output {
            json: true,
            ..Output::default()
        };
        let _ = output.event(&event);
    }
    ExitCode::from(WRONG_USAGE)
}

impl Command {
    /// Whether there is no more to do for it when stdout has no reader any more.
    fn only_prints(&self) -> bool {
        match self {
            Command::Ls(_) | Command::Uploads(_) | Command::Du(_) | Command::Pull(_) => true,
            Command::Trash(trash) => trash.only_prints(),
            _ => false,
        }
    }
}

fn start(command_line: CommandLine, flags: Flags, on_thread_start: fn()) -> Result<(), Failure> {
    let CommandLine { common, command } = command_line;
    let output = common.output();
    let file = common.config.as_deref().map(Path::new);
    // These work with broken settings, too.
    match &command {
        Command::Completions(command) => return command.print(output),
        Command::Man(command) => return command.print(output),
        Command::Config(command) if command.is_about_the_file() => {
            return command.show_file(output, file);
        }
        _ => {}
    }
    let settings = Settings::of_process(flags, file)?;
    log::start(&settings);
    let output = Output {
        to_the_end: !command.only_prints(),
        ..output
    };
    let context = Context::new(output, settings)?;
    block_on(on_thread_start, async {
        let done = command.run(&context).await;
        context.wait_for_background(BACKGROUND_PATIENCE).await;
        done
    })
}

fn block_on<T>(
    on_thread_start: fn(),
    future: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(on_thread_start)
        .build()
        .map_err(|error| Failure::of(&error).context("cannot start the runtime"))?;
    let done = runtime.block_on(future);
    // Nothing that still runs there was acknowledged.
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        grammar().debug_assert();
    }

    #[test]
    fn help_is_short() {
        let mut grammar = grammar();
        grammar.build();
        let mut pending = vec![grammar];
        while let Some(command) = pending.pop() {
            let of_command = command.get_about().map(|about| (command.get_name(), about));
            let of_arguments = command
                .get_arguments()
                .filter_map(|argument| Some((argument.get_id().as_str(), argument.get_help()?)));
            for (name, help) in of_command.into_iter().chain(of_arguments) {
                let help = help.to_string();
                let (help, _) = help.split_once(" [default").unwrap_or((&help, ""));
                let words = help.split_whitespace().count();
                assert!(
                    words <= 10,
                    "{} {name}: {words} words: {help}",
                    command.get_name()
                );
            }
            pending.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn words_come_through_a_shell_unchanged() {
        for (word, want) in [
            ("a-b_c.d/e:f", "a-b_c.d/e:f"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
        ] {
            assert_eq!(quoted(word), want);
        }
    }
}
