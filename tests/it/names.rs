//! The catalog shows exactly the repositories that have entries, after any order of requests of writers and
//! removers, of which any may be lost, late or never sent.
//!
//! A failure prints the line that repeats it. `S3LAYERS_SCHEDULES=full` plays every order.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use embedded_s3::{EmbeddedStore, Quirks};
use s3layers::{Error, RepositoryName, S3LayerService, StoreProfile, Tag};
use s3layers_registry::RepositoryService as _;

use crate::support::bytes::sha256;
use crate::support::fault_client::{
    DeleteObject, End, Fault, FaultClient, GetObject, ListObjectsV2, On, PutObject, STRAYED,
};
use crate::support::schedule::{Choices, Scheduler};
use crate::support::stores::{self, BUCKET, name};
use crate::support::{bucket, cases};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Writes this tag.
    Put(&'static str),
    /// Removes this tag, if it is there.
    Remove(&'static str),
}

use Step::*;

struct Script {
    name: &'static str,
    before: &'static [Step],
    /// What each process does.
    processes: &'static [&'static [Step]],
}

const SCRIPTS: &[Script] = &[
    Script {
        name: "new: writer and remover",
        before: &[],
        processes: &[&[Put("a")], &[Remove("a")]],
    },
    Script {
        name: "new: two writers and two removers",
        before: &[],
        processes: &[&[Put("a")], &[Put("b")], &[Remove("a")], &[Remove("b")]],
    },
    Script {
        name: "live: two removers of the last two",
        before: &[Put("a"), Put("b")],
        processes: &[&[Remove("a")], &[Remove("b")]],
    },
    Script {
        name: "live: two removers of the last one",
        before: &[Put("a")],
        processes: &[&[Remove("a")], &[Remove("a")]],
    },
    Script {
        name: "live: writer and remover of another tag",
        before: &[Put("a")],
        processes: &[&[Put("b")], &[Remove("a")]],
    },
    Script {
        name: "live: both write and remove",
        before: &[Put("a")],
        processes: &[&[Remove("a"), Put("a")], &[Put("a"), Remove("a")]],
    },
    Script {
        name: "emptied: a writer of two and a remover of two",
        before: &[Put("a"), Remove("a")],
        processes: &[&[Put("a"), Put("b")], &[Remove("a"), Remove("b")]],
    },
    Script {
        name: "emptied: a writer that repeats and two removers",
        before: &[Put("a"), Remove("a")],
        processes: &[&[Put("a"), Put("a")], &[Remove("a")], &[Remove("a")]],
    },
];

fn tag(tag: &str) -> Tag {
    tag.parse().unwrap()
}

async fn run_steps(service: &S3LayerService, steps: &[Step]) -> Result<(), Error> {
    for step in steps {
        match step {
            Put(one) => {
                let digest = sha256(b"a manifest");
                service.put_tag(&name(), &tag(one), &digest).await?;
            }
            Remove(one) => {
                service.delete_tag(&name(), &tag(one)).await?;
            }
        }
    }
    Ok(())
}

async fn process(store: &EmbeddedStore) -> S3LayerService {
    stores::connect(store, &FaultClient::over(store.http_client())).await
}

async fn catalog(service: &S3LayerService) -> Vec<RepositoryName> {
    let page = service.repositories(None, 10).await.unwrap();
    assert!(!page.more);
    page.items
}

/// Whether the catalog shows the repository exactly if it has a tag.
async fn judge(store: &EmbeddedStore) -> Result<(), String> {
    let service = process(store).await;
    let tags = service.tags(&name(), None, 10).await.unwrap();
    let tags = tags.map_or(Vec::new(), |page| page.items);
    let shown = catalog(&service).await;
    if shown.is_empty() == tags.is_empty() {
        return Ok(());
    }
    Err(format!("the tags are {tags:?}, the catalog is {shown:?}"))
}

