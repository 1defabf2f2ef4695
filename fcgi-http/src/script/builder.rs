//! The configuration of a [`ScriptMap`].

use std::cmp::Reverse;

use super::{EncodedSlashes, ScriptMap, path::folder};
use crate::text::{excerpt, is_control};

/// Configures a [`ScriptMap`]; see [`ScriptMap::builder`] for the defaults.
#[derive(Clone, Debug)]
pub struct ScriptMapBuilder {
    document_root: Vec<u8>,
    local_root: Option<Vec<u8>>,
    index: Vec<Vec<u8>>,
    suffixes: Vec<Vec<u8>>,
    front_controllers: Vec<Vec<u8>>,
    front_path_info: bool,
    encoded_slashes: EncodedSlashes,
    hidden_files: bool,
}

impl ScriptMap {
    /// A map of the scripts below `document_root`, a path as the application sees it.
    ///
    /// Defaults: scripts end with `.php`, the index is `index.php`, no front controller, encoded
    /// slashes and hidden files are refused.
    #[must_use]
    pub fn builder(document_root: impl Into<Vec<u8>>) -> ScriptMapBuilder {
        ScriptMapBuilder::new(document_root.into())
    }
}

impl ScriptMapBuilder {
    fn new(document_root: Vec<u8>) -> Self {
        Self {
            document_root,
            local_root: None,
            index: vec![b"index.php".to_vec()],
            suffixes: vec![b".php".to_vec()],
            front_controllers: Vec::new(),
            front_path_info: false,
            encoded_slashes: EncodedSlashes::Refuse,
            hidden_files: false,
        }
    }

    /// The root that the function passed to [`ScriptMap::resolve`] uses, if the application sees
    /// the same files elsewhere, as in a container. Default: the document root.
    #[must_use]
    pub fn local_root(mut self, root: impl Into<Vec<u8>>) -> Self {
        self.local_root = Some(root.into());
        self
    }

    /// File names to try for a path that ends with a slash, in order. Default: `index.php`.
    #[must_use]
    pub fn index<N: Into<Vec<u8>>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.index = names.into_iter().map(Into::into).collect();
        self
    }

    /// The suffixes of script names, compared byte by byte. A path is split after the first segment
    /// that has such a suffix and is a file. Default: `.php`.
    #[must_use]
    pub fn split_path_info<S: Into<Vec<u8>>>(
        mut self,
        suffixes: impl IntoIterator<Item = S>,
    ) -> Self {
        self.suffixes = suffixes.into_iter().map(Into::into).collect();
        self
    }

    /// The script, as a path below the document root, that gets each request that is not for a
    /// file, in the script's own folder and below: `/blog/index.php` for `/blog/…`. Another call
    /// adds another one; the one in the nearest folder answers. Default: none; such requests are
    /// not found.
    ///
    /// It also gets paths with encoded slashes and hidden names; these reach no file.
    #[must_use]
    pub fn front_controller(mut self, script_name: impl Into<Vec<u8>>) -> Self {
        self.front_controllers.push(script_name.into());
        self
    }

    /// Whether a front controller gets the path, from its own folder on, as its PATH_INFO. Default:
    /// no; most front controllers read REQUEST_URI.
    #[must_use]
    pub fn front_controller_path_info(mut self, yes: bool) -> Self {
        self.front_path_info = yes;
        self
    }

    /// What to do about `%2F` and backslashes. Default: refuse.
    #[must_use]
    pub fn encoded_slashes(mut self, policy: EncodedSlashes) -> Self {
        self.encoded_slashes = policy;
        self
    }

    /// Whether scripts and files may be below a name that starts with a dot. Default: no, except
    /// `/.well-known`. PATH_INFO may always hold dots.
    #[must_use]
    pub fn hidden_files(mut self, allowed: bool) -> Self {
        self.hidden_files = allowed;
        self
    }

    /// Checks the configuration and builds the map.
    ///
    /// # Errors
    /// One of the errors in [`ConfigError`].
    pub fn build(self) -> Result<ScriptMap, ConfigError> {
        let root = |root: Vec<u8>| {
            if root.is_empty() || root.iter().any(|byte| is_control(*byte)) {
                return Err(ConfigError::Root(excerpt(&root)));
            }
            Ok(match root.strip_suffix(b"/") {
                Some(b"") | None => root,
                Some(trimmed) => trimmed.to_vec(),
            })
        };
        let document_root = root(self.document_root)?;
        let local_root = self.local_root.map(root).transpose()?;
        let is_name = |name: &[u8]| {
            !name.is_empty()
                && !matches!(name, b"." | b"..")
                && !name.iter().any(|byte| *byte == b'/' || is_control(*byte))
        };
        if let Some(name) = self.index.iter().find(|name| !is_name(name)) {
            return Err(ConfigError::Index(excerpt(name)));
        }
        if let Some(suffix) = self.suffixes.iter().find(|suffix| !is_name(suffix)) {
            return Err(ConfigError::Suffix(excerpt(suffix)));
        }
        for name in &self.front_controllers {
            let mut segments = name.split(|byte| *byte == b'/');
            if segments.next() != Some(b"") || !segments.all(is_name) || name.len() < 2 {
                return Err(ConfigError::FrontController(excerpt(name)));
            }
        }
        let mut front_controllers = self.front_controllers;
        // The nearest folder comes first. Of two in one folder, the first counts.
        front_controllers.sort_by_key(|name| Reverse(folder(name).len()));
        Ok(ScriptMap {
            local_root: local_root.unwrap_or_else(|| document_root.clone()),
            document_root,
            index: self.index,
            suffixes: self.suffixes,
            front_controllers,
            front_path_info: self.front_path_info,
            encoded_slashes: self.encoded_slashes,
            hidden_files: self.hidden_files,
        })
    }
}

/// A contradictory or impossible configuration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A root that is empty or holds control bytes.
    #[error("document root \"{0}\" is empty or holds control bytes")]
    Root(String),
    /// An index that is not a plain file name.
    #[error("index \"{0}\" is not a file name")]
    Index(String),
    /// A suffix that is empty, holds a slash, or is `.` or `..`.
    #[error("suffix \"{0}\" can't end a file name")]
    Suffix(String),
    /// A front controller without a document root.
    #[error("front controller \"{0}\" has no document root to be in")]
    NoRoot(String),
    /// A front controller that is not a path such as `/index.php`.
    #[error("front controller \"{0}\" is not a path below the document root")]
    FrontController(String),
    /// A mount's prefix that is neither empty nor a path such as `/app`.
    #[error(
        "prefix \"{0}\" is neither empty nor a path that starts, and does not end, with a slash"
    )]
    Prefix(String),
}
