//! Which script a client asks for.

use fcgi_http::{Mount, Script, ScriptMap, script::ScriptError};
use http::request::Parts;

/// Says which script serves a request: for an `HttpClient`.
///
/// A [`Mount`] is one, for an application that is no file; a [`ScriptMap`] is, for scripts in files
/// that this side does not look at ([`ScriptMap::resolve_unseen`]); and any
/// `Fn(&http::request::Parts) -> Result<Script, ScriptError>`, such as one that looks at the files.
pub trait Scripts: Send + Sync + 'static {
    /// The script for a request.
    ///
    /// # Errors
    /// None serves it; see [`ScriptError::status`].
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
