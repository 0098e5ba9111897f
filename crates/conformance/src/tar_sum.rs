//! Layers that are declared by TarSum: which archives are accepted, and how layers are found.

use bytes::Bytes;

use super::archive::{END, Files, gzip};
use super::case::{
    Case, FEW, TINY, assert_layer, finish, refused, sha256, sha512, tar_sum, try_finish,
};
use s3layers::{Algorithm, Error, Result, LayerId, TarSum, Layer, LayerUpload};

/// The TarSum of no entries.
const EMPTY: &str =
    "tarsum.v1+sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

impl Case {
    /// Two files, the second one of `size` bytes.
    fn files(&self, size: u64) -> Files {
        let (small, large) = (self.other_bytes(1, FEW), self.bytes(size));
        Files::new([("etc/small", small), ("large", large)])
    }

    /// Begins an upload that declares a TarSum.
    async fn declare(&self, tar_sum: &TarSum) -> Box<dyn LayerUpload> {
        self.claim(&tar_sum.clone().into()).await
    }

    /// Begins an upload that declares a TarSum, and writes `bytes`.
    async fn declare_with(&self, tar_sum: &TarSum, bytes: &Bytes) -> Box<dyn LayerUpload> {
        self.claim_with(&tar_sum.clone().into(), bytes).await
    }

    /// Uploads `bytes`, which are said to have this TarSum only when all of them are there: then
    /// no claim stands in the way.
    async fn finish_late(&self, bytes: &Bytes, tar_sum: &TarSum) -> Result<Box<dyn Layer>> {
        let uuid = self.begin_closed(bytes).await;
        let id = tar_sum.clone().into();
        let resumed = self.elsewhere.resume(&self.name, Some(&id), uuid).await;
        let mut upload = resumed.unwrap();
        let finished = try_finish(&mut upload, bytes).await;
        if finished.is_err() {
            upload.cancel().await.unwrap();
        }
        finished
    }

    /// Panics unless `bytes` are found by their digest and by this TarSum in both instances, and report
    /// the TarSum.
    async fn assert_found_by(&self, tar_sum: &TarSum, bytes: &Bytes) {
        for service in [&self.here, &self.elsewhere] {
            for id in [LayerId::from(tar_sum.clone()), sha256(bytes).into()] {
                assert!(service.exists(&id).await.unwrap(), "{id} should exist");
                let mut layer = service.fetch(&id).await.unwrap();
                assert_eq!(layer.tar_sum(), Some(tar_sum), "of {id}");
                assert_layer(&mut layer, bytes).await;
            }
        }
    }
}

/// What an `InvalidTarSum` says of the archive.
#[track_caller]
fn reason<T>(finished: Result<T>, declared: &TarSum) -> String {
    match finished {
        Err(Error::InvalidTarSum { claimed, reason }) if claimed == *declared => reason,
        Err(other) => panic!("refused with {other:?} instead of InvalidTarSum of {declared}"),
        Ok(_) => panic!("published as {declared}"),
    }
}

pub(super) async fn a_layer_is_found_by_the_tar_sum_it_was_declared_with(case: Case) {
    let kinds = [
        ("tarsum.v1", Algorithm::Sha256),
        ("tarsum.v1", Algorithm::Sha512),
        ("tarsum.dev", Algorithm::Sha256),
        ("tarsum.dev", Algorithm::Sha512),
    ];
    for (size, (label, algorithm)) in (FEW..).zip(kinds) {
        for size in [size, case.part_size + size] {
            let files = case.files(size);
            let (bytes, declared) = (files.archive(), files.sum(label, algorithm));
            let mut upload = case.declare(&declared).await;
            assert_eq!(upload.tar_sum(), Some(&declared));
            upload.write_bytes(bytes.clone()).await.unwrap();
            let mut layer = finish(&mut upload, &bytes).await;
            assert_eq!(layer.tar_sum(), Some(&declared));
            assert_layer(&mut layer, &bytes).await;
            case.assert_found_by(&declared, &bytes).await;
            case.assert_unknown(upload.uuid()).await;
        }
    }
}

