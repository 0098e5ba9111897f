//! stub
use super::{api::ETag, keys::Key, record::Record, store::Store};
use crate::error::Result;
use std::sync::Arc;
pub(crate) struct S3Layer {}
impl S3Layer {
    pub(crate) fn new(_: Arc<Store>, _: Arc<Record>) -> Self {
        S3Layer {}
    }
}
pub(crate) async fn read_back(
    _: &Store,
    _: &Key,
    _: &ETag,
    _: u64,
    _: impl FnMut(&[u8]) + Send,
) -> Result<()> {
    Ok(())
}
use crate::{digest::Digest, id::TarSum, name::RepositoryName};
use bytes::Bytes;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};
impl tokio::io::AsyncRead for S3Layer {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        unimplemented!()
    }
}
impl tokio::io::AsyncSeek for S3Layer {
    fn start_seek(self: Pin<&mut Self>, _: io::SeekFrom) -> io::Result<()> {
        unimplemented!()
    }
    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        unimplemented!()
    }
}
#[async_trait::async_trait]
impl crate::service::Layer for S3Layer {
    fn name(&self) -> &RepositoryName {
        unimplemented!()
    }
    fn tar_sum(&self) -> Option<&TarSum> {
        unimplemented!()
    }
    fn digest(&self) -> &Digest {
        unimplemented!()
    }
    fn size(&self) -> u64 {
        unimplemented!()
    }
    fn created_at(&self) -> SystemTime {
        unimplemented!()
    }
    async fn close(&mut self) {}
    fn into_stream(self: Box<Self>) -> futures_util::stream::BoxStream<'static, Result<Bytes>> {
        unimplemented!()
    }
    async fn presigned_url(&self, _: Duration) -> Result<Option<String>> {
        unimplemented!()
    }
}
