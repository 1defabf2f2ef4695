//! The file that a Filter filters (FC-6.4-1).

use std::{
    fs::File,
    io::{self, Read},
    time::SystemTime,
};

use fcgi_engine::http::FileInfo;

use super::Body;
use crate::client;

fcgi_engine::filter_file!();

impl FilterFile {
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
    /// Any error of the system when it is asked for the file's position, length and time.
    pub fn from_file(file: File) -> io::Result<Self> {
        let info = FileInfo::of(&file)?;
        Ok(Self { data: client::Body::from_reader(Body::sized(file, info.length())), info })
    }
}