pub(super) async fn a_tar_sum_can_be_finished_by_sha512(case: Case) {
    let files = case.files(FEW);
    let (bytes, declared) = (files.archive(), files.tar_sum());
    let mut upload = case.declare_with(&declared, &bytes).await;
    let size = bytes.len() as u64;
    let wrong = upload.finish(size, &sha512(b"something else")).await;
    refused!(wrong, Error::InvalidChecksum { .. });
    upload.finish(size, &sha512(&bytes)).await.unwrap();
    case.assert_found_by(&declared, &bytes).await;
    assert!(case.elsewhere.exists(&sha512(&bytes).into()).await.unwrap());
}

pub(super) async fn a_declared_tar_sum_that_is_stored_is_layer_exists(case: Case) {
    let files = case.files(FEW);
    let (bytes, declared) = (files.archive(), files.tar_sum());
    let mut upload = case.declare_with(&declared, &bytes).await;
    finish(&mut upload, &bytes).await;
    for id in [LayerId::from(declared), sha256(&bytes).into()] {
        case.assert_exists(&id).await;
    }
    // It is one TarSum that exists, and not every one that the archive has.
    let other = files.sum("tarsum.dev", Algorithm::Sha256);
    case.declare(&other).await;
}

pub(super) async fn a_tar_sum_is_claimed_until_the_upload_ends(case: Case) {
    let files = case.files(FEW);
    let (bytes, id) = (files.archive(), LayerId::from(files.tar_sum()));
    let first = case.declare(&files.tar_sum()).await;
    for service in [&case.here, &case.elsewhere] {
        let second = service.upload(&case.name, Some(&id)).await;
        refused!(second, Error::UploadInProgress { id: stored, uuid, .. }
            if stored == id && uuid == first.uuid());
    }
    let mut resumed = case.elsewhere.resume(&case.name, Some(&id), first.uuid()).await.unwrap();
    resumed.write_bytes(bytes.clone()).await.unwrap();
    finish(&mut resumed, &bytes).await;
    case.assert_found_by(&files.tar_sum(), &bytes).await;
}

pub(super) async fn other_tar_sum_is_invalid_and_the_upload_continues(case: Case) {
    let first = Files::new([("large", case.bytes(case.part_size + FEW))]);
    let whole = Files::new([
        ("large", case.bytes(case.part_size + FEW)),
        ("small", case.other_bytes(1, FEW)),
    ]);
    let (bytes, declared) = (whole.archive(), whole.tar_sum());
    let cut = first.without_end().len();
    let mut upload = case.declare(&declared).await;
    upload.write_bytes(bytes.slice(..cut)).await.unwrap();
    for _ in 0..2 {
        let message = reason(try_finish(&mut upload, &bytes.slice(..cut)).await, &declared);
        let computed = first.tar_sum().to_string();
        assert!(message.contains(&computed), "{message:?} does not name {computed}");
    }
    case.assert_absent(declared.clone()).await;
    case.assert_absent(sha256(&bytes[..cut])).await;
    upload.write_bytes(bytes.slice(cut..)).await.unwrap();
    finish(&mut upload, &bytes).await;
    case.assert_found_by(&declared, &bytes).await;
}

pub(super) async fn archive_with_another_tar_sum_can_be_finished_without_it_or_cancelled(case: Case) {
    for size in [FEW, case.part_size + FEW] {
        let files = case.files(size);
        let bytes = files.archive();
        let wrong = tar_sum("tarsum.v1");
        let id = LayerId::from(wrong.clone());
        let uuid = case.begin_closed(&bytes).await;
        let mut upload = case.elsewhere.resume(&case.name, Some(&id), uuid).await.unwrap();
        for _ in 0..2 {
            reason(try_finish(&mut upload, &bytes).await, &wrong);
        }
        case.assert_absent(id.clone()).await;
        case.assert_absent(sha256(&bytes)).await;

        let right = files.tar_sum();
        let id = right.clone().into();
        let upload = case.here.resume(&case.name, Some(&id), uuid).await;
        finish(&mut upload.unwrap(), &bytes).await;
        case.assert_found_by(&right, &bytes).await;

        let late = case.finish_late(&bytes, &wrong).await;
        reason(late, &wrong);
        case.assert_absent(wrong).await;
    }
}

