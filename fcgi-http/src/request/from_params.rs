//! The application's side: turns parameters into a request's head.

use std::{str, sync::Arc};

use fcgi_proto::Params;
use http::{
    HeaderMap, HeaderValue, Method, Uri, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName},
    request::Parts,
    uri::PathAndQuery,
};

use super::{
    MetaVariables, MountPoint, PathSource, RequestError,
    meta::content_length,
    path_source::{self, Split},
};
use crate::{
    hop,
    script::path,
    text::{excerpt, is_control},
};

/// The request that a web server describes with `params`, with the whole path that the client asked
/// for. Its extensions include [`MetaVariables`] and [`MountPoint`].
///
/// - Method: REQUEST_METHOD.
/// - URI: REQUEST_URI, which is what the client asked for; without it SCRIPT_NAME and PATH_INFO,
///   encoded, with QUERY_STRING. Bytes that a URI can't hold are percent-encoded; a fragment is
///   removed.
/// - Version: SERVER_PROTOCOL; HTTP/1.0 if it is absent, empty or `INCLUDED`.
/// - Header fields: each `HTTP_NAME`, CONTENT_TYPE, and CONTENT_LENGTH if it is a number. These are
///   left out: HTTP_CONTENT_TYPE and HTTP_CONTENT_LENGTH, which repeat the former; HTTP_PROXY
///   (H-15); hop-by-hop fields, since STDIN holds the body without a transfer coding; and an empty
///   Host. A value may hold any byte of 0x80 and above (H-7).
///
/// # Errors
/// A required parameter is missing, or one has a value that no HTTP request can have. Nothing in
/// `params` causes a panic.
pub fn from_params(params: impl Into<Arc<Params>>) -> Result<Parts, RequestError> {
    from_params_by(params, PathSource::RequestUri)
}

/// Like [`from_params`], with the path that `source` selects.
///
/// # Errors
/// As for [`from_params`].
pub fn from_params_by(
    params: impl Into<Arc<Params>>,
    source: PathSource,
) -> Result<Parts, RequestError> {
    let meta = MetaVariables::new(params);
    let found = Found::among(meta.params());
    let (mut request, ()) = http::Request::new(()).into_parts();
    request.method = method(found.method)?;
    request.version = version(found.protocol)?;
    let (uri, mount) = match source {
        PathSource::RequestUri => (uri(found.target, &meta)?, MountPoint::default()),
        PathSource::PathInfo => {
            let split = path_source::split(&meta);
            (uri_below(&meta, &split)?, split.mount())
        }
    };
    request.uri = uri;
    request.headers = headers(&found, &meta)?;
    request.extensions.insert(mount);
    request.extensions.insert(meta);
    Ok(request)
}

/// What every request needs of its parameters, found in one walk. Of duplicates the last counts, as
/// in [`Params::get`].
#[derive(Default)]
struct Found<'a> {
    method: Option<&'a [u8]>,
    protocol: Option<&'a [u8]>,
    target: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    /// How many parameters may be header fields.
    fields: usize,
}

impl<'a> Found<'a> {
    fn among(params: &'a Params) -> Self {
        let mut found = Self::default();
        for (name, value) in params {
            match name {
                b"REQUEST_METHOD" => found.method = Some(value),
                b"SERVER_PROTOCOL" => found.protocol = Some(value),
                b"REQUEST_URI" => found.target = Some(value),
                b"CONTENT_TYPE" => found.content_type = Some(value),
                b"CONTENT_LENGTH" => found.content_length = Some(value),
                _ => found.fields += usize::from(name.starts_with(b"HTTP_")),
            }
        }
        found
    }
}

fn method(value: Option<&[u8]>) -> Result<Method, RequestError> {
    const NAME: &str = "REQUEST_METHOD";
    let value = value.ok_or(RequestError::Missing(NAME))?;
    Method::from_bytes(value).map_err(|_| invalid(NAME, value))
}

fn version(value: Option<&[u8]>) -> Result<Version, RequestError> {
    // Case does not matter (RFC 3875, 4.1.16). A server-side include sends INCLUDED.
    const VERSIONS: [(&[u8], Version); 9] = [
        (b"HTTP/1.1", Version::HTTP_11),
        (b"HTTP/2.0", Version::HTTP_2),
        (b"HTTP/2", Version::HTTP_2),
        (b"HTTP/3.0", Version::HTTP_3),
        (b"HTTP/3", Version::HTTP_3),
        (b"HTTP/1.0", Version::HTTP_10),
        (b"INCLUDED", Version::HTTP_10),
        (b"", Version::HTTP_10),
        (b"HTTP/0.9", Version::HTTP_09),
    ];
    let value = value.unwrap_or(b"");
    let known = VERSIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(value));
    known.map(|(_, version)| *version).ok_or_else(|| invalid("SERVER_PROTOCOL", value))
}

