//! `serve`: a container registry over the store.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::net::TcpListener;

use super::Context;
use super::failure::Failure;
use super::stop::Stop;
use crate::registry::{self, DEFAULT_MAX_REQUESTS, Limits, Options};
use crate::s3::DEFAULT_PRESIGN_LIFETIME;

/// Serve a container registry over the store
///
/// Docker, containerd, skopeo, crane, oras, helm and kin push to it and pull from it. Any number of
/// these processes can serve one bucket. It asks nobody who they are and speaks HTTP: put a proxy
/// in front of it that does both. With -v there is a line for each request on stderr.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// Send clients to the store itself for the bytes of a layer, by a URL that is signed for a few
    /// minutes. They must be able to reach it under the same name as this program does
    #[arg(long)]
    redirect: bool,
    /// Say where things are without scheme and host, for a proxy that does not tell how clients see it
    #[arg(long)]
    relative_location: bool,
    /// Take manifests that name what is not stored
    #[arg(long)]
    sparse: bool,
    /// Requests that are worked on at a time; who waits for his client does not count
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_MAX_REQUESTS, value_parser = positive)]
    max_requests: usize,
    /// Seconds that running requests have when this program is told to stop. Uploads that need
    /// longer are broken off, keep every byte that came, and can go on at another process
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u64,
}

fn positive(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("wanted a number above 0"),
    }
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Listening { address: &'a str },
    Stopped,
}

impl Serve {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let mut stop = Stop::listen()?;
        let service = context.connect().await?;
        let cannot_listen = |error: std::io::Error| {
            Failure::of(&error).context(format_args!("cannot listen on {}", self.listen))
        };
        let listener = TcpListener::bind(self.listen)
            .await
            .map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?.to_string();
        self.announce(context, &address)?;
        let limits = Limits {
            drain: Duration::from_secs(self.drain),
            ..Limits::default()
        };
        let registry = registry::router(Arc::new(service), self.options());
        registry::serve(listener, registry, limits, async move { stop.told().await })
            .await
            .map_err(cannot_listen)?;
        context.output.note("stopped");
        context.output.event(&Event::Stopped)
    }

    fn options(&self) -> Options {
        Options {
            redirect: self.redirect.then_some(DEFAULT_PRESIGN_LIFETIME),
            relative_location: self.relative_location,
            sparse: self.sparse,
            max_requests: self.max_requests,
            ..Options::default()
        }
    }

    fn announce(&self, context: &Context, address: &str) -> Result<(), Failure> {
        let output = context.output;
        output.say(format_args!("store     {}", context.place))?;
        output.say(format_args!("registry  {address}"))?;
        output.note("");
        output.note("push an image to it from another terminal:");
        output.note(format_args!(
            "  skopeo copy --dest-tls-verify=false docker://docker.io/library/alpine docker://{address}/library/alpine"
        ));
        output.note("stop with Ctrl-C");
        output.event(&Event::Listening { address })
    }
}