async fn run(script: &Script, choices: &mut Choices) -> Result<(), String> {
    let store = stores::in_memory().await;
    run_steps(&process(&store).await, script.before)
        .await
        .unwrap();
    let scheduler = Scheduler::default();
    let mut tasks = Vec::new();
    for (at, &steps) in script.processes.iter().enumerate() {
        let wire = FaultClient::over(scheduler.http_client(at, store.http_client()));
        let service = stores::connect(&store, &wire).await;
        tasks.push(tokio::spawn(
            async move { run_steps(&service, steps).await },
        ));
    }
    scheduler.run(&tasks, choices).await;
    for task in tasks {
        task.await.unwrap().map_err(|error| cases::chain(&error))?;
    }
    judge(&store).await
}

fn play_once(script: &Script, choices: &mut Choices) -> Result<(), String> {
    let outcome = cases::runtime().block_on(run(script, choices));
    outcome.map_err(|wrong| {
        let name = script.name;
        format!("{wrong}\n  repeat it by S3LAYERS_SCHEDULE='{name}:{choices}'")
    })
}

fn play_all(script: &Script) -> Result<(), String> {
    let asked = std::env::var("S3LAYERS_SCHEDULE").ok();
    if let Some((name, order)) = asked.as_deref().and_then(|asked| asked.rsplit_once(':')) {
        if name != script.name {
            return Ok(());
        }
        let order = order.split(',').map(|one| one.parse().unwrap());
        return play_once(script, &mut Choices::of(order.collect()));
    }
    let is_full = std::env::var("S3LAYERS_SCHEDULES").is_ok_and(|extent| extent == "full");
    let (in_order, random) = if is_full {
        (usize::MAX, 10_000)
    } else {
        (25, 25)
    };
    let mut choices = Some(Choices::of(Vec::new()));
    for _ in 0..in_order {
        let Some(mut order) = choices.take() else {
            return Ok(());
        };
        play_once(script, &mut order)?;
        choices = order.following();
    }
    for seed in 0..random {
        play_once(script, &mut Choices::random(seed))?;
    }
    Ok(())
}

#[test]
fn catalog_is_right_after_any_order_of_requests() {
    cases::all(
        "writers and removers",
        SCRIPTS,
        |script| script.name.to_owned(),
        play_all,
    );
}

/// The writer's marker is carried out once more after the repository was emptied.
#[tokio::test(start_paused = true)]
async fn stray_marker_shows_no_emptied_repository() {
    for before in [&[][..], &[Put("a"), Remove("a")]] {
        let store = stores::in_memory().await;
        run_steps(&process(&store).await, before).await.unwrap();
        let (wire, service) = stores::over_wire(&store).await;
        let on = On::nth(PutObject, 1).key_contains("names/");
        wire.fault(on.with(Fault::Stray));
        run_steps(&service, &[Put("a"), Put("b")]).await.unwrap();
        run_steps(&process(&store).await, &[Remove("a"), Remove("b")])
            .await
            .unwrap();
        judge(&store).await.unwrap();
        tokio::time::sleep(2 * STRAYED).await;
        judge(&store).await.unwrap();
    }
}

/// A remover's marker is carried out once more after the repository has entries again.
#[tokio::test(start_paused = true)]
async fn stray_emptied_marker_hides_no_repository() {
    let store = stores::in_memory().await;
    run_steps(&process(&store).await, &[Put("a")])
        .await
        .unwrap();
    let (wire, service) = stores::over_wire(&store).await;
    let on = On::nth(PutObject, 1).key_contains("names/");
    wire.fault(on.with(Fault::Stray));
    run_steps(&service, &[Remove("a")]).await.unwrap();
    run_steps(&process(&store).await, &[Put("a"), Put("b")])
        .await
        .unwrap();
    tokio::time::sleep(2 * STRAYED).await;
    judge(&store).await.unwrap();
}

/// How many requests these steps cost, and the store after `before` and a process that ended at one
/// of them.
async fn ended(before: &[Step], steps: &[Step], end: Option<End>) -> (usize, EmbeddedStore) {
    let store = stores::in_memory().await;
    run_steps(&process(&store).await, before).await.unwrap();
    let (wire, service) = stores::over_wire(&store).await;
    if let Some(end) = end {
        wire.end(end);
    }
    tokio::select! {
        biased;
        () = wire.died() => {}
        finished = run_steps(&service, steps) => finished.unwrap(),
    }
    (wire.log().len(), store)
}

