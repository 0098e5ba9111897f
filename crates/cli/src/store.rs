//! `store`: serves an embedded store to any S3 client.

use std::net::SocketAddr;

use clap::Args;
use serde::Serialize;
use tokio::net::TcpListener;

use super::failure::Failure;
use super::rlimit;
use super::settings::value::Kind as _;
use super::stop::Stop;
use super::store_url::{Absent, BUCKET};
use super::{Context, quoted};
use embedded_s3::Limits;

/// Serve the embedded store to any S3 client
///
/// It has one bucket, `layers`; clients can create others. A bucket is named in the path, or in the host as
/// BUCKET.localhost. Its keys are random and printed once at start; fix them with --access-key and
/// --secret-key, or with S3LAYERS_ACCESS_KEY and S3LAYERS_SECRET_KEY in the environment.
#[derive(Debug, Args)]
pub(super) struct Store {
    /// Listen on this address; port 0 takes a free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000", value_parser = SocketAddr::argument)]
    listen: SocketAddr,
    /// Require this access key of clients; random by default
    #[arg(
        long,
        value_name = "KEY",
        env = "S3LAYERS_ACCESS_KEY",
        hide_env_values = true,
        requires = "secret_key"
    )]
    access_key: Option<String>,
    /// Require this secret key of clients; random by default
    ///
    /// Other users of this machine can see it on the command line.
    #[arg(
        long,
        value_name = "KEY",
        env = "S3LAYERS_SECRET_KEY",
        hide_env_values = true,
        requires = "access_key"
    )]
    secret_key: Option<String>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Listening {
        endpoint: &'a str,
        bucket: &'a str,
        access_key: &'a str,
        /// Only if it is random.
        #[serde(skip_serializing_if = "Option::is_none")]
        secret_key: Option<&'a str>,
    },
    Stopped,
}

impl Store {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let keys = self.access_key.as_deref().zip(self.secret_key.as_deref());
        if keys.is_some_and(|(access, secret)| access.is_empty() || secret.is_empty()) {
            return Err(Failure::usage(
                "--access-key and --secret-key must not be empty",
            ));
        }
        let mut limits = Limits::default();
        limits.connections = rlimit::connections(limits.connections);
        let mut stop = Stop::listen(context.output)?;
        let store = context.store_url.open(Absent::Create).await?;
        let store = match keys {
            Some((access_key, secret_key)) => store.with_keys(access_key, secret_key),
            None => store,
        };
        let cannot_listen = |error: std::io::Error| {
            Failure::of(&error).context(format_args!("cannot listen on {}", self.listen))
        };
        let listener = TcpListener::bind(self.listen)
            .await
            .map_err(cannot_listen)?;
        let endpoint = format!("http://{}", listener.local_addr().map_err(cannot_listen)?);
        let random = keys.is_none().then(|| store.secret_key());
        self.announce(context, &endpoint, store.access_key(), random)?;
        store
            .serve_with(listener, limits, async move { stop.requested().await })
            .await
            .map_err(|error| Failure::of(&error))?;
        context.output.note("stopped");
        context.output.event(&Event::Stopped)
    }

    fn announce(
        &self,
        context: &Context,
        endpoint: &str,
        access_key: &str,
        random_secret_key: Option<&str>,
    ) -> Result<(), Failure> {
        let output = context.output;
        let secret_key = random_secret_key.unwrap_or("…");
        output.say(format_args!("store       {}", context.store_url))?;
        output.say(format_args!("endpoint    {endpoint}"))?;
        output.say(format_args!("bucket      {BUCKET}"))?;
        output.say(format_args!("access key  {access_key}"))?;
        output.say(format_args!("secret key  {secret_key}"))?;
        output.note("");
        output.note("push a layer to it from another terminal:");
        let access_key_id = quoted(access_key);
        let secret = random_secret_key.map(|key| format!(" AWS_SECRET_ACCESS_KEY={}", quoted(key)));
        let secret = secret.unwrap_or_default();
        output.note(format_args!(
            "  export AWS_ACCESS_KEY_ID={access_key_id}{secret}"
        ));
        output.note(format_args!(
            "  s3layers --store s3://{BUCKET} --endpoint-url {endpoint} push FILE --name library/demo"
        ));
        output.note("stop with Ctrl-C");
        output.event(&Event::Listening {
            endpoint,
            bucket: BUCKET,
            access_key,
            secret_key: random_secret_key,
        })
    }
}
