//! Collectors among clients that push, mount, delete and push again, their S3 requests in any order: no
//! acknowledged image is lost, no push is refused, and nothing is left over.
//!
//! Time passes in leaps of 21 hours, when a collector waits: not before every push that had begun when it
//! began to wait has ended, which is what the wait W stands for. A failure prints its seed;
//! `S3LAYERS_COLLECTION_SEED` repeats it. `S3LAYERS_COLLECTION=full` plays 10,000.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use s3layers::clock::Moment;
use s3layers::{
    Algorithm, Error, Manifest, RepositoryName, RepositoryService as _, S3LayerService,
};
use tokio::sync::watch;

use super::site::{By, Image, Site, collect, hours, pull, push_layer};
use crate::support::bytes::sha256;
use crate::support::cases::{self, runtime};
use crate::support::schedule::{Choices, Scheduler};
use crate::support::stores::name;

/// Pushes that have begun and not ended, by a number that only grows.
#[derive(Clone, Debug)]
struct Pushes(Arc<watch::Sender<BTreeSet<u64>>>, Arc<AtomicU64>);

impl Pushes {
    fn new() -> Self {
        Pushes(
            Arc::new(watch::Sender::new(BTreeSet::new())),
            Arc::default(),
        )
    }

    fn begin(&self) -> u64 {
        let number = self.1.fetch_add(1, Ordering::Relaxed);
        self.0.send_if_modified(|open| open.insert(number));
        number
    }

    fn end(&self, number: u64) {
        self.0.send_if_modified(|open| open.remove(&number));
    }

    /// Waits until all that are open now have ended.
    async fn wait(&self) {
        let mut open = self.0.subscribe();
        let begun: Vec<u64> = open.borrow().iter().copied().collect();
        let is_over = |open: &BTreeSet<u64>| begun.iter().all(|one| !open.contains(one));
        open.wait_for(is_over).await.unwrap();
    }
}

#[derive(Clone, Copy, Debug)]
enum Role {
    /// Asks by HEAD, uploads what is absent, stores a manifest; deletes it, and once more.
    Push,
    /// Mounts instead, in another repository, and removes the link in between.
    Mount,
    Collect,
}

fn other() -> RepositoryName {
    "library/other".parse().unwrap()
}