#[tokio::test(start_paused = true)]
async fn killed_writer_leaves_no_repository_without_entries() {
    for before in [&[][..], &[Put("x"), Remove("x")], &[Put("x")]] {
        let steps = &[Put("a"), Put("b")];
        let (requests, _) = ended(before, steps, None).await;
        for end in (1..=requests).flat_map(|at| [End::KilledBefore(at), End::KilledAfter(at)]) {
            let (_, store) = ended(before, steps, Some(end)).await;
            let service = process(&store).await;
            let tags = service.tags(&name(), None, 10).await.unwrap();
            if tags.is_none() {
                assert_eq!(catalog(&service).await, [], "{before:?}, {end:?}");
            }
            run_steps(&process(&store).await, steps).await.unwrap();
            assert_eq!(catalog(&service).await, [name()], "{before:?}, {end:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn repeated_removal_completes_one_that_was_killed() {
    for before in [&[Put("a")][..], &[Put("x"), Remove("x"), Put("a")]] {
        let steps = &[Remove("a")];
        let (requests, _) = ended(before, steps, None).await;
        for end in (1..=requests).flat_map(|at| [End::KilledBefore(at), End::KilledAfter(at)]) {
            let (_, store) = ended(before, steps, Some(end)).await;
            run_steps(&process(&store).await, steps).await.unwrap();
            judge(&store).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn refused_write_leaves_no_repository() {
    let (_, wire, service) = stores::connected().await;
    wire.fault(On::every(PutObject).key_contains("_tags/").status(403));
    assert!(run_steps(&service, &[Put("a")]).await.is_err());
    assert_eq!(catalog(&service).await, []);
}

#[tokio::test(start_paused = true)]
async fn entry_is_not_acknowledged_without_a_marker() {
    let (store, wire, service) = stores::connected().await;
    for refused in [GetObject, PutObject] {
        wire.fault(On::every(refused).key_contains("names/").status(403));
        assert!(
            run_steps(&service, &[Put("a")]).await.is_err(),
            "{refused:?}"
        );
        wire.clear_faults();
    }
    run_steps(&service, &[Put("a")]).await.unwrap();
    judge(&store).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn removal_of_what_never_was_leaves_nothing() {
    let store = stores::in_memory().await;
    run_steps(&process(&store).await, &[Remove("a")])
        .await
        .unwrap();
    let client = stores::sdk_client(&store);
    assert_eq!(bucket::keys(&client).await, BTreeSet::new());
}

/// A process may read and list, and nothing else.
#[tokio::test]
async fn catalog_needs_no_permission_to_write() {
    let store = stores::in_memory().await;
    run_steps(&process(&store).await, &[Put("a"), Remove("a")])
        .await
        .unwrap();
    let wire = FaultClient::over(store.http_client());
    let reader = stores::connect(&store, &wire).await;
    for forbidden in [PutObject, DeleteObject] {
        wire.fault(On::every(forbidden).status(403));
    }
    assert_eq!(catalog(&reader).await, []);
    run_steps(&process(&store).await, &[Put("a")])
        .await
        .unwrap();
    assert_eq!(catalog(&reader).await, [name()]);
    assert_eq!(wire.count(PutObject), 0);
}

/// One process at a store that has no conditional writes.
async fn without_conditions(choices: &mut Choices) -> Result<(), String> {
    let mut quirks = Quirks::none();
    quirks.ignore_conditions = true;
    let store = stores::in_memory().await.with_quirks(quirks);
    let scheduler = Scheduler::default();
    let client = stores::client(&store, scheduler.http_client(0, store.http_client()));
    let mut profile = StoreProfile::AWS;
    profile.conditional_writes = false;
    let config = stores::config().profile(profile).single_writer(true);
    let service = S3LayerService::connect(client, config).await.unwrap();
    let spawn = |steps: &'static [Step]| {
        let service = service.clone();
        tokio::spawn(async move { run_steps(&service, steps).await })
    };
    let tasks = [&[Put("a"), Put("b")], &[Remove("a"), Remove("b")]].map(|steps| spawn(steps));
    scheduler.run(&tasks, choices).await;
    for task in tasks {
        task.await.unwrap().map_err(|error| cases::chain(&error))?;
    }
    judge(&store).await
}

#[test]
fn single_writer_needs_no_conditional_writes() {
    let mut choices = Choices::of(Vec::new());
    for seed in 0..30 {
        cases::runtime()
            .block_on(without_conditions(&mut choices))
            .unwrap();
        choices = Choices::random(seed);
    }
}

#[tokio::test]
async fn catalog_page_of_a_thousand_costs_three_listings_and_one_for_each_emptied() {
    const LIVE: usize = 1100;
    const EMPTIED: usize = 7;
    let store = stores::in_memory().await;
    let writer = process(&store).await;
    run_steps(&writer, &[Put("a")]).await.unwrap();
    let client = stores::sdk_client(&store);
    let marker = bucket::get(&client, "names/library.demo").await;
    for nth in 0..LIVE {
        let put = client.put_object().bucket(BUCKET);
        let put = put
            .key(format!("names/r{nth:04}"))
            .body(marker.clone().into());
        put.send().await.unwrap();
    }
    for nth in 0..EMPTIED {
        let emptied: RepositoryName = format!("r0{nth}00-x").parse().unwrap();
        let digest = sha256(b"a manifest");
        writer.put_tag(&emptied, &tag("t"), &digest).await.unwrap();
        assert!(writer.delete_tag(&emptied, &tag("t")).await.unwrap());
    }
    let (wire, service) = stores::over_wire(&store).await;
    let page = service.repositories(None, 1000).await.unwrap();
    assert_eq!((page.items.len(), page.more), (1000, true));
    assert!(page.items.is_sorted());
    assert_eq!(wire.log().len(), wire.count(ListObjectsV2));
    let requests = wire.log().len();
    assert!(requests <= 3 + EMPTIED, "{requests} requests");
    let last = page.items.last().map(RepositoryName::as_str);
    let rest = service.repositories(last, 1000).await.unwrap();
    assert_eq!((rest.items.len(), rest.more), (LIVE + 1 - 1000, false));
}

/// A repository that was emptied and is used again costs the catalog a look until a process has
/// written two entries there.
#[tokio::test]
async fn second_entry_ends_the_looks_into_an_emptied_repository() {
    let store = stores::in_memory().await;
    run_steps(&process(&store).await, &[Put("a"), Remove("a")])
        .await
        .unwrap();
    let wire = FaultClient::over(store.http_client());
    let reader = stores::connect(&store, &wire).await;
    let writer = process(&store).await;
    for (tag, requests) in [("b", 2), ("c", 1), ("d", 1)] {
        run_steps(&writer, &[Put(tag)]).await.unwrap();
        wire.reset();
        assert_eq!(catalog(&reader).await, [name()]);
        assert_eq!(wire.log().len(), requests, "after {tag}");
    }
}

#[tokio::test]
async fn damaged_marker_hides_nothing_and_is_replaced() {
    let store = stores::in_memory().await;
    let client = stores::sdk_client(&store);
    run_steps(&process(&store).await, &[Put("a")])
        .await
        .unwrap();
    let damage = async |bytes: &'static [u8]| {
        let put = client.put_object().bucket(BUCKET).key("names/library.demo");
        let put = put.body(Bytes::from_static(bytes).into());
        put.send().await.unwrap();
    };
    damage(b"").await;
    judge(&store).await.unwrap();
    run_steps(
        &process(&store).await,
        &[Put("b"), Remove("a"), Remove("b")],
    )
    .await
    .unwrap();
    judge(&store).await.unwrap();
    // As long as a live one.
    damage(&[b'x'; 49]).await;
    run_steps(&process(&store).await, &[Remove("a")])
        .await
        .unwrap();
    judge(&store).await.unwrap();
}

/// What was removed behind the back of a process is written again after a while.
#[tokio::test(start_paused = true)]
async fn marker_that_an_operator_removed_comes_back() {
    let store = stores::in_memory().await;
    let service = process(&store).await;
    run_steps(&service, &[Put("a")]).await.unwrap();
    let client = stores::sdk_client(&store);
    let delete = client
        .delete_object()
        .bucket(BUCKET)
        .key("names/library.demo");
    delete.send().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2 * 60 * 60)).await;
    run_steps(&service, &[Put("a")]).await.unwrap();
    judge(&store).await.unwrap();
}