pub(super) async fn broken_archive_is_reported_with_its_position(case: Case) {
    let size = case.part_size + FEW;
    let small = case.other_bytes(1, FEW);
    // A header and the blocks of the file: there the next header begins.
    let header = 512 + (small.len().div_ceil(512) * 512);
    let files = Files::new([("small", small), ("large", case.bytes(size))]);
    let whole = files.without_end();
    let declared = files.tar_sum();
    let damaged = |at: usize| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    let cut = header + 576 + case.part_size as usize;
    for (bytes, position) in [
        (case.bytes(TINY), TINY as usize),
        (whole.slice(..cut), cut),
        (damaged(header), header),
        (gzip(&whole[..cut]), cut),
    ] {
        let place = format!("at byte {position}:");
        let mut upload = case.declare_with(&declared, &bytes).await;
        let message = reason(try_finish(&mut upload, &bytes).await, &declared);
        assert!(message.contains(&place), "{message:?} does not name {place:?}");
        // It takes bytes all the same.
        upload.write_bytes(bytes.slice(..10)).await.unwrap();
        upload.cancel().await.unwrap();

        let message = reason(case.finish_late(&bytes, &declared).await, &declared);
        assert!(message.contains(&place), "{message:?} does not name {place:?}");
        case.assert_absent(declared.clone()).await;
        case.assert_absent(sha256(&bytes)).await;
    }
    let zipped = gzip(&whole);
    let zipped = zipped.slice(..zipped.len() - 1);
    let mut upload = case.declare_with(&declared, &zipped).await;
    reason(try_finish(&mut upload, &zipped).await, &declared);
}

pub(super) async fn a_tar_sum_of_version_0_is_refused_though_it_is_right(case: Case) {
    // Without entries, versions do not differ.
    for text in [EMPTY.replace(".v1", ""), EMPTY.replace("v1", "v2")] {
        let declared: TarSum = text.parse().unwrap();
        let mut upload = case.declare(&declared).await;
        let finished = try_finish(&mut upload, &Bytes::new()).await;
        refused!(finished, Error::TarSumVersionUnsupported { tar_sum, .. } if tar_sum == declared);
        upload.cancel().await.unwrap();
        let late = case.finish_late(&END.to_vec().into(), &declared).await;
        refused!(late, Error::TarSumVersionUnsupported { tar_sum, .. } if tar_sum == declared);
        case.assert_absent(declared).await;
    }
    let md5 = "tarsum.v1+md5:d41d8cd98f00b204e9800998ecf8427e".parse().unwrap();
    let mut upload = case.declare(&md5).await;
    let finished = try_finish(&mut upload, &Bytes::new()).await;
    refused!(finished, Error::TarSumVersionUnsupported { tar_sum, .. } if tar_sum == md5);
}

pub(super) async fn a_wrong_tar_sum_is_checked_after_length_and_digest(case: Case) {
    let bytes = case.files(FEW).archive();
    let declared = tar_sum("tarsum.v1");
    let size = bytes.len() as u64;
    let mut upload = case.declare_with(&declared, &bytes).await;
    let finished = upload.finish(size - 1, &sha256(b"something else")).await;
    refused!(finished, Error::InvalidLength { .. });
    let finished = upload.finish(size, &sha256(b"something else")).await;
    refused!(finished, Error::InvalidChecksum { .. });
    reason(try_finish(&mut upload, &bytes).await, &declared);
}

pub(super) async fn an_upload_that_is_resumed_elsewhere_is_verified(case: Case) {
    for (nth, point) in (0..).zip(case.points()) {
        let files = case.files(2 * case.part_size + 2 * FEW + nth);
        let (bytes, right) = (files.archive(), files.tar_sum());
        let point = point as usize;
        for declared in [&tar_sum("tarsum.v1"), &right] {
            let mut upload = case.declare(declared).await;
            upload.write_bytes(bytes.slice(..point)).await.unwrap();
            upload.close().await.unwrap();
            let mut upload = case.resume_elsewhere(upload.uuid()).await;
            assert_eq!(upload.tar_sum(), Some(declared));
            upload.write_bytes(bytes.slice(point..)).await.unwrap();
            let finished = try_finish(&mut upload, &bytes).await;
            if *declared == right {
                finished.unwrap_or_else(|error| panic!("cut at {point}: {error:?}"));
                case.assert_found_by(&right, &bytes).await;
            } else {
                reason(finished, declared);
                case.assert_absent(sha256(&bytes)).await;
                upload.cancel().await.unwrap();
            }
        }
    }
}

