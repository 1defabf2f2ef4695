//! Calls a Filter with the file that it is to filter (FC-6.4-1).

use std::{
    fs::File,
    io::{self, Read},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use fcgi_engine::http::filter_params;
use fcgi_http::authorizer;
use fcgi_proto::Role;
use http::{Request, Response};

use super::{
    HttpClient, HttpError, ResponseBody, Told,
    authorize::Checked,
    request_body::{self, Counted},
    respond,
};
use crate::{client, http::body::Source};

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

    /// What a reader gives, which is `length` bytes; a reader of another length fails the request.
    pub fn from_reader(
        reader: impl Read + Send + 'static,
        length: u64,
        last_modified: SystemTime,
    ) -> Self {
        let counted = Counted::new(Bytes::new(), Source::new(reader), Some(length));
        let data = client::Body::from_reader(counted);
        Self { data, length, last_modified: seconds(last_modified) }
    }

    /// An open file, from where it stands at its start.
    ///
    /// # Errors
    /// The system's, when it can't say the file's length and time.
    pub fn from_file(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self::from_reader(file, metadata.len(), metadata.modified()?))
    }
}

/// Since 1970, as FCGI_DATA_LAST_MOD counts; 0 for what is before.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl HttpClient {
    /// Sends a request to a Filter, and waits for the head of its response. Local redirects are
    /// passed on, as 302.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub fn filter<B: Read + Send + 'static>(
        &self,
        request: Request<B>,
        file: FilterFile,
    ) -> Result<Response<ResponseBody>, HttpError> {
        let settings = &self.0.settings;
        let (parts, body) = request.into_parts();
        let script = settings.script(&parts)?;
        let variables = match self.authorized(&parts)? {
            Checked::Allowed(variables) => variables,
            Checked::Denied(denied) => return Ok(denied),
        };
        let (length, stdin) = request_body::prepare(&parts.headers, body, settings.unknown_length)?;
        let params = authorizer::merge(&settings.tell(&parts, &script, length)?, &variables);
        let params = filter_params(&params, file.length, file.last_modified);
        let received = self.receive(Role::Filter, Told { params, stdin, data: file.data })?;
        respond(&parts.method, received)
    }
}
