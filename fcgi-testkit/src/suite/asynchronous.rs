//! All async adapters: the driver is the same, only the runtime differs.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering, mpsc},
    task::{Context, Poll, Waker},
    time::Duration,
};

use fcgi_driver::{
    client::{Body, Client, Connector, Response},
    pool::Pool,
    runtime::Runtime,
    server::{Request, Server},
};
use fcgi_engine::{
    Address, Error, Listener, client,
    client::{Chunk, Collected},
    pool, server,
};
use fcgi_proto::{Input, Values, pool::PoolStats};

use bytes::Bytes;
use futures_io::AsyncRead;

use super::{
    Adapter, CancelPoint, Event, Gate, Progress, Script, Serving, Step, TestBody, TestClient,
    TestPool, TestRequest, TestResponse,
};

/// What the suite needs to know of an async adapter.
pub trait AsyncAdapter: Send + Sync + 'static {
    /// Its runtime.
    type Runtime: Runtime;

    /// The package whose examples the suite builds and runs.
    const PACKAGE: &'static str;

    /// The threads of `hello` with `FCGI_THREADS=1`, including those of the runtime.
    const FEWEST_THREADS: u64;

    /// Runs a future to its end on the calling thread. Tasks that it spawns, and sockets that it
    /// creates, must outlive the call.
    fn block_on<F: Future>(future: F) -> F::Output;
}

/// An async adapter under test.
#[derive(Clone, Copy, Debug)]
pub struct Async<A>(pub A);

impl<A: AsyncAdapter> Adapter for Async<A> {
    fn package(&self) -> &'static str {
        A::PACKAGE
    }

    fn is_async(&self) -> bool {
        true
    }

    fn fewest_threads(&self) -> u64 {
        A::FEWEST_THREADS
    }

    fn serve(
        &self,
        listener: Listener,
        settings: server::Settings,
        script: Script,
    ) -> Box<dyn Serving> {
        let address = listener.local_addr().clone();
        let (done, result) = mpsc::channel();
        let (stop, abandon) = (Gate::default(), Gate::default());
        let gates = (stop.clone(), abandon.clone());
        std::thread::spawn(move || {
            let (stop, abandon) = gates;
            let result = A::block_on(async {
                let mut serve = server::<A::Runtime>(settings)
                    .serve(listener, handler(Arc::new(script)))
                    .with_graceful_shutdown(async move { stop.pass().await });
                poll_fn(|cx| match abandon.poll_pass(cx) {
                    Poll::Ready(()) => Poll::Ready(Ok(())),
                    Poll::Pending => Pin::new(&mut serve).poll(cx),
                })
                .await
            });
            // A test that is over does not ask.
            let _ = done.send(result);
        });
        Box::new(AsyncServing { address, stop, abandon, result })
    }

    fn connect(
        &self,
        address: &Address,
        settings: client::Settings,
    ) -> Result<Box<dyn TestClient>, Error> {
        let client = A::block_on(connector::<A::Runtime>(settings).connect(address))?;
        Ok(Box::new(AsyncClient::<A>(client)))
    }

    fn pool(
        &self,
        address: &Address,
        connection: client::Settings,
        settings: pool::Settings,
    ) -> Box<dyn TestPool> {
        let limits = settings.limits;
        let pool = Pool::<A::Runtime>::builder(address.clone())
            .connector(connector(connection))
            .max_connections(limits.connections)
            .max_idle(limits.idle)
            .idle_timeout(limits.idle_timeout)
            .max_requests_per_connection(limits.requests_per_connection)
            .max_age(limits.age)
            .max_waiting(limits.waiting)
            .wait_timeout(limits.wait_timeout)
            .multiplex(settings.multiplex)
            .keep_conn(settings.keep_conn)
            .build()
            .unwrap();
        Box::new(AsyncPool::<A>(pool))
    }

    fn query_values(&self, address: &Address, settings: client::Settings) -> Result<Values, Error> {
        A::block_on(connector::<A::Runtime>(settings).query_values(address))
    }
}

fn server<R: Runtime>(settings: server::Settings) -> Server<R> {
    Server::new()
        .roles(settings.config.roles)
        .limits(settings.config.limits)
        .rejection_body(settings.config.rejection_body)
        .failure_body(settings.config.failure_body)
        .max_connections(settings.max_connections)
        .max_requests(settings.max_requests)
        .web_server_addrs(settings.web_server_addrs)
        .cancel_on_disconnect(settings.cancel_on_disconnect)
        .abort_grace(settings.abort_grace)
        .handler_timeout(settings.handler)
        .first_record_timeout(settings.first_record)
        .params_timeout(settings.params)
        .stdin_timeout(settings.stdin)
        .end_of_file(settings.end_of_file)
        .idle_timeout(settings.idle)
        .write_timeout(settings.write_stall)
        .shutdown_timeout(settings.shutdown)
        .shutdown_grace(settings.shutdown_grace)
}

