//! The file that a Filter filters (FC-6.4-1).

use std::{fs::File, io, time::SystemTime};

use bytes::Bytes;
use fcgi_engine::http::FileInfo;
use futures_core::Stream;

use super::request_body::{Counted, FilePieces};
use crate::client;

fcgi_engine::filter_file!();

impl FilterFile {
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
    /// Any error of the system when it is asked for the file's position, length and time.
    pub fn from_file(file: File) -> io::Result<Self> {
        let info = FileInfo::of(&file)?;
        let stream = Counted::new(FilePieces::new(file), Some(info.length()));
        Ok(Self { data: client::Body::from_stream(stream), info })
    }
}
