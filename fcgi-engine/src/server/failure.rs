//! What a handler's failure means, and its line in the log, with the method and the path of its
//! request, which readers of a log want to know first.

use std::{
    borrow::Cow,
    error::Error,
    panic::{AssertUnwindSafe, catch_unwind},
};

use fcgi_proto::Params;
use tracing::field::display;

use super::{Failed, HandlerEnd};
use crate::text::{chain, escape};

/// Runs a handler, or a part of it. If it panics, that is logged, and is its end. `params` is called
/// then, as for [`log_failure`].
///
/// # Errors
/// [`HandlerEnd::Panicked`].
#[inline]
pub fn catch_panic<T>(
    request_id: u16,
    params: impl FnOnce() -> Params,
    run: impl FnOnce() -> T,
) -> Result<T, HandlerEnd> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| {
        log_panic(request_id, &params());
        HandlerEnd::Panicked
    })
}

/// Logs that a handler returned an error. `params` are those of its request, or empty if they are
/// not available. Returns how the handler ended.
pub fn log_failure(error: &(dyn Error + 'static), params: &Params) -> Failed {
    let (method, path) = (method(params).map(display), path(params).map(display));
    tracing::warn!(error = %chain(error), method, path, "the handler of a request failed");
    Failed
}

/// Logs that a handler panicked. Its message is on stderr.
fn log_panic(request_id: u16, params: &Params) {
    let (method, path) = (method(params).map(display), path(params).map(display));
    tracing::error!(request_id, method, path, "handler panicked");
}

fn method(params: &Params) -> Option<String> {
    params.get("REQUEST_METHOD").map(|method| escape(method, b""))
}

/// The requested path, without its query, which may contain secrets.
fn path(params: &Params) -> Option<String> {
    let path = match (params.get("REQUEST_URI"), params.get("SCRIPT_NAME")) {
        (Some(uri), _) if !uri.is_empty() => {
            let query = uri.iter().position(|byte| *byte == b'?');
            Cow::Borrowed(&uri[..query.unwrap_or(uri.len())])
        }
        (_, Some(script)) => {
            Cow::Owned([script, params.get("PATH_INFO").unwrap_or_default()].concat())
        }
        (_, None) => return None,
    };
    Some(escape(&path, b""))
}