fn connector<R: Runtime>(settings: client::Settings) -> Connector<R> {
    Connector::new()
        .limits(settings.limits)
        .connect_timeout(settings.connect)
        .first_byte_timeout(settings.first_byte)
        .next_byte_timeout(settings.next_byte)
        .total_timeout(settings.total)
        .drain_timeout(settings.drain)
        .values_timeout(settings.values)
}

struct AsyncServing {
    address: Address,
    stop: Gate,
    abandon: Gate,
    result: mpsc::Receiver<Result<(), Error>>,
}

impl Serving for AsyncServing {
    fn address(&self) -> &Address {
        &self.address
    }

    fn stop(&mut self) {
        self.stop.open();
    }

    fn abandon(&mut self) {
        self.abandon.open();
    }

    fn ended(&mut self, within: Duration) -> Option<Result<(), Error>> {
        self.result.recv_timeout(within).ok()
    }
}

impl Drop for AsyncServing {
    fn drop(&mut self) {
        self.abandon.open();
    }
}

fn handler(
    script: Arc<Script>,
) -> impl Fn(Request) -> Pin<Box<dyn Future<Output = Result<u32, Error>> + Send>> + Send + Sync + 'static
{
    move |request| {
        let script = Arc::clone(&script);
        Box::pin(async move {
            let _ended = script.probe().begin();
            let mut status = 0;
            for step in script.steps(request.params()) {
                perform(&request, step, &script, &mut status).await?;
            }
            Ok(status)
        })
    }
}

async fn perform(
    request: &Request,
    step: &Step,
    script: &Script,
    status: &mut u32,
) -> Result<(), Error> {
    let mut stdout = request.stdout();
    match step {
        Step::Stdout(bytes) => stdout.write_chunk(bytes.clone()).await?,
        Step::Stderr(bytes) => request.stderr().write_all(bytes.clone()).await?,
        Step::Param(name) => {
            stdout.write_all(request.param(name).unwrap_or_default()).await?;
        }
        Step::Describe => {
            let text = Script::describe(request.role(), request.keep_conn(), request.params());
            stdout.write_all(text).await?;
        }
        Step::Flush => stdout.flush().await?,
        Step::Stdin => {
            let mut stdin = request.stdin();
            while let Some(chunk) = stdin.chunk().await? {
                stdout.write_chunk(chunk).await?;
            }
        }
        Step::Data => {
            let mut data = request.data();
            while let Some(chunk) = data.chunk().await? {
                stdout.write_chunk(chunk).await?;
            }
        }
        Step::Handles(input, sizes) => {
            for size in sizes.iter().cycle() {
                let mut handle = match input {
                    Input::Stdin => request.stdin(),
                    Input::Data => request.data(),
                };
                let piece = match size {
                    0 => handle.chunk().await?.unwrap_or_default(),
                    size => read(&mut handle, *size).await?,
                };
                if piece.is_empty() {
                    break;
                }
                stdout.write_all(piece).await?;
            }
        }
        Step::Count(limit) => {
            *status = match request.stdin().read_to_end(*limit).await {
                Err(Error::InputTooLarge { limit: told }) if told == *limit => 99,
                body => body?.len() as u32,
            };
        }
        Step::Flood(chunk, times, counter) => {
            for _ in 0..*times {
                stdout.write_chunk(chunk.clone()).await?;
                counter.fetch_add(chunk.len(), Ordering::SeqCst);
            }
        }
        Step::Pass(gate) => gate.pass().await,
        Step::Stuck => std::future::pending().await,
        Step::Cancelled => {
            let reason = request.cancelled().await;
            script.probe().note(Event::Cancelled(reason));
        }
        Step::TryStreams => {
            let (read, wrote) = (request.stdin().chunk().await, stdout.write_all("x").await);
            for error in [read.err(), wrote.err()].into_iter().flatten() {
                script.probe().note(Event::Failed(error.to_string()));
            }
        }
        Step::Yield => yield_now().await,
        Step::Fail => return Err(Error::InputTooLarge { limit: 0 }),
        Step::Panic => panic!("as the test asked"),
        Step::Reject(rejection) => request.reject(*rejection),
        Step::Exit(exit) => *status = *exit,
    }
    Ok(())
}

