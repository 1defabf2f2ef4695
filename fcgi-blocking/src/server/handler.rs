//! What answers requests.

use fcgi_engine::server::{Failed, IntoAppStatus, log_failure};

use super::request::Request;

/// What answers requests: any `Fn(Request) -> impl IntoAppStatus`. Several threads call it at
/// once.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; returns its app status.
    ///
    /// # Errors
    /// [`Failed`] when the response is incomplete.
    fn call(&self, request: Request) -> Result<u32, Failed>;
}

impl<F, R> Handler for F
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: IntoAppStatus,
{
    fn call(&self, mut request: Request) -> Result<u32, Failed> {
        let (connection, key) = request.keep();
        let status = self(request).into_app_status();
        status.map_err(|error| log_failure(&*error, &connection.take_params(key)))
    }
}
