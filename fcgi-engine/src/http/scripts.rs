//! Which script a client asks for.

use std::{ffi::OsStr, fmt, os::unix::ffi::OsStrExt, path::Path};

use fcgi_http::{
    Mount, Script, ScriptMap,
    script::{ConfigError, ScriptError},
};
use http::request::Parts;

/// Decides which script serves a request, for an `HttpClient`.
///
/// Implemented by [`Mount`], for an application that is not a file; by [`ScriptMap`], for script
/// files that this side does not look at ([`ScriptMap::resolve_unseen`]); and by any
/// `Fn(&http::request::Parts) -> Result<Script, ScriptError>`, such as one that looks at the files.
pub trait Scripts: Send + Sync + 'static {
    /// The script for a request.
    ///
    /// # Errors
    /// No script serves it; see [`ScriptError::status`].
    fn script(&self, request: &Parts) -> Result<Script, ScriptError>;
}

impl<F> Scripts for F
where
    F: Fn(&Parts) -> Result<Script, ScriptError> + Send + Sync + 'static,
{
    fn script(&self, request: &Parts) -> Result<Script, ScriptError> {
        self(request)
    }
}

impl Scripts for Mount {
    fn script(&self, request: &Parts) -> Result<Script, ScriptError> {
        self.resolve(request.uri.path())
    }
}

impl Scripts for ScriptMap {
    fn script(&self, request: &Parts) -> Result<Script, ScriptError> {
        self.resolve_unseen(request.uri.path())
    }
}

impl Scripts for Box<dyn Scripts> {
    fn script(&self, request: &Parts) -> Result<Script, ScriptError> {
        (**self).script(request)
    }
}

/// The scripts of an `HttpClient` that is being built. By default one application that is not a
/// file serves the whole site.
#[derive(Default)]
pub struct ScriptsBuilder {
    given: Option<Box<dyn Scripts>>,
    root: Option<Vec<u8>>,
    front: Option<Vec<u8>>,
}

impl ScriptsBuilder {
    /// Uses these scripts, whatever else was set.
    pub fn set(&mut self, scripts: impl Scripts) {
        self.given = Some(Box::new(scripts));
    }

    /// Uses the scripts below a document root, as the application sees it.
    pub fn set_root(&mut self, root: &Path) {
        self.root = Some(root.as_os_str().as_bytes().to_vec());
    }

    /// Sets the script that serves each request for a path without a script.
    pub fn set_front(&mut self, name: &OsStr) {
        let name = name.as_bytes();
        let slash: &[u8] = if name.starts_with(b"/") { b"" } else { b"/" };
        self.front = Some([slash, name].concat());
    }

    /// The scripts.
    ///
    /// # Errors
    /// One of the errors in [`ConfigError`].
    pub fn build(self) -> Result<Box<dyn Scripts>, ConfigError> {
        Ok(match self {
            Self { given: Some(scripts), .. } => scripts,
            Self { root: Some(root), front, .. } => {
                let map = ScriptMap::builder(root);
                Box::new(match front {
                    Some(front) => map.front_controller(front).build()?,
                    None => map.build()?,
                })
            }
            Self { front: Some(front), .. } => {
                return Err(ConfigError::NoRoot(front.escape_ascii().to_string()));
            }
            Self { .. } => Box::new(Mount::new("")?),
        })
    }
}

impl fmt::Debug for ScriptsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptsBuilder").finish_non_exhaustive()
    }
}
