//! `serve`: a container registry over the store.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::auth::{Auth, check_redirect, keep_current, tls, webhook_authorization};
use super::Context;
use super::collector::collect;
use super::failure::Failure;
use super::periodic::regularly;
use super::rlimit;
use super::settings::Settings;
use super::stop::Stop;
use super::store_url::{Absent, StoreUrl};
use super::sweeper::{UNTOUCHED, sweep};
use s3layers::S3LayerService;
use s3layers_registry::{
    Limits, Metrics, Options, Registry, Webhook, WriteProtection, serve_metrics,
};

mod auth;

/// After the last request, for the events that wait, and the removal of what finished uploads left. With the default of
/// `--drain`, a stop takes less than the 10 seconds after which `docker stop` kills.
const AFTER_DRAIN: Duration = Duration::from_millis(1500);

pub(super) use self::auth::policy_of;

/// Serve a container registry over the store
///
/// Docker, containerd, skopeo, crane, oras, helm and others push to it and pull from it. Any number of
/// these processes can serve one bucket. --users and --policy say which clients may do what, and
/// --tls-cert and --tls-key serve TLS. Without --users and --policy every client may do everything,
/// and an address that other machines can reach needs --allow-anonymous. -v logs a line for each request.
#[derive(Debug, Args)]
pub(super) struct Serve {}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Listening { address: &'a str },
    Stopped,
}

impl Serve {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let mut stop = Stop::listen(context.output)?;
        let settings = &context.settings;
        check_combinations(settings, &context.store_url)?;
        let listen = settings.serve_listen.value;
        let auth = Auth::of(settings)?;
        check_redirect(settings, auth.is_some()).await?;
        let tls = tls(settings)?;
        if auth.is_none() {
            check_access(listen, settings.serve_allow_anonymous.value)?;
        }
        let is_read_only = settings.serve_read_only.value;
        let absent = if is_read_only {
            Absent::Refuse
        } else {
            Absent::Create
        };
        let service = context.connect(absent).await?;
        let cannot_listen = |error: std::io::Error| {
            Failure::of(&error).context(format_args!("cannot listen on {listen}"))
        };
        let listener = TcpListener::bind(listen).await.map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?.to_string();
        let limits = limits(settings);
        let service = Arc::new(service);
        let mut registry = s3layers_registry::router(service.clone(), options(settings));
        let authorizer = match &auth {
            Some(auth) => {
                let authorizer = auth.authorizer(settings, &service, &address, tls.is_some());
                Some(authorizer.await?)
            }
            None => None,
        };
        if let Some(authorizer) = &authorizer {
            registry = registry.with_authorizer(authorizer.clone());
        }
        let (scraped, metrics) = metrics(settings, &service).await?.unzip();
        if let Some(metrics) = &metrics {
            registry = registry.with_metrics(metrics.clone());
        }
        let (registry, events) = with_webhook(registry, settings, metrics.clone())?;
        // All that can fail is done.
        self.announce(context, &address)?;
        let usage = |work| {
            let metrics = metrics.as_ref();
            metrics.map_or_else(Arc::default, |metrics| metrics.usage_of(work))
        };
        let (sweep_usage, gc_usage) = (usage("sweep"), usage("gc"));
        let unless_read_only = |every: Option<Duration>| every.filter(|_| !is_read_only);
        let sweep_every = unless_read_only(settings.serve_sweep_every.value.0);
        let gc_every = unless_read_only(settings.serve_gc_every.value.0);
        let sweeps = regularly(sweep_every, || sweep(&service, UNTOUCHED));
        let collections = regularly(gc_every, || collect(&service, metrics.as_deref()));
        let shutdown = async move { stop.requested().await };
        let current_files = keep_current(auth, authorizer, tls.clone());
        let served = async {
            match tls {
                Some(tls) => {
                    s3layers_registry::serve_tls(listener, tls, registry, limits, shutdown).await
                }
                None => s3layers_registry::serve(listener, registry, limits, shutdown).await,
            }
        };
        tokio::select! {
            served = served => served.map_err(cannot_listen)?,
            never = sweep_usage.count(sweeps) => match never {},
            never = gc_usage.count(collections) => match never {},
            never = current_files => match never {},
            never = scrapes(scraped.zip(metrics.clone())) => match never {},
        }
        let events = async {
            if let Some(events) = events {
                let _ = timeout(AFTER_DRAIN, events).await;
            }
        };
        tokio::join!(events, context.wait_for_background(AFTER_DRAIN));
        context.output.note("stopped");
        context.output.event(&Event::Stopped)
    }

    fn announce(&self, context: &Context, address: &str) -> Result<(), Failure> {
        let output = context.output;
        output.say(format_args!("store     {}", context.store_url))?;
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

/// Refuses settings that exclude each other.
fn check_combinations(settings: &Settings, store_url: &StoreUrl) -> Result<(), Failure> {
    if settings.serve_redirect.value && !matches!(store_url, StoreUrl::S3 { .. }) {
        return Err(Failure::usage(format!(
            "--redirect: clients cannot reach {store_url}; expected --store s3://BUCKET"
        )));
    }
    if settings.serve_redirect_endpoint.is_flag() && !settings.serve_redirect.value {
        return Err(Failure::usage(
            "--redirect-endpoint says where --redirect sends clients; expected both",
        ));
    }
    if settings.serve_gc_every.value.0.is_some() && settings.single_writer.value {
        return Err(Failure::usage(
            "--gc-every: a collection needs the conditional writes that --single-writer does without; expected \
             one of the two",
        ));
    }
    if settings.serve_gc_every.value.0.is_some() && settings.serve_read_only.value {
        tracing::warn!("a read-only process collects nothing: --gc-every has no effect");
    }
    Ok(())
}

/// Refuses an address that other machines can reach, unless that is allowed explicitly.
fn check_access(listen: SocketAddr, is_declared: bool) -> Result<(), Failure> {
    if listen.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    if is_declared {
        tracing::warn!(
            address = %listen,
            "serving without authentication: every client that reaches this address can read, push \
             and delete"
        );
        return Ok(());
    }
    Err(Failure::usage(format!(
        "--listen {listen}: every client that reaches this address could read, push and delete, for \
         there is no authentication; authenticate clients with --users or --policy, listen on \
         127.0.0.1, or declare it with --allow-anonymous or S3LAYERS_SERVE_ALLOW_ANONYMOUS=true"
    )))
}

/// The listener of the metrics, and their counters.
async fn metrics(
    settings: &Settings,
    service: &Arc<S3LayerService>,
) -> Result<Option<(TcpListener, Arc<Metrics>)>, Failure> {
    let Some(listen) = settings.serve_metrics_listen.value else {
        return Ok(None);
    };
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        Failure::of(&error).context(format_args!("cannot listen on {listen} for metrics"))
    })?;
    let service = Arc::clone(service);
    let metrics = Metrics::new(move || service.status(), settings.serve_s3_prices.value);
    Ok(Some((listener, Arc::new(metrics))))
}

