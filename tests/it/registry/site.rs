//! Servers over one storage.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::SharedHttpClient;
use embedded_s3::EmbeddedStore;
use s3layers::{MemoryLayerService, S3LayerService};
use s3layers_registry::{Limits, Options, Registry, RepositoryService, router, serve};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::client::Client;
use crate::support::fault_client::FaultClient;
use crate::support::stores;

/// A storage, and the processes over it.
pub enum Site {
    Memory(MemoryLayerService),
    Embedded(EmbeddedStore),
}

/// One process.
pub struct Process {
    pub client: Client,
    pub registry: Registry,
    pub stop: oneshot::Sender<()>,
    pub running: JoinHandle<std::io::Result<()>>,
}

impl Site {
    /// One of each.
    pub async fn all() -> [Site; 2] {
        [
            Site::Memory(MemoryLayerService::new()),
            Site::embedded().await,
        ]
    }

    /// A client of a process over one of each.
    pub async fn clients() -> Vec<Client> {
        let mut clients = Vec::new();
        for site in Site::all().await {
            clients.push(site.process().await.client);
        }
        clients
    }

    /// A client of a process over a map.
    pub async fn client_of_memory() -> Client {
        let site = Site::Memory(MemoryLayerService::new());
        site.process().await.client
    }

    /// A client of a process over an embedded store, whose requests to the store can go wrong.
    pub async fn client_over_wire() -> (Client, FaultClient) {
        let (process, wire) = Site::embedded().await.process_over_wire().await;
        (process.client, wire)
    }

    /// Clients of two processes.
    pub async fn two_clients(&self) -> [Client; 2] {
        [self.process().await.client, self.process().await.client]
    }

    pub async fn embedded() -> Site {
        Site::Embedded(stores::in_memory().await)
    }

    pub async fn process(&self) -> Process {
        self.process_with(Options::default()).await
    }

    pub async fn process_with(&self, options: Options) -> Process {
        let service: Arc<dyn RepositoryService> = match self {
            Site::Memory(service) => Arc::new(service.clone()),
            Site::Embedded(store) => Arc::new(stores::service(store).await),
        };
        started(service, options, Limits::default()).await
    }

    /// A process whose requests to the store can go wrong.
    pub async fn process_over_wire(&self) -> (Process, FaultClient) {
        started_over_wire(self, Options::default()).await
    }
}

pub async fn started_over_wire(site: &Site, options: Options) -> (Process, FaultClient) {
    let Site::Embedded(store) = site else {
        panic!("there is no wire to a map");
    };
    let wire = FaultClient::over(store.http_client());
    let http: SharedHttpClient = wire.http_client();
    let client = stores::client(store, http);
    let service = S3LayerService::connect(client, stores::config()).await;
    let service = Arc::new(service.unwrap());
    (started(service, options, Limits::default()).await, wire)
}

pub async fn started(
    service: Arc<dyn RepositoryService>,
    options: Options,
    limits: Limits,
) -> Process {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client(listener.local_addr().unwrap());
    let registry = router(service, options);
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        // A process whose handle is dropped runs on.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let running = tokio::spawn(serve(listener, registry.clone(), limits, shutdown));
    Process {
        client,
        registry,
        stop,
        running,
    }
}

/// Short, for tests that wait for it.
pub fn idle_after(time: Duration) -> Options {
    Options {
        body_idle_timeout: time,
        ..Options::default()
    }
}
