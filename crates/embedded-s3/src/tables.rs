//! The tables of the metadata: what is read from them, and what a transaction changes.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::io;
use std::ops::RangeInclusive;

use bytes::Bytes;
use redb::{
    Key, ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, TableError, Value,
    WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blob::NewBlob;
use crate::listing::Marker;
use crate::model::{BlobId, Bucket, Object, Part, Upload, now};
use crate::refusal::{Refusal, failed};

type Json = &'static [u8];
/// `version`, and `commits`.
pub(crate) const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
const BUCKETS: TableDefinition<&str, Json> = TableDefinition::new("buckets");
/// By bucket and key.
const OBJECTS: TableDefinition<(&str, &str), Json> = TableDefinition::new("objects");
/// By bucket, key and upload id. Ids begin with the time, so this is the order in which S3 lists.
const UPLOADS: TableDefinition<(&str, &str, &str), Json> = TableDefinition::new("uploads");
/// By upload id and part number. Complete leaves them here: they are the parts of the object.
const PARTS: TableDefinition<(&str, u16), Json> = TableDefinition::new("parts");
/// The bytes of every blob. They are empty if the blob is stored outside of the metadata.
const BLOBS: TableDefinition<u128, &[u8]> = TableDefinition::new("blobs");

/// All part numbers.
pub(crate) const ALL: RangeInclusive<u16> = 0..=u16::MAX;

/// Creates the tables.
pub(crate) fn create(to: &WriteTransaction, version: u64) -> Result<(), redb::Error> {
    let mut numbers = to.open_table(NUMBERS)?;
    numbers.insert("version", version)?;
    numbers.insert("commits", 0)?;
    to.open_table(BUCKETS)?;
    to.open_table(OBJECTS)?;
    to.open_table(UPLOADS)?;
    to.open_table(PARTS)?;
    to.open_table(BLOBS)?;
    Ok(())
}

/// One of the [`NUMBERS`].
pub(crate) fn number(tables: &impl Tables, name: &str) -> io::Result<u64> {
    let numbers = tables.table(NUMBERS).map_err(failed)?;
    let number = numbers.get(name).map_err(failed)?;
    let number = number.ok_or_else(|| io::Error::other(format!("{name} is missing")))?;
    Ok(number.value())
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Refusal> {
    Ok(serde_json::from_slice(json).map_err(io::Error::from)?)
}

/// The first name behind this one: where the rows of a bucket end.
fn next_name(name: &str) -> String {
    format!("{name}\0")
}

/// What can be read, in a snapshot or in a transaction.
pub(crate) trait Tables {
    type Table<'a, K: Key + 'static, V: Value + 'static>: ReadableTable<K, V>
    where
        Self: 'a;

    fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<K, V>,
    ) -> Result<Self::Table<'_, K, V>, TableError>;

    /// The bucket.
    fn bucket(&self, name: &str) -> Result<Bucket, Refusal> {
        let buckets = self.table(BUCKETS)?;
        let row = buckets.get(name)?.ok_or(Refusal::NoSuchBucket)?;
        parse(row.value())
    }

    /// The object, if there is one.
    fn object(&self, bucket: &str, key: &str) -> Result<Option<Object>, Refusal> {
        self.bucket(bucket)?;
        let objects = self.table(OBJECTS)?;
        let row = objects.get((bucket, key))?;
        row.map(|row| parse(row.value())).transpose()
    }

    /// The upload, if it is of that key.
    fn upload(&self, bucket: &str, key: &str, upload_id: &str) -> Result<Upload, Refusal> {
        self.bucket(bucket)?;
        let uploads = self.table(UPLOADS)?;
        let row = uploads.get((bucket, key, upload_id))?;
        parse(row.ok_or(Refusal::NoSuchUpload)?.value())
    }

    /// The parts of an upload with these numbers, up to a limit.
    fn parts(
        &self,
        upload_id: &str,
        numbers: RangeInclusive<u16>,
        limit: usize,
    ) -> Result<Vec<Part>, Refusal> {
        let parts = self.table(PARTS)?;
        let (first, last) = numbers.into_inner();
        let rows = parts.range((upload_id, first)..=(upload_id, last))?;
        rows.take(limit).map(|row| parse(row?.1.value())).collect()
    }

    /// All parts of an object. One that was not a multipart upload has part 1.
    fn parts_of(&self, object: &Object) -> Result<Vec<Part>, Refusal> {
        if let Some(upload_id) = &object.upload_id {
            return self.parts(upload_id, ALL, usize::MAX);
        }
        Ok(vec![Part {
            number: 1,
            size: object.size,
            etag: object.etag.clone(),
            modified: object.modified,
            sum: None,
            blob: object.blob,
        }])
    }
}

/// A snapshot of what is committed.
pub(crate) struct Snapshot(pub(crate) ReadTransaction);

impl Tables for Snapshot {
    type Table<'a, K: Key + 'static, V: Value + 'static> = ReadOnlyTable<K, V>;

    fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<K, V>,
    ) -> Result<ReadOnlyTable<K, V>, TableError> {
        self.0.open_table(table)
    }
}