/// Each client has a manifest of its own; the layer is the same for all.
fn manifest_of(image: &Image, client: usize) -> Manifest {
    let text = String::from_utf8(image.manifest.bytes.to_vec()).unwrap();
    let text = text.replacen('{', &format!(r#"{{"client":{client},"#), 1);
    Manifest {
        digest: sha256(text.as_bytes()),
        bytes: text.into(),
        ..image.manifest.clone()
    }
}

/// The requests of a client until its manifest is acknowledged.
async fn store_image(
    service: &S3LayerService,
    role: Role,
    image: &Image,
    manifest: &Manifest,
) -> Result<(), String> {
    let message = |error: Error| cases::chain(&error);
    let (home, id) = (name(), image.id());
    let name = match role {
        Role::Mount => other(),
        _ => name(),
    };
    let is_there = match role {
        Role::Mount => service.mount(&name, &id, Some(&home)).await,
        _ => service
            .confirm_layer(&name, &id)
            .await
            .map(|layer| layer.is_some()),
    };
    if !is_there.map_err(message)? {
        push_layer(service, &name, image).await;
    }
    let since = Moment::now();
    if service
        .confirm_layer(&name, &id)
        .await
        .map_err(message)?
        .is_none()
    {
        return Err(format!("the manifest of {role:?} was refused"));
    }
    let put = service.put_confirmed_manifest(&name, manifest, since);
    put.await.map_err(message)
}

async fn run_client(
    service: S3LayerService,
    role: Role,
    client: usize,
    image: Image,
    pushes: Pushes,
    site: Arc<Site>,
) -> Result<(), String> {
    if matches!(role, Role::Collect) {
        for _ in 0..6 {
            collect(&service).await.map_err(|error| error.to_string())?;
            pushes.wait().await;
            site.clock.advance(hours(21));
        }
        return Ok(());
    }
    let manifest = manifest_of(&image, client);
    let name = match role {
        Role::Mount => other(),
        _ => name(),
    };
    for round in 0..3 {
        let number = pushes.begin();
        let stored = store_image(&service, role, &image, &manifest).await;
        pushes.end(number);
        stored?;
        if round == 2 {
            break;
        }
        let deleted = service.delete_manifest(&name, &manifest.digest).await;
        if !deleted.map_err(|error| cases::chain(&error))? {
            return Err(format!("the manifest of {role:?} was lost"));
        }
        if matches!(role, Role::Mount) {
            let unlinked = service.unlink(&name, &image.id()).await;
            unlinked.map_err(|error| cases::chain(&error))?;
        }
    }
    Ok(())
}

async fn run(seed: u64) -> Result<(), String> {
    const ROLES: [Role; 5] = [
        Role::Push,
        Role::Push,
        Role::Mount,
        Role::Collect,
        Role::Collect,
    ];
    let by = if seed.is_multiple_of(2) {
        By::Delete
    } else {
        By::Tombstone
    };
    let size = if (seed / 2).is_multiple_of(2) {
        20_000
    } else {
        1_000
    };
    let named_by: [Algorithm; 2] = match seed / 4 % 3 {
        0 => [Algorithm::Sha256, Algorithm::Sha256],
        1 => [Algorithm::Sha512, Algorithm::Sha512],
        // The manifests of the clients name one layer in two ways.
        _ => [Algorithm::Sha512, Algorithm::Sha256],
    };
    let images = named_by.map(|algorithm| Image::named_by(algorithm, 1, size));
    let site = Arc::new(Site::new(by).await);
    let apart = site.process().await;
    push_layer(&apart, &name(), &images[0]).await;
    site.clock.advance(hours(73));
    let (scheduler, pushes) = (Scheduler::default(), Pushes::new());
    let mut tasks = Vec::new();
    for (process, role) in ROLES.into_iter().enumerate() {
        let http = scheduler.http_client(process, site.http_client());
        let service = site.process_over(http).await;
        let (pushes, site) = (pushes.clone(), Arc::clone(&site));
        let image = images[process % 2].clone();
        tasks.push(tokio::spawn(run_client(
            service, role, process, image, pushes, site,
        )));
    }
    // No request comes late: it would do so after a leap, and none lives that long.
    let choices = [Choices::random, Choices::random_lossy][(seed / 12 % 2) as usize];
    scheduler.run(&tasks, &mut choices(seed)).await;
    for task in tasks {
        task.await.map_err(|error| error.to_string())??;
    }
    judge(&site, &apart, &images, &ROLES).await
}

async fn judge(
    site: &Site,
    apart: &S3LayerService,
    images: &[Image; 2],
    roles: &[Role],
) -> Result<(), String> {
    let all_there = async || {
        for (client, role) in roles.iter().enumerate() {
            let name = match role {
                Role::Push => name(),
                Role::Mount => other(),
                Role::Collect => continue,
            };
            let image = &images[client % 2];
            let of_client = Image {
                manifest: manifest_of(image, client),
                ..image.clone()
            };
            if !pull(apart, &name, &of_client).await {
                return Err(format!("the image of client {client} is lost"));
            }
        }
        Ok(())
    };
    all_there().await?;
    for _ in 0..5 {
        site.collect_after(hours(73)).await;
        all_there().await?;
    }
    let keys = site.keys().await;
    let count = |what: &str| keys.iter().filter(|key| key.contains(what)).count();
    let data = usize::from(images[0].layer.len() > 16 * 1024);
    let links = (count("layers/sha256/"), count("layers/sha512/"));
    // A record and two links; by SHA-512 an alias and two links.
    let expected = match images[0].algorithm {
        Algorithm::Sha512 => (3, 3),
        _ => (3, 0),
    };
    if links == expected && count("data/") == data && count("uploads/") == 0 {
        return Ok(());
    }
    Err(format!("left over: {keys:?}"))
}

#[test]
fn images_survive_collections_in_any_order_of_requests() {
    let run_seed = |seed: &u64| runtime().block_on(run(*seed));
    if let Ok(seed) = std::env::var("S3LAYERS_COLLECTION_SEED") {
        run_seed(&seed.parse().unwrap()).unwrap();
        return;
    }
    let is_full = std::env::var("S3LAYERS_COLLECTION").is_ok_and(|extent| extent == "full");
    let seeds: Vec<u64> = (0..if is_full { 10_000 } else { 24 }).collect();
    cases::all(
        "schedules of collections",
        &seeds,
        |seed| format!("S3LAYERS_COLLECTION_SEED={seed}"),
        run_seed,
    );
}
