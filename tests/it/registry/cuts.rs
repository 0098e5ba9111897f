//! A push is interrupted anywhere, in any way: the status counts every byte that arrived, and
//! another process resumes there.

use super::client::{Client, Interruption};
use super::site::Site;
use crate::support::bytes::{MIB, assert_same, ramp, sha256};

/// Sends the rest in pieces of `piece` bytes, from the location of the status.
async fn resume(client: Client, mut at: String, bytes: &[u8], from: usize, piece: usize) {
    let mut sent = from;
    for chunk in bytes[from..].chunks(piece) {
        let range = format!("{sent}-{}", sent + chunk.len() - 1);
        let headers = [("content-range", range.as_str())];
        let reply = client.send("PATCH", &at, &headers, chunk).await.is(202);
        sent += chunk.len();
        assert_eq!(reply.offset(), sent as u64);
        at = reply.location();
    }
    let path = format!("{at}&digest={}", sha256(bytes));
    client.send("PUT", &path, &[], b"").await.is(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_that_arrived_is_kept_and_another_process_resumes() {
    let mib = MIB as usize;
    let sizes = [
        3 * mib,
        7 * mib,
        8 * mib,
        12 * mib,
        20 * mib,
        33 * mib + mib / 3,
        39 * mib,
    ];
    let ways = [
        Interruption::EndOfStream,
        Interruption::ShortBody,
        Interruption::Reset,
    ];
    let pieces = [usize::MAX, 4 * mib, mib];
    for site in Site::all().await {
        let bytes = ramp(7, 40 * MIB);
        let [here, there] = site.two_clients().await;
        for (index, size) in sizes.into_iter().enumerate() {
            let (how, piece) = (ways[index % 3], pieces[(index / 2) % 3]);
            let name = format!("cut/{index}");
            let at = here.upload(&name).await;
            here.interrupt("PATCH", &at, &bytes[..size], how).await;
            let status = here.status(&at, size).await;
            assert_eq!(status.offset(), size as u64, "{how:?} at {size}");
            let status = there.get(&at).await.is(204);
            assert_eq!(status.offset(), size as u64, "{how:?} at {size}, elsewhere");
            resume(there, status.location(), &bytes, size, piece).await;
            let path = format!("/v2/{name}/blobs/{}", sha256(&bytes));
            let got = here.get(&path).await.is(200);
            assert_same(&got.body, &bytes, "the layer");
        }
    }
}

#[tokio::test]
async fn push_that_is_interrupted_repeatedly_completes() {
    for site in Site::all().await {
        let processes = [site.process().await.client, site.process().await.client];
        let bytes = ramp(9, 6 * MIB + 5);
        let mut at = processes[0].upload("a").await;
        let mut sent = 0;
        for (turn, step) in [1, 65_535, 65_536, 1, 1_000_000, 5_000_000]
            .into_iter()
            .enumerate()
        {
            let client = processes[turn % 2];
            let end = bytes.len().min(sent + step);
            let how = [Interruption::EndOfStream, Interruption::ShortBody][turn % 2];
            client.interrupt("PATCH", &at, &bytes[sent..end], how).await;
            sent = end;
            let status = client.status(&at, sent).await;
            assert_eq!(status.offset(), sent as u64, "turn {turn}");
            at = status.location();
        }
        resume(processes[0], at, &bytes, sent, usize::MAX).await;
    }
}
