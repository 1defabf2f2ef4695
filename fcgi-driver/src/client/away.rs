//! A detached request.

use std::{future::poll_fn, sync::Arc, task::Waker};

use fcgi_engine::client::Carrier;

use super::{Exchange, connection::Place};
use crate::runtime::{Runtime, spawn_or_warn};

/// Runs a request to its end, in a new task, and then brings the connection back.
pub(super) fn run<R: Runtime>(place: &mut Place<R>, mut exchange: Exchange<R>) {
    exchange.core.detach(R::now());
    let Some((mut connection, home)) = place.detach(Waker::wake) else { return };
    let address = Arc::clone(exchange.core.address());
    spawn_or_warn::<R>(&address, async move {
        while let Ok(Some(_)) = poll_fn(|cx| connection.poll_exchange(cx, &mut exchange)).await {}
        connection.leave(&mut exchange.core);
        home.back(connection);
    });
}
