//! What stands between the SDK and a store's HTTP client, and sees each request.

use std::fmt;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

/// What becomes of a request, and of its answer.
pub trait Handle: Clone + fmt::Debug + Send + Sync + 'static {
    fn handle(&self, store: SharedHttpConnector, request: HttpRequest) -> HttpConnectorFuture;
}

/// A client of the store behind `store`, each of whose requests goes through `handler`.
pub fn client(store: SharedHttpClient, handler: impl Handle) -> SharedHttpClient {
    SharedHttpClient::new(Through { store, handler })
}

#[derive(Debug)]
struct Through<Store, Handler> {
    store: Store,
    handler: Handler,
}

impl<H: Handle> HttpClient for Through<SharedHttpClient, H> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Through {
            store: self.store.http_connector(settings, components),
            handler: self.handler.clone(),
        })
    }
}

impl<H: Handle> HttpConnector for Through<SharedHttpConnector, H> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.handler.handle(self.store.clone(), request)
    }
}
