//! Calls a Filter with the file that it filters (FC-6.4-1).

use std::{
    fs::File,
    io::{self, Read},
    time::SystemTime,
};

use bytes::Bytes;
use fcgi_engine::http::{Call, FileInfo};
use http::{Request, Response};

use super::{Body, HttpClient, HttpError, ResponseBody};
use crate::client;

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

    /// A file of `length` bytes from a reader. If the reader gives more or fewer, the request
    /// fails.
    pub fn from_reader(
        reader: impl Read + Send + 'static,
        length: u64,
        last_modified: SystemTime,
    ) -> Self {
        let data = client::Body::from_reader(Body::sized(reader, length));
        Self { data, info: FileInfo::new(length, last_modified) }
    }

    /// An open file, from its current position.
    ///
    /// # Errors
    /// Any error of the system when it is asked for the file's length and time.
    pub fn from_file(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self::from_reader(file, metadata.len(), metadata.modified()?))
    }
}

impl HttpClient {
    /// Sends a request to a Filter, and waits for the head of its response. A local redirect is not
    /// followed, but returned with status 302.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub fn filter<B: Read + Send + 'static>(
        &self,
        request: Request<B>,
        file: FilterFile,
    ) -> Result<Response<ResponseBody>, HttpError> {
        let (parts, body) = request.into_parts();
        self.call(Call::filter(parts, file.info), Some(body), file.data)?.into_response()
    }
}
