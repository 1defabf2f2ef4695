//! The application's side: turns parameters into a request's head.

use std::sync::Arc;

use fcgi_proto::Params;
use http::{
    HeaderMap, HeaderValue, Method, Uri, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName},
    request::Parts,
    uri::PathAndQuery,
};

use super::{
    MetaVariables, MountPoint, PathSource, RequestError,
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
    let (mut request, ()) = http::Request::new(()).into_parts();
    request.method = method(meta.params())?;
    request.version = version(meta.params())?;
    let (uri, mount) = match source {
        PathSource::RequestUri => (uri(&meta)?, MountPoint::default()),
        PathSource::PathInfo => {
            let split = path_source::split(&meta);
            (uri_below(&meta, &split)?, split.mount())
        }
    };
    request.uri = uri;
    request.headers = headers(&meta)?;
    request.extensions.insert(mount);
    request.extensions.insert(meta);
    Ok(request)
}

fn method(params: &Params) -> Result<Method, RequestError> {
    const NAME: &str = "REQUEST_METHOD";
    let value = params.get(NAME).ok_or(RequestError::Missing(NAME))?;
    Method::from_bytes(value).map_err(|_| invalid(NAME, value))
}

fn version(params: &Params) -> Result<Version, RequestError> {
    const NAME: &str = "SERVER_PROTOCOL";
    // Case does not matter (RFC 3875, 4.1.16). A server-side include sends INCLUDED.
    let value = params.get(NAME).unwrap_or(b"");
    Ok(match &value.to_ascii_uppercase()[..] {
        b"" | b"INCLUDED" | b"HTTP/1.0" => Version::HTTP_10,
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/2.0" | b"HTTP/2" => Version::HTTP_2,
        b"HTTP/3.0" | b"HTTP/3" => Version::HTTP_3,
        b"HTTP/0.9" => Version::HTTP_09,
        _ => return Err(invalid(NAME, value)),
    })
}

/// The `http` crate stores positions in a URI in 16 bits.
const URI_MAX: usize = 65_534;

fn uri(meta: &MetaVariables) -> Result<Uri, RequestError> {
    const NAME: &str = "REQUEST_URI";
    let mut text = String::new();
    let params = meta.params();
    let (name, value) = match params.get(NAME).filter(|value| !value.is_empty()) {
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
    for &byte in value {
        match byte {
            byte if is_control(byte) => return None,
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => {
                path::encode_byte(byte, out);
            }
            byte => out.push(char::from(byte)),
        }
    }
    Some(())
}

fn headers(meta: &MetaVariables) -> Result<HeaderMap, RequestError> {
    let mut headers = HeaderMap::new();
    let mut append = |name: HeaderName, value: HeaderValue| match headers.try_append(name, value) {
        Ok(_) => Ok(()),
        Err(_) => Err(RequestError::TooManyFields),
    };
    for (name, value) in meta.params() {
        let Some(suffix) = name.strip_prefix(b"HTTP_") else { continue };
        let suffix: Vec<u8> =
            suffix.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
        let field =
            HeaderName::from_bytes(&suffix).map_err(|_| RequestError::FieldName(excerpt(name)))?;
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
    if let Some(value) = meta.params().get("CONTENT_TYPE").filter(|value| !value.is_empty()) {
        let value = HeaderValue::from_bytes(value).map_err(|_| invalid("CONTENT_TYPE", value))?;
        append(CONTENT_TYPE, value)?;
    }
    if let Some(length) = meta.content_length()? {
        append(CONTENT_LENGTH, length.into())?;
    }
    Ok(headers)
}

fn invalid(name: &'static str, value: &[u8]) -> RequestError {
    RequestError::Invalid { name, value: excerpt(value) }
}