/// Rows with their places, in the order of bytes.
pub(crate) type Rows<T> = Box<dyn Iterator<Item = Result<(Marker, T), Refusal>>>;

impl Snapshot {
    /// The buckets from this name on.
    pub(crate) fn buckets(&self, from: &str) -> Result<Rows<Bucket>, Refusal> {
        let rows = self.table(BUCKETS)?.range(from..)?;
        Ok(Box::new(rows.map(|row| {
            let (name, json) = row?;
            let place = Marker::of_name(name.value().to_owned());
            Ok((place, parse(json.value())?))
        })))
    }

    /// The objects of a bucket from this key on.
    pub(crate) fn objects(&self, bucket: &str, from: &str) -> Result<Rows<Object>, Refusal> {
        let end: &str = &next_name(bucket);
        let rows = self.table(OBJECTS)?.range((bucket, from)..(end, ""))?;
        Ok(Box::new(rows.map(|row| {
            let (place, json) = row?;
            let (_, key) = place.value();
            Ok((Marker::of_name(key.to_owned()), parse(json.value())?))
        })))
    }

    /// The uploads of a bucket from this key on.
    pub(crate) fn uploads(&self, bucket: &str, from: &str) -> Result<Rows<Upload>, Refusal> {
        let end: &str = &next_name(bucket);
        let rows = self
            .table(UPLOADS)?
            .range((bucket, from, "")..(end, "", ""))?;
        Ok(Box::new(rows.map(|row| {
            let (place, json) = row?;
            let (_, name, id) = place.value();
            let (name, id) = (name.to_owned(), id.to_owned());
            Ok((Marker { name, id }, parse(json.value())?))
        })))
    }

    /// The bytes of a blob; empty if they are stored outside of the metadata. `None` if nothing names it.
    pub(crate) fn blob(&self, id: BlobId) -> io::Result<Option<Bytes>> {
        let blobs = self.table(BLOBS).map_err(failed)?;
        let row = blobs.get(id.as_u128()).map_err(failed)?;
        Ok(row.map(|row| Bytes::copy_from_slice(row.value())))
    }
}

/// Changes that are committed together.
pub(crate) struct Transaction {
    inner: WriteTransaction,
    has_changes: bool,
    new: Vec<NewBlob>,
    freed: Vec<BlobId>,
}

impl Tables for Transaction {
    type Table<'a, K: Key + 'static, V: Value + 'static> = Table<'a, K, V>;

    fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<K, V>,
    ) -> Result<Table<'_, K, V>, TableError> {
        self.inner.open_table(table)
    }
}

/// Methods check what the request names before they change anything. Any other error is a failure of the
/// whole transaction.
impl Transaction {
    pub(crate) fn new(inner: WriteTransaction) -> Self {
        Self {
            inner,
            has_changes: false,
            new: Vec::new(),
            freed: Vec::new(),
        }
    }

    /// What is to be committed, if anything changed: the transaction, the blobs that it names for the first
    /// time, and those that nothing names afterwards, both without the small ones.
    pub(crate) fn into_changes(self) -> Option<(WriteTransaction, Vec<NewBlob>, Vec<BlobId>)> {
        self.has_changes
            .then_some((self.inner, self.new, self.freed))
    }

    /// The bucket exists afterwards.
    pub(crate) fn create_bucket(
        &mut self,
        name: &str,
        region: Option<String>,
    ) -> Result<(), Refusal> {
        match self.bucket(name) {
            Err(Refusal::NoSuchBucket) => {}
            exists => return exists.map(drop),
        }
        let created = now();
        self.put(BUCKETS, name, &Bucket { created, region })
    }

    /// Removes an empty bucket, and the uploads in it.
    pub(crate) fn delete_bucket(&mut self, name: &str) -> Result<(), Refusal> {
        self.bucket(name)?;
        let end: &str = &next_name(name);
        if let Some(first) = self.table(OBJECTS)?.range((name, "")..(end, ""))?.next() {
            first?;
            return Err(Refusal::BucketNotEmpty);
        }
        let mut uploads = Vec::new();
        for row in self.table(UPLOADS)?.range((name, "", "")..(end, "", ""))? {
            let (place, _) = row?;
            let (_, key, id) = place.value();
            uploads.push((key.to_owned(), id.to_owned()));
        }
        for (key, id) in uploads {
            self.abort_upload(name, &key, &id)?;
        }
        self.remove(BUCKETS, name)
    }

