//! One application below a prefix.

use super::{ConfigError, EncodedSlashes, Script, ScriptError, path};
use crate::text::excerpt;

/// Maps each path below a prefix to one application that is not a file. The prefix is its
/// SCRIPT_NAME, and the rest of the path its PATH_INFO.
///
/// ```
/// use fcgi_http::script::{Mount, ScriptError};
///
/// let mount = Mount::new("/app")?;
/// let script = mount.resolve("/app/users/J%C3%BCrgen")?;
/// assert_eq!(script.script_name, b"/app");
/// assert_eq!(script.path_info, "/users/Jürgen".as_bytes());
/// assert_eq!(mount.resolve("/apple"), Err(ScriptError::NotFound));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Mount {
    prefix: Vec<u8>,
    encoded_slashes: EncodedSlashes,
}

impl Mount {
    /// A mount at a decoded prefix: empty for the whole site, or a path such as `/app`.
    ///
    /// Encoded slashes are decoded by default, since they name no files here.
    ///
    /// # Errors
    /// [`ConfigError::Prefix`] for a prefix that a decoded, normalised path can't have.
    pub fn new(prefix: impl Into<Vec<u8>>) -> Result<Self, ConfigError> {
        let prefix = prefix.into();
        let mut encoded = String::new();
        path::encode(&prefix, &mut encoded);
        let stays = prefix.is_empty()
            || (!prefix.ends_with(b"/")
                && path::decode(&encoded, EncodedSlashes::Decode).as_ref() == Ok(&prefix));
        if !stays {
            return Err(ConfigError::Prefix(excerpt(&prefix)));
        }
        Ok(Self { prefix, encoded_slashes: EncodedSlashes::Decode })
    }

    /// What to do about `%2F` and backslashes. Default: decode.
    #[must_use]
    pub fn encoded_slashes(mut self, policy: EncodedSlashes) -> Self {
        self.encoded_slashes = policy;
        self
    }

    /// The application's names for a URL's path, which must be in the form of [`http::Uri::path`].
    ///
    /// # Errors
    /// The path is refused, or is not below the prefix.
    pub fn resolve(&self, path: &str) -> Result<Script, ScriptError> {
        let path = path::decode(path, self.encoded_slashes)?;
        match path.strip_prefix(&self.prefix[..]) {
            Some(info) if info.is_empty() || info.starts_with(b"/") => {
                Ok(Script::new(self.prefix.clone(), info))
            }
            _ => Err(ScriptError::NotFound),
        }
    }
}