pub(super) async fn a_tar_sum_given_at_the_resume_is_verified(case: Case) {
    for (nth, point) in (0..).zip([0, TINY, FEW, case.part_size]) {
        let files = case.files(case.part_size + FEW + nth);
        let (bytes, declared) = (files.archive(), files.tar_sum());
        let id = LayerId::from(declared.clone());
        let uuid = case.begin_closed(&bytes.slice(..point as usize)).await;
        let mut upload = case.elsewhere.resume(&case.name, Some(&id), uuid).await.unwrap();
        upload.write_bytes(bytes.slice(point as usize..)).await.unwrap();
        let layer = finish(&mut upload, &bytes).await;
        assert_eq!(layer.tar_sum(), Some(&declared));
        case.assert_found_by(&declared, &bytes).await;
    }
}

pub(super) async fn archives_with_one_tar_sum_are_both_kept(case: Case) {
    let files = case.files(FEW);
    let declared = files.tar_sum();
    let first = files.archive();
    case.finish_late(&first, &declared).await.unwrap();
    for other in [files.reversed().archive(), gzip(&first), files.without_end()] {
        let mut layer = case.finish_late(&other, &declared).await.unwrap();
        assert_eq!(layer.tar_sum(), Some(&declared));
        assert_layer(&mut layer, &other).await;
        case.assert_stored(&other).await;
        case.assert_found_by(&declared, &first).await;
    }
}

pub(super) async fn a_compressed_archive_has_the_tar_sum_of_the_archive(case: Case) {
    let files = case.files(case.part_size + FEW);
    let (zipped, declared) = (gzip(&files.archive()), files.tar_sum());
    let mut upload = case.declare_with(&declared, &zipped).await;
    finish(&mut upload, &zipped).await;
    case.assert_found_by(&declared, &zipped).await;
}

pub(super) async fn a_stored_layer_is_found_by_a_tar_sum_that_comes_later(case: Case) {
    let files = case.files(FEW);
    let (bytes, declared) = (files.archive(), files.tar_sum());
    let first = case.publish(&bytes).await;
    assert_eq!(first.tar_sum(), None);
    case.assert_absent(declared.clone()).await;
    let mut upload = case.declare_with(&declared, &bytes).await;
    let layer = finish(&mut upload, &bytes).await;
    assert_eq!(layer.tar_sum(), Some(&declared));
    for service in [&case.here, &case.elsewhere] {
        let mut layer = service.fetch(&declared.clone().into()).await.unwrap();
        assert_eq!(layer.created_at(), first.created_at());
        assert_eq!(layer.tar_sum(), Some(&declared));
        assert_layer(&mut layer, &bytes).await;
    }
    case.assert_stored(&bytes).await;
}

pub(super) async fn no_bytes_and_zeros_are_the_empty_archive(case: Case) {
    let declared: TarSum = EMPTY.parse().unwrap();
    let mut upload = case.declare(&declared).await;
    let layer = finish(&mut upload, &Bytes::new()).await;
    assert_eq!(layer.tar_sum(), Some(&declared));
    case.assert_found_by(&declared, &Bytes::new()).await;
    let zeros = Bytes::from(END.to_vec());
    let layer = case.finish_late(&zeros, &declared).await.unwrap();
    assert_eq!(layer.tar_sum(), Some(&declared));
    case.assert_stored(&zeros).await;

    // An empty body is nothing else.
    let other = tar_sum("tarsum.v1");
    let mut upload = case.declare(&other).await;
    let message = reason(try_finish(&mut upload, &Bytes::new()).await, &other);
    assert!(message.contains(EMPTY), "{message:?}");
}
