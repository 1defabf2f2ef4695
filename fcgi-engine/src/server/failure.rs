//! What the log says of a handler that failed: in whose name a line is written is what its reader asks
//! first.

use std::{borrow::Cow, error::Error};

use fcgi_proto::Params;
use tracing::field::display;

use crate::text::{chain, escape};

/// A handler returned an error. The parameters are its request's; empty where they are not at hand.
pub fn log_failure(error: &(dyn Error + 'static), params: &Params) {
    let (method, path) = (method(params).map(display), path(params).map(display));
    tracing::warn!(error = %chain(error), method, path, "the handler of a request failed");
}

/// A handler panicked. What it said is on stderr.
pub fn log_panic(request_id: u16, params: &Params) {
    let (method, path) = (method(params).map(display), path(params).map(display));
    tracing::error!(request_id, method, path, "handler panicked");
}

fn method(params: &Params) -> Option<String> {
    params.get("REQUEST_METHOD").map(|method| escape(method, b""))
}

/// The path that was asked for, without its query, which may hold secrets.
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