    /// Puts an object, with its blob if that is new, in the place of the one before.
    pub(crate) fn put_object(
        &mut self,
        bucket: &str,
        key: &str,
        object: &Object,
        blob: Option<NewBlob>,
    ) -> Result<(), Refusal> {
        self.free_object(bucket, key)?;
        self.add_blob(blob)?;
        self.put(OBJECTS, (bucket, key), object)
    }

    /// Removes an object, if there is one.
    pub(crate) fn delete_object(&mut self, bucket: &str, key: &str) -> Result<(), Refusal> {
        self.free_object(bucket, key)?;
        self.remove(OBJECTS, (bucket, key))
    }

    /// Adds an upload without parts.
    pub(crate) fn create_upload(
        &mut self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        upload: &Upload,
    ) -> Result<(), Refusal> {
        self.bucket(bucket)?;
        self.put(UPLOADS, (bucket, key, upload_id), upload)
    }

    /// Puts a part in the place of the one before.
    pub(crate) fn put_part(
        &mut self,
        upload_id: &str,
        part: &Part,
        blob: Option<NewBlob>,
    ) -> Result<(), Refusal> {
        self.free_parts(upload_id, part.number..=part.number, |_| true)?;
        self.add_blob(blob)?;
        self.put(PARTS, (upload_id, part.number), part)
    }

    /// Removes an upload and its parts.
    pub(crate) fn abort_upload(
        &mut self,
        bucket: &str,
        key: &str,
        upload_id: &str,
    ) -> Result<(), Refusal> {
        self.upload(bucket, key, upload_id)?;
        self.free_parts(upload_id, ALL, |_| true)?;
        self.remove(UPLOADS, (bucket, key, upload_id))
    }

    /// Replaces an upload by the object of these parts.
    pub(crate) fn complete_upload(
        &mut self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        object: &Object,
        parts: &[Part],
    ) -> Result<(), Refusal> {
        let kept: HashSet<u16> = parts.iter().map(|part| part.number).collect();
        self.free_parts(upload_id, ALL, |part| !kept.contains(&part.number))?;
        self.remove(UPLOADS, (bucket, key, upload_id))?;
        self.put_object(bucket, key, object, None)
    }

    fn put<'k, K: Key + 'static>(
        &mut self,
        table: TableDefinition<K, Json>,
        key: impl Borrow<K::SelfType<'k>>,
        value: &impl Serialize,
    ) -> Result<(), Refusal> {
        let json = serde_json::to_vec(value).map_err(io::Error::from)?;
        self.has_changes = true;
        self.table(table)?.insert(key, json.as_slice())?;
        Ok(())
    }

    fn remove<'k, K: Key + 'static>(
        &mut self,
        table: TableDefinition<K, Json>,
        key: impl Borrow<K::SelfType<'k>>,
    ) -> Result<(), Refusal> {
        let is_there = self.table(table)?.remove(key)?.is_some();
        self.has_changes |= is_there;
        Ok(())
    }

    fn free_object(&mut self, bucket: &str, key: &str) -> Result<(), Refusal> {
        let Some(object) = self.object(bucket, key)? else {
            return Ok(());
        };
        if let Some(upload_id) = &object.upload_id {
            self.free_parts(upload_id, ALL, |_| true)?;
        }
        self.free_blob(object.blob)
    }

    fn free_parts(
        &mut self,
        upload_id: &str,
        numbers: RangeInclusive<u16>,
        is_freed: impl Fn(&Part) -> bool,
    ) -> Result<(), Refusal> {
        for part in self.parts(upload_id, numbers, usize::MAX)? {
            if is_freed(&part) {
                self.remove(PARTS, (upload_id, part.number))?;
                self.free_blob(part.blob)?;
            }
        }
        Ok(())
    }

    fn free_blob(&mut self, id: Option<BlobId>) -> Result<(), Refusal> {
        if let Some(id) = id {
            let is_small = {
                let mut blobs = self.table(BLOBS)?;
                let row = blobs.remove(id.as_u128())?;
                row.is_some_and(|bytes| !bytes.value().is_empty())
            };
            if !is_small {
                self.freed.push(id);
            }
        }
        Ok(())
    }

    fn add_blob(&mut self, new: Option<NewBlob>) -> Result<(), Refusal> {
        if let Some(new) = new {
            let small = new.small();
            self.table(BLOBS)?
                .insert(new.id.as_u128(), small.unwrap_or_default())?;
            if small.is_none() {
                self.new.push(new);
            }
        }
        Ok(())
    }
}
