//! From a URL's path to the script that serves it: SCRIPT_NAME, PATH_INFO and SCRIPT_FILENAME.
//!
//! The web server decides which file an application runs. Most exploits of FastCGI servers use a
//! path that two parties read differently (CVE-2019-11043, `x.jpg/y.php`, encoded dots, Unicode
//! case: H-14). So the path is decoded and normalised once, only bytes are compared, the path is
//! split at a suffix that ends a segment, and a script must be a file.
//!
//! [`ScriptMap`] is for scripts in files (PHP and the like), [`Mount`] for one application below a
//! prefix. Neither does IO: the caller says whether a name is a file.
//!
//! ```
//! use fcgi_http::script::{FileKind, ScriptError, ScriptMap, Target};
//!
//! let map = ScriptMap::builder("/srv/www").front_controller("/index.php").build()?;
//! // A program asks the file system here.
//! let files = |name: &[u8]| match name {
//!     b"/srv/www/index.php" | b"/srv/www/shop.php" | b"/srv/www/x.jpg" => FileKind::File,
//!     b"/srv/www/images" => FileKind::Directory,
//!     _ => FileKind::Missing,
//! };
//!
//! let Target::Script(script) = map.resolve("/shop.php/cart/7", files)? else { panic!() };
//! assert_eq!(script.script_name, b"/shop.php");
//! assert_eq!(script.path_info, b"/cart/7");
//! assert_eq!(script.script_filename.as_deref(), Some(&b"/srv/www/shop.php"[..]));
//!
//! // Not a file, so not a script: the front controller has it.
//! let Target::Script(script) = map.resolve("/x.jpg/y.php", files)? else { panic!() };
//! assert_eq!(script.script_name, b"/index.php");
//!
//! assert_eq!(map.resolve("/../etc/passwd", files), Err(ScriptError::AboveRoot));
//! assert_eq!(map.resolve("/shop.php%0a", files), Err(ScriptError::ControlByte(b'\n')));
//! let Target::Redirect { location } = map.resolve("/images", files)? else { panic!() };
//! assert_eq!(location, "/images/");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod builder;
mod map;
mod mount;
pub(crate) mod path;

use http::StatusCode;

pub use builder::{ConfigError, ScriptMapBuilder};
pub use map::{FileKind, ScriptMap, Target};
pub use mount::Mount;

/// Which script serves a request, in CGI's terms. All paths are decoded bytes.
///
/// SCRIPT_NAME followed by PATH_INFO is the requested path, except under a front controller.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Script {
    /// SCRIPT_NAME: the part of the URL's path that names the script; may be empty.
    pub script_name: Vec<u8>,
    /// PATH_INFO: the rest of the path; empty, or starts with a slash.
    pub path_info: Vec<u8>,
    /// SCRIPT_FILENAME: the script's file, as the application sees it.
    pub script_filename: Option<Vec<u8>>,
    /// DOCUMENT_ROOT, as the application sees it, without a trailing slash, unless it is `/`.
    pub document_root: Option<Vec<u8>>,
}

impl Script {
    /// A script that is not a file.
    #[must_use]
    pub fn new(script_name: impl Into<Vec<u8>>, path_info: impl Into<Vec<u8>>) -> Self {
        Self {
            script_name: script_name.into(),
            path_info: path_info.into(),
            script_filename: None,
            document_root: None,
        }
    }

    /// PATH_TRANSLATED: PATH_INFO below the document root, if both are set (RFC 3875, 4.1.6).
    #[must_use]
    pub fn path_translated(&self) -> Option<Vec<u8>> {
        match &self.document_root {
            Some(root) if !self.path_info.is_empty() => Some(join(root, &self.path_info)),
            _ => None,
        }
    }
}

/// The path of a URL as a script map or a mount reads it: decoded once, including `%2F`, without
/// `.`, `..` and empty segments. It starts with a slash.
///
/// # Errors
/// The path is invalid: [`NotAbsolute`](ScriptError::NotAbsolute),
/// [`BadEscape`](ScriptError::BadEscape), [`ControlByte`](ScriptError::ControlByte),
/// [`AboveRoot`](ScriptError::AboveRoot).
pub fn decode_path(path: &str) -> Result<Vec<u8>, ScriptError> {
    path::decode(path, EncodedSlashes::Decode)
}

/// `path` starts with a slash.
fn join(root: &[u8], path: &[u8]) -> Vec<u8> {
    [root.strip_suffix(b"/").unwrap_or(root), path].concat()
}

/// What to do about `%2F`, `%5C` and `\` in a path.
///
/// A file system takes an encoded slash for a separator, a URL does not; a backslash is a separator
/// on some systems only. So programs that pass a path along disagree about them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum EncodedSlashes {
    /// Refuse the request with 404, as Apache does. The default of [`ScriptMap`].
    #[default]
    Refuse,
    /// Refuse them in the names of files, and decode them elsewhere: in the PATH_INFO of a script
    /// that is a file, and in what a front controller gets.
    AfterFiles,
    /// Decode them like any other byte, before `..` is resolved, as nginx does. The default of
    /// [`Mount`].
    Decode,
}

/// A path that no script serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// The path does not start with a slash, as in `OPTIONS *`.
    #[error("the URL's path does not start with a slash")]
    NotAbsolute,
    /// A `%` without two hexadecimal digits.
    #[error("the URL's path has a % without two hexadecimal digits")]
    BadEscape,
    /// NUL, a line end or another control byte, plain or encoded (CVE-2019-11043, H-14).
    #[error("the URL's path holds the control byte {0:#04x}")]
    ControlByte(u8),
    /// `..` more often than there are segments to leave.
    #[error("the URL's path leaves the document root")]
    AboveRoot,
    /// `%2F` or a backslash, under [`EncodedSlashes::Refuse`].
    #[error("the URL's path has an encoded slash or a backslash")]
    EncodedSlash,
    /// A segment starts with a dot, as `.git` does, and hidden files are refused.
    #[error("the URL's path names a hidden file")]
    Hidden,
    /// The files can't be seen, and a directory's name before the script has a dot: it may be a
    /// file, as in `x.jpg/y.php`, and php would run it.
    #[error("the URL's path may name a file above the script")]
    Ambiguous,
    /// There is no such file, or it is not below the mount.
    #[error("the URL's path names no script")]
    NotFound,
}

impl ScriptError {
    /// The status to answer with: 400 for an invalid path, otherwise 404.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotAbsolute | Self::BadEscape | Self::ControlByte(_) | Self::AboveRoot => {
                StatusCode::BAD_REQUEST
            }
            Self::EncodedSlash | Self::Hidden | Self::Ambiguous | Self::NotFound => {
                StatusCode::NOT_FOUND
            }
        }
    }
}