async fn scrapes(metrics: Option<(TcpListener, Arc<Metrics>)>) -> Infallible {
    if let Some((listener, metrics)) = metrics
        && let Err(error) = serve_metrics(listener, metrics).await
    {
        tracing::warn!(%error, "metrics are not served");
    }
    std::future::pending().await
}

/// The registry with its webhook, and the task that delivers events.
fn with_webhook(
    registry: Registry,
    settings: &Settings,
    metrics: Option<Arc<Metrics>>,
) -> Result<(Registry, Option<JoinHandle<()>>), Failure> {
    let authorization = settings.serve_webhook_authorization.value.as_ref();
    let Some(url) = &settings.serve_webhook.value else {
        if authorization.is_some() {
            return Err(Failure::usage(
                "--webhook-authorization is for the receiver of --webhook; expected both",
            ));
        }
        return Ok((registry, None));
    };
    let authorization = authorization.map(|file| webhook_authorization(file));
    let (webhook, delivery) = Webhook::new(url.clone(), authorization.transpose()?, metrics);
    let events = tokio::spawn(delivery.run());
    Ok((registry.with_webhook(webhook), Some(events)))
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        connections: rlimit::connections(Limits::default().connections),
        connections_per_client: settings.serve_max_connections_per_client.value,
        idle_timeout: settings.serve_idle_timeout.value.0,
        header_timeout: settings.serve_header_timeout.value.0,
        write_timeout: settings.serve_write_timeout.value.0,
        drain: settings.serve_drain.value,
    }
}

fn options(settings: &Settings) -> Options {
    let lifetime = settings.serve_redirect_lifetime.value;
    Options {
        redirect: settings.serve_redirect.value.then_some(lifetime),
        public_url: settings.serve_public_url.value.clone().map(|url| url.0),
        relative_location: settings.serve_relative_location.value,
        trusted_proxies: settings.serve_trusted_proxies.value.clone(),
        cors_origins: settings.serve_cors_origin.value.clone(),
        sparse: settings.serve_sparse.value,
        automatic_mount: settings.serve_automatic_mount.value,
        max_requests_per_client: settings.serve_max_requests_per_client.value,
        write_protection: WriteProtection {
            read_only: settings.serve_read_only.value,
            no_delete: settings.serve_no_delete.value,
            immutable_tags: settings
                .serve_immutable_tags
                .value
                .clone()
                .unwrap_or_default(),
        },
        max_requests: settings.serve_max_requests.value,
        body_idle_timeout: settings.serve_body_timeout.value.0,
        ..Options::default()
    }
}
