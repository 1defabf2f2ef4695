//! Wakers and subscribers are code of others, and may use the connection that wakes or logs. So
//! neither is called under a lock. If one were, these tests would not end.

#[path = "support/mod.rs"]
mod support;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};

use fcgi_driver::{
    Error,
    runtime::Runtime,
    server::{self, Server},
};
use fcgi_proto::{RequestKey, ServerConfig, Values};
use fcgi_testkit::sim::{self, Sim};
use support::{Peer, address, builder, numbered, serve};
use tracing::{Metadata, Subscriber, span};

/// Code of somebody else's, which is run once.
type Code = Mutex<Option<Box<dyn FnOnce() + Send>>>;

fn run(code: &Code) {
    let code = code.lock().unwrap().take();
    if let Some(code) = code {
        code();
    }
}

/// Runs code before it wakes.
struct First(Code, Waker);

impl Wake for First {
    fn wake(self: Arc<Self>) {
        run(&self.0);
        self.1.wake_by_ref();
    }
}

/// Polls a future with a waker that first runs `code`.
async fn polled_with<F: Future>(future: F, code: impl FnOnce() + Send + 'static) -> F::Output {
    let (mut future, mut code) = (pin!(future), Some(code));
    poll_fn(|cx| {
        let Some(code) = code.take() else { return future.as_mut().poll(cx) };
        let code: Code = Mutex::new(Some(Box::new(code)));
        let waker = Arc::new(First(code, cx.waker().clone())).into();
        future.as_mut().poll(&mut Context::from_waker(&waker))
    })
    .await
}

/// Runs a test that would not end.
fn ends(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let test = thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    if ended.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("it waits for itself");
    }
    test.join().unwrap();
}

/// An application that multiplexes: takes the question for that, and then two requests, which it
/// begins to answer.
async fn two_requests(backlog: &mut sim::Backlog) -> (Peer, [RequestKey; 2]) {
    let values = Values { mpxs_conns: Some(true), ..Values::default() };
    let config = || ServerConfig { values, ..ServerConfig::default() };
    let mut asked = Peer::new(backlog.accept().await, config());
    assert!(asked.event().await.is_none());
    let mut peer = Peer::new(backlog.accept().await, config());
    let mut keys = Vec::new();
    for n in ["1", "2"] {
        let (key, params) = peer.request().await.unwrap();
        assert_eq!(params.get_str("N"), Some(n));
        peer.write(key, "part");
        peer.send().await;
        keys.push(key);
    }
    (peer, [keys[0], keys[1]])
}

#[test]
fn a_waker_may_drop_a_response_of_the_same_connection() {
    ends(|| {
        sim::run(1, async {
            let mut backlog = sim::backlog(&address());
            sim::spawn(async move {
                let (mut peer, [first, second]) = two_requests(&mut backlog).await;
                sim::sleep(support::ms(10)).await;
                peer.write(first, "more");
                peer.send().await;
                assert_eq!(peer.abort().await, second);
                peer.finish(first);
                peer.send().await;
                std::future::pending::<()>().await;
            });
            let pool = builder().max_connections(1).multiplex(8).build().unwrap();
            let mut first = pool.send(numbered(1)).await.unwrap();
            let second = pool.send(numbered(2)).await.unwrap();
            first.chunk().await.unwrap();
            let chunk = polled_with(first.chunk(), move || drop(second)).await.unwrap();
            assert!(chunk.is_some());
            assert_eq!(first.chunk().await.unwrap(), None);
        });
    });
}

#[test]
fn a_waker_may_use_the_streams_of_its_request() {
    ends(|| {
        sim::run(1, async {
            serve(Server::new(), |request: server::Request| async move {
                let mut stdout = request.stdout();
                let writes = move || {
                    let mut cx = Context::from_waker(Waker::noop());
                    let mut writes = pin!(stdout.write_all("from a waker"));
                    assert!(writes.as_mut().poll(&mut cx).is_ready());
                };
                polled_with(request.stdin().chunk(), writes).await?;
                Ok::<_, Error>(())
            });
            let mut web = Sim::connect(&address()).await.unwrap();
            let begin = [1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            web.write_all(&[&begin[..], &[1, 4, 0, 1, 0, 0, 0, 0]].concat()).await.unwrap();
            sim::sleep(support::ms(10)).await;
            web.write_all(&[1, 5, 0, 1, 0, 0, 0, 0]).await.unwrap();
            let mut came = Vec::new();
            while let read @ [_, ..] = &web.read().await.unwrap()[..] {
                came.extend_from_slice(read);
            }
            assert!(came.windows(12).any(|bytes| bytes == b"from a waker"), "{came:?}");
        });
    });
}

/// Runs code at an event.
struct AtEvent(Arc<Code>, AtomicUsize);

impl Subscriber for AtEvent {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1 + self.1.fetch_add(1, Ordering::Relaxed) as u64)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = String::new();
        event.record(&mut |_: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            text += &format!("{value:?}");
        });
        if text.contains("application takes no more") {
            run(&self.0);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn a_subscriber_may_drop_a_response_of_the_same_connection() {
    ends(|| {
        let code: Arc<Code> = Arc::default();
        let subscriber = AtEvent(Arc::clone(&code), AtomicUsize::new(0));
        // For all threads: whoever listens on one misses what another has passed first.
        tracing::subscriber::set_global_default(subscriber).unwrap();
        sim::run(1, async {
            let mut backlog = sim::backlog(&address());
            sim::spawn(async move {
                let (peer, _) = two_requests(&mut backlog).await;
                // The client fills the socket meanwhile.
                sim::sleep(support::ms(10)).await;
                drop(peer);
            });
            let pool = builder().max_connections(1).multiplex(8).build().unwrap();
            let small = pool.send(numbered(1)).await.unwrap();
            let large = numbered(2).stdin(vec![0; 8 << 20]);
            let mut large = pool.send(large).await.unwrap();
            *code.lock().unwrap() = Some(Box::new(move || drop(small)));
            while let Ok(Some(_)) = large.chunk().await {}
            assert!(code.lock().unwrap().is_none(), "it was logged, and the code was run");
        });
    });
}
