//! A detached request.

use std::{
    thread::{self, Thread},
    time::Instant,
};

use fcgi_engine::client::Carrier;

use super::{Exchange, link::Place};

/// Runs a request to its end, in a new thread, and then brings the connection back.
pub(super) fn run(place: &mut Place, mut exchange: Exchange) {
    exchange.core.detach(Instant::now());
    let Some((mut link, home)) = place.detach(|who: Thread| who.unpark()) else { return };
    spawn(move || {
        while let Ok(Some(_)) = exchange.chunk(&mut link) {}
        link.leave(&mut exchange.core);
        home.back(link);
    });
}

/// Starts the thread of a detached request.
pub(crate) fn spawn(run: impl FnOnce() + Send + 'static) {
    // If this fails, the request is dropped with `run`, which aborts it.
    if let Err(error) = thread::Builder::new().name("fcgi-detached".into()).spawn(run) {
        tracing::warn!(%error, "no thread for a detached request: it is aborted");
    }
}
