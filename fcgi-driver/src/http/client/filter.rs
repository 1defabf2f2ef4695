//! Calls a Filter with the file that it is to filter (FC-6.4-1).

use std::{
    fs::File,
    io,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use fcgi_engine::http::filter_params;
use fcgi_http::authorizer;
use fcgi_proto::Role;
use futures_core::Stream;
use http::{Request, Response};

use super::{
    BoxError, HttpClient, HttpError, ResponseBody, Told,
    authorize::Checked,
    request_body::{self, Counted, Pieces},
};
use crate::{client, runtime::Runtime};

/// A file for a Filter: DATA, FCGI_DATA_LENGTH and FCGI_DATA_LAST_MOD.
#[derive(Debug)]
pub struct FilterFile {
    data: client::Body,
    length: u64,
    last_modified: u64,
}

impl FilterFile {
    /// A file at hand.
    pub fn from_bytes(bytes: impl Into<Bytes>, last_modified: SystemTime) -> Self {
        let bytes = bytes.into();
        let (length, last_modified) = (bytes.len() as u64, seconds(last_modified));
        Self { data: bytes.into(), length, last_modified }
    }

    /// A file of `length` bytes as it comes; a stream of another length fails the request.
    pub fn from_stream(
        stream: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
        length: u64,
        last_modified: SystemTime,
    ) -> Self {
        let data = client::Body::from_stream(Counted::new(stream, Some(length)));
        Self { data, length, last_modified: seconds(last_modified) }
    }

    /// An open file, from where it stands at its start. It is read on the task itself, in pieces of
    /// 64 KiB, which blocks its thread as long as the disk takes.
    ///
    /// # Errors
    /// The system's, when it can't say the file's length and time.
    pub fn from_file(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self::from_stream(Pieces(file), metadata.len(), metadata.modified()?))
    }
}

/// Since 1970, as FCGI_DATA_LAST_MOD counts; 0 for what is before.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl<R: Runtime> HttpClient<R> {
    /// Sends a request to a Filter, and waits for the head of its response. Local redirects are
    /// passed on, as 302.
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
        let script = self.0.settings.script(&parts)?;
        let variables = match self.authorized(&parts).await? {
            Checked::Allowed(variables) => variables,
            Checked::Denied(denied) => return Ok(*denied),
        };
        let unknown = self.0.settings.unknown_length;
        let (length, stdin) = request_body::prepare(&parts.headers, body, unknown).await?;
        let params = authorizer::merge(&self.0.settings.tell(&parts, &script, length)?, &variables);
        let params = filter_params(&params, file.length, file.last_modified);
        let told = Told { params, stdin, data: file.data };
        let received = self.receive(Role::Filter, told).await?;
        self.respond(&parts.method, received)
    }
}
