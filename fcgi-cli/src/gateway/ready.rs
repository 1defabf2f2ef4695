//! Whether the application can be reached.

use std::{io, sync::Arc, time::Duration};

use fcgi_tokio as fcgi;
use tokio::{
    net::{TcpStream, UnixStream},
    sync::Mutex,
    time::{Instant, timeout},
};

use super::log;

/// How long a test connection may take.
const REACH: Duration = Duration::from_secs(2);
/// How long a result is valid, so that those who ask can't keep the application busy.
const KEPT: Duration = Duration::from_secs(1);

/// Tests whether the application can be reached, one test at a time.
#[derive(Debug)]
pub(super) struct Ready {
    addresses: Vec<fcgi::Address>,
    last: Arc<Mutex<Option<Answer>>>,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    at: Instant,
    is_there: bool,
}

impl Ready {
    pub(super) fn new(addresses: Vec<fcgi::Address>) -> Self {
        Self { addresses, last: Arc::default() }
    }

    /// Whether it can be reached at one address at least. If not, the log says why.
    ///
    /// # Cancellation safety
    /// A test that was started continues; the next caller gets its result.
    pub(super) async fn ask(&self) -> bool {
        let mut last = Arc::clone(&self.last).lock_owned().await;
        if let Some(answer) = last.filter(|answer| answer.at.elapsed() < KEPT) {
            return answer.is_there;
        }
        let addresses = self.addresses.clone();
        let look = tokio::spawn(async move {
            let is_there = reach_one(&addresses).await;
            *last = Some(Answer { at: Instant::now(), is_there });
            is_there
        });
        look.await.unwrap_or(false)
    }
}

async fn reach_one(addresses: &[fcgi::Address]) -> bool {
    let mut failed = String::new();
    for address in addresses {
        match reach(address).await {
            Ok(()) => return true,
            Err(error) => failed = format!("connect to {address}: {error}"),
        }
    }
    log::event("ready", None, &failed);
    false
}

/// Connects, and does nothing else.
async fn reach(address: &fcgi::Address) -> io::Result<()> {
    let connect = async {
        match address.target() {
            fcgi::Target::Unix(path) => UnixStream::connect(path).await.map(drop),
            fcgi::Target::Tcp(host_port) => TcpStream::connect(host_port).await.map(drop),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    };
    timeout(REACH, connect).await?
}