/// The `http` crate stores positions in a URI in 16 bits.
const URI_MAX: usize = 65_534;

fn uri(target: Option<&[u8]>, meta: &MetaVariables) -> Result<Uri, RequestError> {
    const NAME: &str = "REQUEST_URI";
    let mut text = String::new();
    let (name, value) = match target.filter(|value| !value.is_empty()) {
        Some(value) => {
            push_uri(value, &mut text).ok_or_else(|| invalid(NAME, value))?;
            (NAME, value.into())
        }
        None => {
            let value = meta.path().ok_or(RequestError::Missing(NAME))?;
            push_path(meta, &value, &mut text)?;
            (PATH, value)
        }
    };
    parse(text, || invalid(name, &value))
}

/// The URI of the path below the application.
fn uri_below(meta: &MetaVariables, split: &Split<'_>) -> Result<Uri, RequestError> {
    if meta.params().get("REQUEST_METHOD") == Some(b"OPTIONS") && meta.is_about_server() {
        return Ok(Uri::from_static("*"));
    }
    let mut text = String::new();
    push_path(meta, &split.path, &mut text)?;
    parse(text, || invalid(PATH, &split.path))
}

/// How errors name a path that consists of two parameters.
const PATH: &str = "SCRIPT_NAME and PATH_INFO";

/// Appends a decoded path, and QUERY_STRING.
fn push_path(meta: &MetaVariables, path: &[u8], out: &mut String) -> Result<(), RequestError> {
    if path.iter().any(|byte| is_control(*byte)) {
        return Err(invalid(PATH, path));
    }
    if path.is_empty() {
        out.push('/');
    }
    path::encode(path, out);
    let query = meta.query_string();
    if !query.is_empty() {
        out.push('?');
        push_uri(query, out).ok_or_else(|| invalid("QUERY_STRING", query))?;
    }
    Ok(())
}

fn parse(text: String, error: impl Fn() -> RequestError) -> Result<Uri, RequestError> {
    if text.len() > URI_MAX {
        return Err(error());
    }
    // Parsed as a path alone, so that `//host/x` is not read as a host.
    if text.starts_with('/') || text == "*" {
        return PathAndQuery::try_from(text).map(Uri::from).map_err(|_| error());
    }
    match Uri::try_from(text) {
        Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) => Ok(uri),
        _ => Err(error()),
    }
}

/// Appends a target as the client sent it; `None` if it holds control bytes.
fn push_uri(value: &[u8], out: &mut String) -> Option<()> {
    let is_plain = |byte: u8| {
        byte.is_ascii_graphic()
            && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
    };
    let mut rest = value;
    loop {
        let plain = rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len());
        let (text, behind) = rest.split_at(plain);
        out.push_str(str::from_utf8(text).ok()?);
        let Some((&byte, behind)) = behind.split_first() else { return Some(()) };
        if is_control(byte) {
            return None;
        }
        path::encode_byte(byte, out);
        rest = behind;
    }
}

/// The most header fields to make room for before they are seen.
const MOST_ROOM: usize = 64;

fn headers(found: &Found<'_>, meta: &MetaVariables) -> Result<HeaderMap, RequestError> {
    // CONTENT_TYPE and CONTENT_LENGTH come in addition.
    let mut headers = HeaderMap::with_capacity((found.fields + 2).min(MOST_ROOM));
    let mut dashed = Vec::new();
    let mut append = |name: HeaderName, value: HeaderValue| match headers.try_append(name, value) {
        Ok(_) => Ok(()),
        Err(_) => Err(RequestError::TooManyFields),
    };
    for (name, value) in meta.params() {
        let Some(suffix) = name.strip_prefix(b"HTTP_") else { continue };
        dashed.clear();
        dashed.extend(suffix.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }));
        let field =
            HeaderName::from_bytes(&dashed).map_err(|_| RequestError::FieldName(excerpt(name)))?;
        // The names in Connection are ignored. The web server's own fields are here too,
        // and a client must not be able to remove those.
        if hop::is_hop_by_hop(&field)
            || [CONTENT_LENGTH, CONTENT_TYPE].contains(&field)
            || field == "proxy"
            || (field == HOST && value.is_empty())
        {
            continue;
        }
        let value = HeaderValue::from_bytes(value)
            .map_err(|_| RequestError::FieldValue { name: excerpt(name), value: excerpt(value) })?;
        append(field, value)?;
    }
    if let Some(value) = found.content_type.filter(|value| !value.is_empty()) {
        let value = HeaderValue::from_bytes(value).map_err(|_| invalid("CONTENT_TYPE", value))?;
        append(CONTENT_TYPE, value)?;
    }
    if let Some(length) = content_length(found.content_length)? {
        append(CONTENT_LENGTH, length.into())?;
    }
    Ok(headers)
}

fn invalid(name: &'static str, value: &[u8]) -> RequestError {
    RequestError::Invalid { name, value: excerpt(value) }
}
