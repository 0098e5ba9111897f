//! The program itself, killed as by `kill -9` while it pushes or serves; what is left is taken up by
//! another process. Also for the servers of `tests/servers`.

use std::time::{Duration, Instant};

use super::cli_fixture::{CliFixture, LAYER, NAME, events, mixed, said};
use super::reply::Reply;

/// When the program is killed: some time between its start and what it takes when it is not.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    pub seed: u64,
    pub span: Duration,
}

impl Kill {
    fn after(self) -> Duration {
        self.span.mul_f64(mixed(self.seed) as f64 / u64::MAX as f64)
    }
}

/// Pushes, is killed, and pushes again. Returns the time of the first push if it was not killed.
pub fn push(fixture: &CliFixture, kill: Option<Kill>) -> Result<Duration, String> {
    let file = fixture.layer();
    let begun = Instant::now();
    let mut child = fixture
        .command(&["push", &file, "--name", NAME])
        .spawn()
        .unwrap();
    if let Some(kill) = kill {
        // Not to wait for anything: this is the instant.
        std::thread::sleep(kill.after());
        let _ = child.kill();
    }
    let output = child.wait_with_output().unwrap();
    let took = begun.elapsed();
    let events = events(&output.stdout);
    let event = |name: &str| events.iter().find(|event| event["event"] == name);
    if event("stored").is_none() {
        if kill.is_none() {
            return Err(said(&output));
        }
        fixture.look_for_lost_parts();
        let mut again = vec!["push", &file, "--name", NAME];
        if let Some(started) = event("started") {
            again.extend(["--resume", started["uuid"].as_str().unwrap()]);
        }
        let output = fixture.run(&again);
        // It may have been finished, and only not have said so.
        if !output.status.success() && !said(&output).contains("it was finished") {
            return Err(format!("{again:?}: {}", said(&output)));
        }
    }
    fixture.layer_comes_back()?;
    fixture.nothing_else_is_left()?;
    Ok(took)
}

/// What a client of the registry knows of its upload.
#[derive(Debug, Default)]
struct Progress {
    /// Path and query.
    location: Option<String>,
    acknowledged: u64,
    /// The end was asked for.
    ending: bool,
}

/// A client pushes to a registry that is killed, and resumes at the next one. Returns the time if it was not
/// killed.
pub fn serve(fixture: &CliFixture, kill: Option<Kill>) -> Result<Duration, String> {
    let (mut server, address) = fixture.serve()?;
    let mut progress = Progress::default();
    let begun = Instant::now();
    let uploaded = std::thread::scope(|scope| {
        scope.spawn(|| {
            if let Some(kill) = kill {
                // Not to wait for anything: this is the instant.
                std::thread::sleep(kill.after());
                let _ = server.0.kill();
            }
        });
        upload(&address, &mut progress)
    });
    let took = begun.elapsed();
    drop(server);
    fixture.look_for_lost_parts();
    let (server, address) = fixture.serve()?;
    let blob = format!("/v2/{NAME}/blobs/{}", LAYER.1);
    if let Err(failure) = uploaded {
        if kill.is_none() {
            return Err(failure);
        }
        let gone_on = resume(&address, &mut progress, &blob);
        gone_on.map_err(|failure| format!("{failure} ({progress:?})"))?;
    }
    let read = Reply::to(&address, "GET", &blob, &[], &[])?.is(200)?;
    if read.body != LAYER.0 {
        return Err("the registry gives other bytes".to_owned());
    }
    drop(server);
    fixture.layer_comes_back()?;
    fixture.nothing_else_is_left()?;
    Ok(took)
}

/// Resumes at the offset of the registry.
fn resume(address: &str, progress: &mut Progress, blob: &str) -> Result<(), String> {
    if let Some(location) = &progress.location {
        let status = Reply::to(address, "GET", location, &[], &[])?;
        if status.status == 404 && progress.ending {
            return Reply::to(address, "HEAD", blob, &[], &[])?
                .is(200)
                .map(drop);
        }
        let offset = status.is(204)?.offset()?;
        if offset < progress.acknowledged {
            return Err(format!("{offset} bytes are left"));
        }
        progress.acknowledged = offset;
    }
    upload(address, progress)
}

/// From where it is to the end, in a few pieces.
fn upload(address: &str, progress: &mut Progress) -> Result<(), String> {
    const PIECE: usize = 2_500_000;
    let (layer, digest) = &*LAYER;
    if progress.location.is_none() {
        let path = format!("/v2/{NAME}/blobs/uploads/");
        let begun = Reply::to(address, "POST", &path, &[], &[])?.is(202)?;
        progress.location = Some(begun.location()?);
    }
    let location = |progress: &Progress| progress.location.clone().unwrap_or_default();
    while progress.acknowledged < layer.len() as u64 {
        let from = progress.acknowledged as usize;
        let piece = &layer[from..layer.len().min(from + PIECE)];
        let range = format!("{from}-{}", from + piece.len() - 1);
        let headers = [("content-range", range.as_str())];
        let reply = Reply::to(address, "PATCH", &location(progress), &headers, piece)?.is(202)?;
        progress.location = Some(reply.location()?);
        progress.acknowledged = reply.offset()?;
    }
    progress.ending = true;
    let at = location(progress);
    let mark = if at.contains('?') { '&' } else { '?' };
    let end = format!("{at}{mark}digest={digest}");
    Reply::to(address, "PUT", &end, &[], &[])?.is(201).map(drop)
}
