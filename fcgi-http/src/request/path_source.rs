//! Which of its parameters say what path a request is for.

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
    /// REQUEST_URI: the whole path, as the client asked for it, before any rewrite. Without it,
    /// SCRIPT_NAME and PATH_INFO together.
    #[default]
    RequestUri,
    /// PATH_INFO: the path below the application, as WSGI, PSGI and Rack have it. SCRIPT_NAME is then
    /// the application's [`MountPoint`]. It goes by what the web server's rewrites made of the
    /// request.
    ///
    /// Web servers leave PATH_INFO out, for different reasons:
    ///
    /// | PATH_INFO | is taken from |
    /// | --- | --- |
    /// | not empty | PATH_INFO |
    /// | empty or absent, behind Apache's ProxyPass | SCRIPT_FILENAME's end, `proxy:fcgi://HOST/PATH`, if SCRIPT_NAME ends so too |
    /// | absent, and DOCUMENT_URI goes on where SCRIPT_NAME ends | the rest of DOCUMENT_URI: nginx splits the path and does not pass PATH_INFO |
    /// | absent, and SCRIPT_NAME is DOCUMENT_URI | SCRIPT_NAME: nginx does not split the path |
    /// | absent, behind HAProxy without `path-info` | SCRIPT_NAME |
    /// | else | `/`: the application itself is asked for |
    PathInfo,
}

/// Where the web server has put the application, in the extensions of a request: the path that its
/// links begin with, percent-encoded. Empty at the top of a site, and under
/// [`PathSource::RequestUri`], where the request's path is the whole one.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct MountPoint(String);

impl MountPoint {
    /// The path: empty, or one that starts, and does not end, with a slash.
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

/// The application's path and the one below it, both decoded.
pub(super) struct Split<'a> {
    mount: &'a [u8],
    /// Starts with a slash.
    pub(super) path: Cow<'a, [u8]>,
}

impl Split<'_> {
    pub(super) fn mount(&self) -> MountPoint {
        let mut mount = String::new();
        path::encode(self.mount.strip_suffix(b"/").unwrap_or(self.mount), &mut mount);
        MountPoint(mount)
    }
}

/// Splits as [`PathSource::PathInfo`] says.
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

/// Apache's ProxyPass leaves the path below its target in SCRIPT_FILENAME alone (W-5).
fn passed<'a>(meta: &'a MetaVariables, name: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let path = meta.proxied_path().filter(|path| path.starts_with(b"/"))?;
    // It is encoded, where SCRIPT_NAME is not.
    let mount = name.strip_suffix(path).or_else(|| name.strip_suffix(&*path::unescape(path)))?;
    Some(name.split_at(mount.len()))
}

/// A path that nobody split, or somebody did without saying so.
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
