//! Files that the application names for the gateway to send, by X-Accel-Redirect or X-Sendfile.
//! These fields are for the gateway, and never reach a client.

use std::{
    borrow::Cow,
    io,
    os::unix::ffi::OsStrExt,
    path::{self, Component, Path, PathBuf},
};

use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{
        ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
        CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, LAST_MODIFIED,
    },
    response::Parts,
};

use super::{
    body::Body,
    root::{Entry, Opened, Root, Unknown, Wait, as_path},
};

const ACCEL: HeaderName = HeaderName::from_static("x-accel-redirect");
/// The names that Apache and lighttpd use.
const SENDFILE: [HeaderName; 2] =
    [HeaderName::from_static("x-sendfile"), HeaderName::from_static("x-lighttpd-send-file")];
/// Other fields that are only for nginx.
const SILENT: [HeaderName; 4] = [
    HeaderName::from_static("x-accel-buffering"),
    HeaderName::from_static("x-accel-charset"),
    HeaderName::from_static("x-accel-expires"),
    HeaderName::from_static("x-accel-limit-rate"),
];
/// Fields that come from the file, whatever the application says.
const OF_THE_FILE: [HeaderName; 5] =
    [ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED];

/// Fields with which the application describes the file's content.
const OF_THE_CONTENT: [HeaderName; 4] =
    [CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE];

/// A file that the application has named.
#[derive(Debug)]
pub(super) struct Named {
    field: HeaderName,
    value: HeaderValue,
}

/// Removes the fields for the gateway from an answer's head.
pub(super) fn take(headers: &mut HeaderMap) -> Option<Named> {
    // Most answers have none of them, and seven look-ups cost more than this.
    if !headers.keys().any(|name| name.as_str().starts_with("x-")) {
        return None;
    }
    for name in SILENT {
        headers.remove(name);
    }
    let [apache, lighttpd] = SENDFILE;
    let named = [ACCEL, apache, lighttpd]
        .map(|field| headers.remove(&field).map(|value| Named { field, value }));
    named.into_iter().flatten().next()
}

impl Named {
    pub(super) fn field(&self) -> &HeaderName {
        &self.field
    }

    /// The path below the folder; `None` if it can't be there.
    fn below(&self, shown: &Path, root: &Root) -> Option<PathBuf> {
        let value = self.value.as_bytes();
        let is_url = self.field == ACCEL;
        let name = match is_url {
            true => decode(value.split(|byte| *byte == b'?').next().unwrap_or_default())?,
            false => value.into(),
        };
        // A name that ends with a slash or a dot is a folder's.
        if matches!(name.rsplit(|byte| *byte == b'/').next(), Some(b"" | b".")) {
            return None;
        }
        let path = as_path(&name);
        let path = match path.is_absolute() {
            _ if is_url => path.strip_prefix("/").ok()?,
            true => path.strip_prefix(root.path()).or(path.strip_prefix(shown)).ok()?,
            false => path,
        };
        let is_plain = |step| matches!(step, Component::Normal(_) | Component::CurDir);
        let is_plain = path.components().all(is_plain) && !path.as_os_str().as_bytes().contains(&0);
        is_plain.then(|| path.to_owned())
    }
}

/// Decodes `%41` and the like.
fn decode(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !bytes.contains(&b'%') {
        return Some(bytes.into());
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut bytes = bytes.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        out.push((digit()? * 16 + digit()?) as u8);
    }
    Some(out.into())
}

/// The folder of such files.
#[derive(Clone, Debug)]
pub(super) struct Handover {
    path: PathBuf,
}

impl Handover {
    /// # Errors
    /// The folder does not exist.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let path = path::absolute(path)?;
        Root::open(&path, false)?;
        Ok(Self { path })
    }

    /// The file, and its path, from which its type follows. This asks the file system.
    ///
    /// # Errors
    /// The system could not tell.
    pub(super) fn open(&self, named: &Named) -> io::Result<Option<(PathBuf, Opened)>> {
        let root = Root::open(&self.path, false)?;
        let Some(below) = named.below(&self.path, &root) else { return Ok(None) };
        match root.look(&below, Wait::Disk) {
            Ok(Entry::File(opened)) => Ok(Some((below, opened))),
            Ok(_) | Err(Unknown::Wait) => Ok(None),
            Err(Unknown::Failed(error)) => Err(error),
        }
    }
}

/// Adds the application's other fields to the answer that sends the file.
pub(super) fn merge(said: Parts, file: &mut Response<Body>) {
    if file.status() == StatusCode::OK {
        *file.status_mut() = said.status;
        *file.extensions_mut() = said.extensions;
    }
    let mut headers = said.headers;
    for name in OF_THE_FILE {
        headers.remove(name);
    }
    if file.status() == StatusCode::PARTIAL_CONTENT && !file.headers().contains_key(CONTENT_RANGE) {
        // The type is that of several parts.
        headers.remove(CONTENT_TYPE);
    }
    if file.status() == StatusCode::RANGE_NOT_SATISFIABLE {
        // The page comes from the gateway.
        for name in OF_THE_CONTENT {
            headers.remove(name);
        }
    }
    if file.status() == StatusCode::NO_CONTENT {
        file.headers_mut().remove(CONTENT_LENGTH);
    }
    let names: Vec<_> = headers.keys().cloned().collect();
    for name in names {
        file.headers_mut().remove(&name);
        for value in headers.get_all(&name) {
            file.headers_mut().append(&name, value.clone());
        }
    }
}
