//! Which parameters hold the path of a request.

use std::{borrow::Cow, fmt};

use super::MetaVariables;
use crate::script::path;

/// Where an application finds the path that it routes by.
///
/// ```
/// use fcgi_http::{MountPoint, PathSource, request};
/// use fcgi_proto::Params;
///
/// let params = || Params::from_iter([
///     ("REQUEST_METHOD", "GET"),
///     ("REQUEST_URI", "/shop/cart?id=7"),
///     ("SCRIPT_NAME", "/shop"),
///     ("PATH_INFO", "/cart"),
///     ("QUERY_STRING", "id=7"),
/// ]);
/// let whole = request::from_params(params())?;
/// assert_eq!(whole.uri, "/shop/cart?id=7");
///
/// let below = request::from_params_by(params(), PathSource::PathInfo)?;
/// assert_eq!(below.uri, "/cart?id=7");
/// let mount = below.extensions.get::<MountPoint>().ok_or("always there")?;
/// assert_eq!(mount.as_str(), "/shop");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum PathSource {
    /// REQUEST_URI: the whole path, as the client asked for it, before any rewrite. If it is
    /// absent, SCRIPT_NAME and PATH_INFO together.
    #[default]
    RequestUri,
    /// PATH_INFO: the path below the application, as in WSGI, PSGI and Rack. SCRIPT_NAME is then
    /// the application's [`MountPoint`]. This follows the web server's rewrites of the request.
    ///
    /// Web servers omit PATH_INFO in several cases:
    ///
    /// | PATH_INFO | path |
    /// | --- | --- |
    /// | not empty | PATH_INFO |
    /// | empty or absent, behind Apache's ProxyPass | the end of SCRIPT_FILENAME, `proxy:fcgi://HOST/PATH`, if SCRIPT_NAME ends with it too |
    /// | absent, and DOCUMENT_URI is longer than SCRIPT_NAME | the rest of DOCUMENT_URI: nginx splits the path and does not pass PATH_INFO |
    /// | absent, and SCRIPT_NAME is DOCUMENT_URI | SCRIPT_NAME: nginx does not split the path |
    /// | absent, behind HAProxy without `path-info` | SCRIPT_NAME |
    /// | otherwise | `/`: the request is for the application itself |
    PathInfo,
}

/// The path below which the web server has mounted the application, percent-encoded, in the
/// extensions of a request. Links to the application begin with it. It is empty at the top of a
/// site, and under [`PathSource::RequestUri`], where the request has the whole path.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct MountPoint(String);

impl MountPoint {
    /// The path: empty, or one that starts with a slash and does not end with one.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for MountPoint {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MountPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The application's path and the path below it, both decoded.
pub(super) struct Split<'a> {
    mount: &'a [u8],
    /// Always starts with a slash.
    pub(super) path: Cow<'a, [u8]>,
}

impl Split<'_> {
    pub(super) fn mount(&self) -> MountPoint {
        let mut mount = String::new();
        path::encode(self.mount.strip_suffix(b"/").unwrap_or(self.mount), &mut mount);
        MountPoint(mount)
    }
}

/// Splits the path as [`PathSource::PathInfo`] says.
pub(super) fn split(meta: &MetaVariables) -> Split<'_> {
    let name = meta.script_name();
    let info = meta.params().get("PATH_INFO");
    let (mount, below) = match info {
        Some(info) if !info.is_empty() => (name, info),
        _ => match passed(meta, name) {
            Some(split) => split,
            None if info.is_some() => (name, &b""[..]),
            None => unsplit(meta, name),
        },
    };
    let path = match below {
        b"" => Cow::Borrowed(&b"/"[..]),
        [b'/', ..] => Cow::Borrowed(below),
        _ => Cow::Owned([b"/", below].concat()),
    };
    Split { mount, path }
}

/// Apache's ProxyPass puts the path below its target into SCRIPT_FILENAME only (W-5).
fn passed<'a>(meta: &'a MetaVariables, name: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let path = meta.proxied_path().filter(|path| path.starts_with(b"/"))?;
    // It is encoded; SCRIPT_NAME is not.
    let mount = name.strip_suffix(path).or_else(|| name.strip_suffix(&*path::unescape(path)))?;
    Some(name.split_at(mount.len()))
}

/// A path that was not split, or was split by a server that does not pass PATH_INFO.
fn unsplit<'a>(meta: &'a MetaVariables, name: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    let params = meta.params();
    let whole = params.get("DOCUMENT_URI").and_then(|whole| whole.strip_prefix(name));
    match whole {
        Some(b"") => (b"", name),
        Some(below @ [b'/', ..]) => (name, below),
        _ if params.get("SERVER_SOFTWARE").is_some_and(|s| s.starts_with(b"HAProxy")) => {
            (b"", name)
        }
        _ => (name, b""),
    }
}
