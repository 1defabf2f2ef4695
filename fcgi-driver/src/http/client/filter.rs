//! Calls a Filter with the file that it filters (FC-6.4-1).

use std::{fs::File, io, time::SystemTime};

use bytes::Bytes;
use fcgi_engine::http::{Call, FileInfo};
use futures_core::Stream;
use http::{Request, Response};

use super::{
    BoxError, HttpClient, HttpError, ResponseBody,
    request_body::{Counted, Pieces},
};
use crate::{client, runtime::Runtime};

/// A file for a Filter: DATA, FCGI_DATA_LENGTH and FCGI_DATA_LAST_MOD.
#[derive(Debug)]
pub struct FilterFile {
    data: client::Body,
    info: FileInfo,
}

impl FilterFile {
    /// A file in memory.
    pub fn from_bytes(bytes: impl Into<Bytes>, last_modified: SystemTime) -> Self {
        let bytes = bytes.into();
        let info = FileInfo::new(bytes.len() as u64, last_modified);
        Self { data: bytes.into(), info }
    }

    /// A file of `length` bytes from a stream. If the stream gives more or fewer, the request
    /// fails.
    pub fn from_stream(
        stream: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
        length: u64,
        last_modified: SystemTime,
    ) -> Self {
        let data = client::Body::from_stream(Counted::new(stream, Some(length)));
        Self { data, info: FileInfo::new(length, last_modified) }
    }

    /// An open file, from its current position. It is read on the task itself, in pieces of 64 KiB,
    /// which blocks the thread for as long as the disk takes.
    ///
    /// # Errors
    /// Any error of the system when it is asked for the file's length and time.
    pub fn from_file(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self::from_stream(Pieces(file), metadata.len(), metadata.modified()?))
    }
}

impl<R: Runtime> HttpClient<R> {
    /// Sends a request to a Filter, and waits for the head of its response. A local redirect is not
    /// followed, but returned with status 302.
    ///
    /// # Errors
    /// See [`HttpError`].
    ///
    /// # Cancellation safety
    /// Dropping the future leaves the pool's queue, or aborts the request.
    pub async fn filter<B>(
        &self,
        request: Request<B>,
        file: FilterFile,
    ) -> Result<Response<ResponseBody<R>>, HttpError>
    where
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let (parts, body) = request.into_parts();
        self.call(Call::filter(parts, file.info), Some(body), file.data).await?.into_response()
    }
}
