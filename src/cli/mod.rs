//! The command line of `s3layers`.
//!
//! [`run`] parses, builds the runtime, calls the command and turns its end into an exit code: 0
//! done, 1 refused or failed, 2 wrong usage. Each command has a file: its arguments, and a `run`
//! that takes them and a `Context`. To add one, write its file and a line in `Command` and in
//! its `dispatch`.
//!
//! 1. Stdout is for results: lines for people, or with `--json` one object a line, or the bytes of
//!    a layer. All else goes to stderr.
//! 2. A command ends with `Ok` or a `Failure`; only [`run`] prints it.
//! 3. A secret is never printed, nor put into an error.

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use self::failure::Failure;
use self::output::Output;
use self::place::Place;
use crate::s3::{ClientOptions, S3Config, S3LayerService};

mod demo;
mod failure;
mod input;
mod output;
mod place;
mod progress;
mod pull;
mod push;
mod serve;
mod stop;
mod store;
mod sweep;
mod tarsum;
mod threads;
mod wanted;

/// Container layers in any S3-compatible object store.
#[derive(Debug, Parser)]
#[command(name = "s3layers", version, disable_help_subcommand = true)]
struct CommandLine {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
struct Common {
    /// Where layers are kept: s3://BUCKET[/ROOT], file:PATH or memory: [default: a folder in the
    /// user's data directory]
    ///
    /// `file:` is a store in a folder, which one process at a time can open. `memory:` vanishes
    /// when the program ends. For `s3:`, credentials, region and endpoint come from where every AWS
    /// tool finds them (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL, …).
    #[arg(
        long,
        global = true,
        env = "S3LAYERS_STORE",
        value_name = "PLACE",
        hide_env_values = true
    )]
    store: Option<Place>,
    /// The URL of the S3 store, where it is not AWS
    #[arg(long, global = true, value_name = "URL", value_parser = endpoint)]
    endpoint_url: Option<String>,
    /// The region of the S3 store
    #[arg(long, global = true, value_name = "REGION")]
    region: Option<String>,
    /// Print one JSON object a line on stdout
    #[arg(long, global = true)]
    json: bool,
    /// Log more to stderr; once: what is done, twice: each request. RUST_LOG says it finer
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Push(push::Push),
    Pull(pull::Pull),
    Serve(serve::Serve),
    Sweep(sweep::Sweep),
    Store(store::Store),
    Tarsum(tarsum::Tarsum),
}

impl Command {
    async fn dispatch(&self, context: &Context) -> Result<(), Failure> {
        match self {
            Command::Demo(command) => command.run(context).await,
            Command::Push(command) => command.run(context).await,
            Command::Pull(command) => command.run(context).await,
            Command::Serve(command) => command.run(context).await,
            Command::Sweep(command) => command.run(context).await,
            Command::Store(command) => command.run(context).await,
            Command::Tarsum(command) => command.run(context).await,
        }
    }
}

/// What a command works with.
#[derive(Debug)]
struct Context {
    output: Output,
    place: Place,
    endpoint_url: Option<String>,
    region: Option<String>,
}

impl Context {
    fn new(common: Common) -> Result<Self, Failure> {
        let place = match common.store {
            Some(place) => place,
            None => Place::default_of_user()?,
        };
        let names_s3 = common.endpoint_url.is_some() || common.region.is_some();
        if names_s3 && !matches!(place, Place::S3 { .. }) {
            return Err(Failure::usage(format!(
                "--endpoint-url and --region are for s3://BUCKET, and the store is {place}"
            )));
        }
        Ok(Context {
            output: Output { json: common.json },
            place,
            endpoint_url: common.endpoint_url,
            region: common.region,
        })
    }

    /// The service over the store that was named.
    async fn connect(&self) -> Result<S3LayerService, Failure> {
        self.connect_with(|config| config).await
    }

    /// The same, with other settings than the default ones.
    async fn connect_with(
        &self,
        settings: impl FnOnce(S3Config) -> S3Config,
    ) -> Result<S3LayerService, Failure> {
        if self.place == Place::Memory {
            self.output
                .note("memory: is empty, and vanishes when this program ends");
        }
        let options = ClientOptions {
            endpoint_url: self.endpoint_url.clone(),
            region: self.region.clone(),
            ..ClientOptions::default()
        };
        self.place.connect(options, settings).await
    }

    /// A command line of this program over the same store.
    fn command_line(&self, arguments: &[&str]) -> String {
        let place = self.place.to_string();
        let program = program();
        let mut words = vec![program.as_str(), "--store", &place];
        if let Some(url) = &self.endpoint_url {
            words.extend(["--endpoint-url", url]);
        }
        if let Some(region) = &self.region {
            words.extend(["--region", region]);
        }
        words.extend(arguments);
        words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
    }
}

/// How this program was called, so that a command that is printed can be pasted.
fn program() -> String {
    let called = std::env::args_os().next();
    called.map_or_else(
        || "s3layers".to_owned(),
        |called| called.to_string_lossy().into_owned(),
    )
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&b);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn endpoint(text: &str) -> Result<String, &'static str> {
    let is_url = |uri: &http::Uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && !uri
                .authority()
                .is_some_and(|whole| whole.as_str().contains('@'))
    };
    match text.parse::<http::Uri>() {
        Ok(uri) if is_url(&uri) => Ok(text.to_owned()),
        _ => Err("wanted http://HOST[:PORT] or https://HOST[:PORT], without a user or a password"),
    }
}

/// The program: reads the arguments of this process, does what they say, and tells how it went.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let command_line = match CommandLine::try_parse_from(&arguments) {
        Ok(command_line) => command_line,
        Err(error) => return refuse(&error, &arguments),
    };
    let output = Output {
        json: command_line.common.json,
    };
    let failure = match start(command_line) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    output.fail(&failure);
    ExitCode::from(failure.code)
}

/// What clap has to say: help, the version, or what is wrong with the arguments.
fn refuse(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    // A reader that went away has no use for help.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--json") {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message);
        let event = serde_json::json!({"event": "error", "message": message, "causes": []});
        let _ = Output { json: true }.event(&event);
    }
    ExitCode::from(Failure::usage("").code)
}

fn start(command_line: CommandLine) -> Result<(), Failure> {
    let CommandLine { common, command } = command_line;
    log_to_stderr(common.verbose);
    let context = Context::new(common)?;
    block_on(command.dispatch(&context))
}

fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of(&error).context("cannot start the runtime"))?;
    let done = runtime.block_on(future);
    // Nothing that still runs there was promised to anybody.
    runtime.shutdown_background();
    done
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        // The embedded store tells its clients what it refuses, and need not tell us.
        0 => "warn,s3s=off",
        1 => "s3layers=info,warn",
        2 => "s3layers=debug,warn",
        _ => "s3layers=trace,warn",
    };
    let filter = match (verbose, EnvFilter::try_from_default_env()) {
        (0, Ok(filter)) => filter,
        _ => EnvFilter::new(level),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(progress::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(verbose > 0);
    // It fails where one is set already, which then is as good.
    let _ = subscriber.try_init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_consistent() {
        CommandLine::command().debug_assert();
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

    #[test]
    fn endpoints() {
        for (text, ok) in [
            ("http://127.0.0.1:9000", true),
            ("https://s3.example.com", true),
            ("http://[::1]:9000", true),
            ("127.0.0.1:9000", false),
            ("ftp://x", false),
            ("http://user:password@x", false),
            ("http://", false),
            ("", false),
        ] {
            assert_eq!(endpoint(text).is_ok(), ok, "{text:?}");
        }
    }
}
