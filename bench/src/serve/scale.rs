//! This project's tokio server, with limits that let 10,000 requests share one connection.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use fcgi_tokio::{Error, Limits, Listener, Request, Server};
use tokio::sync::Barrier;

use crate::scale::{AT_ONCE, MOST, params};

/// Where requests wait for each other, by how many there should be.
type Barriers = Arc<Mutex<HashMap<usize, Arc<Barrier>>>>;

/// Accepts connections and answers every request on them.
pub(super) async fn serve(socket: &Path) -> Result<()> {
    let mut limits = Limits::server();
    limits.requests = 2 * MOST;
    limits.params_bytes = params::BYTES;
    limits.params_bytes_connection = params::BYTES;
    limits.params_pairs = 2 * MOST;
    let barriers = Barriers::default();
    let handler = move |request| answer(Arc::clone(&barriers), request);
    Server::new()
        .limits(limits)
        .max_connections(2 * MOST)
        .max_requests(2 * MOST)
        .serve(Listener::bind(socket)?, handler)
        .await?;
    Ok(())
}

/// Answers once as many requests have begun as the request says.
async fn answer(barriers: Barriers, request: Request) -> Result<(), Error> {
    if let Some(n) = request.param_str(AT_ONCE).and_then(|n| n.parse().ok()) {
        let barrier = {
            let mut barriers = barriers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(barriers.entry(n).or_insert_with(|| Arc::new(Barrier::new(n))))
        };
        barrier.wait().await;
    }
    request.stdout().write_chunk(Bytes::from_static(super::STDOUT)).await
}
