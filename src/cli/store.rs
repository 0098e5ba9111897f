//! `store`: serves an embedded store to any S3 client.

use std::net::SocketAddr;

use clap::Args;
use serde::Serialize;
use tokio::net::TcpListener;

use super::Context;
use super::descriptors;
use super::failure::Failure;
use super::place::{Absent, BUCKET};
use super::stop::Stop;
use crate::embedded::{DEFAULT_ACCESS_KEY, DEFAULT_SECRET_KEY};

/// Serve the store in --store to any S3 client
///
/// It has one bucket, `layers`, and takes more. A bucket is named in the path, or in the host as
/// BUCKET.localhost. Without keys it listens on this machine only, with keys that everybody knows.
#[derive(Debug, Args)]
pub(super) struct Store {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// The access key that clients must have
    #[arg(
        long,
        value_name = "KEY",
        env = "S3LAYERS_ACCESS_KEY",
        hide_env_values = true,
        requires = "secret_key"
    )]
    access_key: Option<String>,
    /// The secret key that clients must have. On the command line others on this machine can see it
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
    },
    Stopped,
}

impl Store {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let keys = self.access_key.as_deref().zip(self.secret_key.as_deref());
        if keys.is_none() && !self.listen.ip().is_loopback() {
            return Err(Failure::usage(format!(
                "--listen {} can be reached from other machines; give it an --access-key and a \
                 --secret-key of its own",
                self.listen
            )));
        }
        if keys.is_some_and(|(access, secret)| access.is_empty() || secret.is_empty()) {
            return Err(Failure::usage(
                "--access-key and --secret-key must not be empty",
            ));
        }
        descriptors::raise();
        let mut stop = Stop::listen()?;
        let store = context.place.open(Absent::Create).await?;
        let (access_key, secret_key) = keys.unwrap_or((DEFAULT_ACCESS_KEY, DEFAULT_SECRET_KEY));
        let store = store.with_keys(access_key, secret_key);
        let cannot_listen = |error: std::io::Error| {
            Failure::of(&error).context(format_args!("cannot listen on {}", self.listen))
        };
        let listener = TcpListener::bind(self.listen)
            .await
            .map_err(cannot_listen)?;
        let endpoint = format!("http://{}", listener.local_addr().map_err(cannot_listen)?);
        // What was given is known to who gave it.
        let shown = keys.map_or(DEFAULT_SECRET_KEY, |_| "…");
        self.announce(context, &endpoint, access_key, shown)?;
        store
            .serve(listener, async move { stop.told().await })
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
        secret_key: &str,
    ) -> Result<(), Failure> {
        let output = context.output;
        output.say(format_args!("store       {}", context.place))?;
        output.say(format_args!("endpoint    {endpoint}"))?;
        output.say(format_args!("bucket      {BUCKET}"))?;
        output.say(format_args!("access key  {access_key}"))?;
        output.say(format_args!("secret key  {secret_key}"))?;
        output.note("");
        output.note("push a layer to it from another terminal:");
        output.note(format_args!(
            "  export AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret_key}"
        ));
        output.note(format_args!(
            "  s3layers --store s3://{BUCKET} --endpoint-url {endpoint} push FILE --name library/demo"
        ));
        output.note("stop with Ctrl-C");
        output.event(&Event::Listening {
            endpoint,
            bucket: BUCKET,
            access_key,
        })
    }
}
