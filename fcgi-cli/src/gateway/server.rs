//! The clients' connections: HTTP/1.1, and HTTP/2 by prior knowledge.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{Signal, SignalKind, signal},
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::{
    service::{Ends, Service},
    socket::{Socket, linger},
};
use crate::complain;

/// The most that a request's head may take, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 100;
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Limits {
    pub(super) clients: usize,
    pub(super) client_timeout: Duration,
    pub(super) shutdown_timeout: Duration,
}

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Serves until a signal comes, and then lets the requests under way finish.
pub(super) async fn serve(
    mut listeners: Vec<TcpListener>,
    service: Arc<Service>,
    limits: &Limits,
    signals: &mut Signals,
) {
    let slots = Arc::new(Semaphore::new(limits.clients.min(Semaphore::MAX_PERMITS)));
    let graceful = GracefulShutdown::new();
    let builder = builder(limits.client_timeout);
    let accepting = async {
        loop {
            // Nobody closes the semaphore.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let (stream, ends) = accept(&mut listeners).await;
            let stream = Arc::new(stream);
            let seen = Arc::new(AtomicBool::new(false));
            let socket = Socket::new(Arc::clone(&stream), limits.client_timeout);
            let connection = graceful.watch(
                builder
                    .serve_connection(TokioIo::new(socket), {
                        let (service, seen) = (Arc::clone(&service), Arc::clone(&seen));
                        service_fn(move |request| {
                            seen.store(true, Ordering::Relaxed);
                            let service = Arc::clone(&service);
                            async move { Ok::<_, Infallible>(service.call(request, ends).await) }
                        })
                    })
                    .into_owned(),
            );
            let limit = limits.client_timeout;
            tokio::spawn(async move {
                tokio::select! {
                    // A request that has come in time is seen, however late this is polled.
                    biased;
                    // The client has gone away, or spoke no HTTP: it has been told, if it can be.
                    _ = connection => linger(&stream).await,
                    () = silence(limit, &seen) => {}
                }
                drop(slot);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = signals.next() => {}
    }
    // Nobody connects any more.
    drop(listeners);
    tokio::select! {
        () = signals.next() => {}
        finished = timeout(limits.shutdown_timeout, graceful.shutdown()) => {
            if finished.is_err() {
                let limit = limits.shutdown_timeout;
                complain(&format!("fcgi gateway: requests cut off, not finished within {limit:?}"));
            }
        }
    }
}

fn builder(client_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(client_timeout)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(client_timeout)
        .keep_alive_timeout(client_timeout)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32);
    builder
}

/// Ends when no request has come for so long: hyper waits for ever for a connection's first bytes.
async fn silence(limit: Duration, seen: &AtomicBool) {
    sleep(limit).await;
    if seen.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// The next connection of any listener.
async fn accept(listeners: &mut [TcpListener]) -> (TcpStream, Ends) {
    loop {
        let accepted = poll_fn(|cx| {
            for listener in listeners.iter() {
                if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await;
        match accepted.and_then(|(stream, remote)| prepare(stream, remote)) {
            Ok(client) => return client,
            // A client that is gone already.
            Err(error) if is_of_one(&error) => {}
            Err(error) => {
                complain(&format!("fcgi gateway: accept a connection: {error}"));
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn prepare(stream: TcpStream, remote: SocketAddr) -> io::Result<(TcpStream, Ends)> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    Ok((stream, Ends { remote, local }))
}

fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidInput, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | InvalidInput | NotConnected)
}
