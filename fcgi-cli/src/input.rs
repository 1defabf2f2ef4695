//! Files and stdin as the body of a request.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use fcgi_tokio::client::Body;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::ReaderStream;

const BLOCK: usize = 64 * 1024;

/// A body, and its length where that was asked for.
pub(crate) type Input = (Body, Option<u64>);

/// Opens a file, or stdin for `-`. A file is read while it is sent. Where the length is needed
/// before that, a file tells it, and a pipe is read to its end first.
pub(crate) fn open(path: &Path, needs_length: bool) -> io::Result<Input> {
    if path == Path::new("-") {
        return if needs_length {
            spool(io::stdin().lock())
        } else {
            Ok((stream(tokio::io::stdin()), None))
        };
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !needs_length {
        return Ok((stream(tokio::fs::File::from_std(file)), None));
    }
    // A file in /proc says that it has no bytes.
    if !metadata.is_file() || metadata.len() == 0 {
        return spool(file);
    }
    // A log may grow while it is sent.
    let length = metadata.len();
    Ok((stream(tokio::fs::File::from_std(file).take(length)), Some(length)))
}

fn stream(reader: impl AsyncRead + Send + 'static) -> Body {
    Body::from_stream(ReaderStream::with_capacity(reader, BLOCK))
}

fn spool(mut reader: impl Read) -> io::Result<Input> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    let length = bytes.len() as u64;
    Ok((bytes.into(), Some(length)))
}
