//! The clients' connections: HTTP/1.1, and HTTP/2 by prior knowledge.

use std::{convert::Infallible, future::pending, io, pin::pin, sync::Arc, time::Duration};

use fcgi_engine::Error;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    signal::unix::{Signal, SignalKind},
    sync::{Semaphore, watch},
    time::timeout,
};

use super::{
    client::Client,
    head_timer::HeadTimer,
    listener::Listeners,
    log::complain,
    metrics::METER,
    refusal,
    service::Service,
    socket::{Socket, linger},
};
use crate::signals::catch;

/// Concurrent requests on one HTTP/2 connection.
const MAX_STREAMS: u32 = 100;
/// hyper's own limit of a request's fields over HTTP/1.
const HYPER_FIELDS: usize = 100;
/// How long a closing connection without an active request waits for one that may be on its way.
const GRACE: Duration = Duration::from_secs(1);

pub(super) struct Limits {
    pub(super) clients: usize,
    /// The largest head of a request, in bytes; at least 8,192.
    pub(super) max_head: usize,
    /// The most fields of a request.
    pub(super) max_fields: usize,
    pub(super) client_timeout: Duration,
    pub(super) shutdown_timeout: Duration,
}

/// The signals that end the gateway: SIGTERM and SIGINT, and SIGHUP if its terminal has gone.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` if whoever started the gateway has seen to it that SIGHUP is ignored, as nohup does.
    hangup: Option<Signal>,
    has_terminal: bool,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hangup: (!ignores_hangup()).then(|| catch(SignalKind::hangup())).transpose()?,
            has_terminal: has_terminal(),
        })
    }

    /// Waits for the next one. SIGHUP alone means nothing here: other servers read their
    /// configuration again, and of that there is none.
    pub(super) async fn next(&mut self) {
        loop {
            let hangup = async {
                match &mut self.hangup {
                    Some(hangup) => hangup.recv().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = hangup => {}
            }
            if self.has_terminal && !has_terminal() {
                return;
            }
            complain(
                "SIGHUP is ignored: there is no configuration to read again; SIGTERM ends this",
            );
        }
    }
}

/// Whether this process can be controlled from a terminal.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Whether SIGHUP was ignored when this process started.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The lowest bit is that of signal 1.
    ignored.is_some_and(|mask| mask & 1 != 0)
}

/// Serves until a signal comes, and then lets active requests finish.
///
/// # Errors
/// A listening socket has become unusable. Active requests have finished then, too.
pub(super) async fn serve(
    mut listeners: Listeners,
    service: Arc<Service>,
    limits: &Limits,
    signals: &mut Signals,
) -> Result<(), Error> {
    let slots = Arc::new(Semaphore::new(limits.clients.min(Semaphore::MAX_PERMITS)));
    let builder = builder(limits);
    let (stop, stopped) = watch::channel(());
    let accepting = async {
        loop {
            // Nobody closes the semaphore.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return Ok(()) };
            let client = Arc::new(listeners.accept().await?);
            METER.connected();
            let (mut builder, service) = (builder.clone(), Arc::clone(&service));
            builder.http1().timer(HeadTimer::default());
            let (stopped, limit) = (stopped.clone(), limits.client_timeout);
            tokio::spawn(async move {
                attend(builder, client, service, stopped, limit).await;
                METER.disconnected();
                drop(slot);
            });
        }
    };
    let served = tokio::select! {
        served = accepting => served,
        () = signals.next() => Ok(()),
    };
    // Nobody can connect any more.
    drop((listeners, stopped));
    // The connections hold the other ends.
    let finished = async {
        let _ = stop.send(());
        stop.closed().await;
    };
    tokio::select! {
        () = signals.next() => {}
        finished = timeout(limits.shutdown_timeout, finished) => {
            if finished.is_err() {
                let limit = limits.shutdown_timeout;
                complain(&format!("requests cut off, not finished within {limit:?}"));
            }
        }
    }
    served
}

/// Serves one client until it leaves, has sent no request for `limit`, or the gateway stops.
async fn attend(
    builder: auto::Builder<TokioExecutor>,
    client: Arc<Client>,
    service: Arc<Service>,
    mut stopped: watch::Receiver<()>,
    limit: Duration,
) {
    let socket = Socket::new(Arc::clone(&client), limit);
    let connection = builder.serve_connection(
        TokioIo::new(socket),
        service_fn(|request| {
            let (service, client) = (Arc::clone(&service), Arc::clone(&client));
            async move { Ok::<_, Infallible>(service.call(request, client).await) }
        }),
    );
    let mut connection = pin!(connection);
    let mut closing = false;
    loop {
        tokio::select! {
            // Polls the connection first: a request in time is seen, however late this runs.
            biased;
            // The client has gone away, or did not speak HTTP.
            ended = connection.as_mut() => {
                client.sending.close();
                if let (Err(error), Some(status)) = (ended, client.refused()) {
                    service.refuse(&client, status, refusal::reason(&*error)).await;
                }
                return linger(&client).await;
            }
            () = client.silent_for(GRACE), if closing => return,
            _ = stopped.changed(), if !closing => {}
            // hyper waits for ever for a connection's first bytes, and for HTTP/2's next request.
            () = client.idle_for(limit), if !closing => {}
        }
        closing = true;
        connection.as_mut().graceful_shutdown();
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let &Limits { client_timeout, max_head, max_fields, .. } = limits;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .header_read_timeout(client_timeout)
        // Only the gateway's own answers have a Date; hyper's have none.
        .auto_date_header(false)
        // Slices are written as they are, since one may be a file's marker.
        .writev(true)
        .max_buf_size(max_head);
    // The same limit, if it is set, makes hyper clear its tables for each request.
    if max_fields != HYPER_FIELDS {
        builder.http1().max_headers(max_fields);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(client_timeout)
        .keep_alive_timeout(client_timeout)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(max_head).unwrap_or(u32::MAX));
    builder
}