/// One read through `AsyncRead`.
async fn read(mut stream: impl AsyncRead + Unpin, size: usize) -> Result<Bytes, Error> {
    let mut buffer = vec![0; size];
    let n = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut buffer)).await;
    buffer.truncate(n.map_err(|source| Error::Body { address: "peer".into(), source })?);
    Ok(buffer.into())
}

async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

struct AsyncClient<A: AsyncAdapter>(Client<A::Runtime>);

fn body(body: TestBody) -> Body {
    match body {
        TestBody::Empty => Body::empty(),
        TestBody::Bytes(bytes) => bytes.into(),
        TestBody::Feed(feed) => Body::from_stream(feed),
    }
}

fn convert(request: TestRequest) -> fcgi_driver::client::Request {
    let (begin, [stdin, data]) = request.into_parts();
    client::Request::from_parts(begin, [body(stdin), body(data)])
}

impl<A: AsyncAdapter> TestClient for AsyncClient<A> {
    fn send<'a>(&'a mut self, request: TestRequest) -> Result<Box<dyn TestResponse + 'a>, Error> {
        let response = A::block_on(self.0.send(convert(request)))?;
        Ok(Box::new(AsyncResponse::<A>(response)))
    }

    fn send_and_cancel(
        &mut self,
        request: TestRequest,
        point: CancelPoint,
    ) -> Result<Progress, Error> {
        A::block_on(async {
            let sending = poll_some(self.0.send(convert(request)), point.sending).await;
            let Some(response) = sending else { return Ok(Progress::Cancelled) };
            let mut response = response?;
            for _ in 0..point.chunks {
                if let Some(None) = poll_some(response.chunk(), point.reading).await.transpose()? {
                    return Ok(Progress::Finished);
                }
            }
            Ok(Progress::Cancelled)
        })
    }

    fn is_reusable(&self) -> bool {
        self.0.is_reusable()
    }
}

struct AsyncPool<A: AsyncAdapter>(Pool<A::Runtime>);

impl<A: AsyncAdapter> TestPool for AsyncPool<A> {
    fn send(&self, request: TestRequest) -> Result<Box<dyn TestResponse>, Error> {
        let response = A::block_on(self.0.send(convert(request)))?;
        Ok(Box::new(PoolResponse::<A>(Some(response))))
    }

    fn values(&self) -> Result<Values, Error> {
        A::block_on(self.0.values())
    }

    fn stats(&self) -> PoolStats {
        self.0.stats()
    }

    fn close(&self) {
        self.0.close();
    }
}

/// Dropped inside the runtime, like an application's.
struct PoolResponse<A: AsyncAdapter>(Option<fcgi_driver::pool::Response<A::Runtime>>);

impl<A: AsyncAdapter> TestResponse for PoolResponse<A> {
    fn chunk(&mut self) -> Result<Option<Chunk>, Error> {
        match &mut self.0 {
            Some(response) => A::block_on(response.chunk()),
            None => Ok(None),
        }
    }

    fn app_status(&self) -> Option<u32> {
        self.0.as_ref()?.app_status()
    }

    fn collect(mut self: Box<Self>, limit: usize) -> Result<Collected, Error> {
        match self.0.take() {
            Some(response) => A::block_on(response.collect(limit)),
            None => Ok(Collected::default()),
        }
    }

    fn detach(mut self: Box<Self>) {
        if let Some(response) = self.0.take() {
            A::block_on(async { response.detach() });
        }
    }
}

impl<A: AsyncAdapter> Drop for PoolResponse<A> {
    fn drop(&mut self) {
        let response = self.0.take();
        A::block_on(async { drop(response) });
    }
}

/// Polls up to `polls` times, letting everything else run in between, then drops the future.
async fn poll_some<F: Future>(future: F, polls: u32) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(output);
        }
        std::thread::sleep(Duration::from_micros(30));
        yield_now().await;
    }
    None
}

struct AsyncResponse<'a, A: AsyncAdapter>(Response<'a, A::Runtime>);

impl<A: AsyncAdapter> TestResponse for AsyncResponse<'_, A> {
    fn chunk(&mut self) -> Result<Option<Chunk>, Error> {
        A::block_on(self.0.chunk())
    }

    fn app_status(&self) -> Option<u32> {
        self.0.app_status()
    }

    fn collect(self: Box<Self>, limit: usize) -> Result<Collected, Error> {
        A::block_on(self.0.collect(limit))
    }

    fn detach(self: Box<Self>) {
        A::block_on(async { self.0.detach() });
    }
}
