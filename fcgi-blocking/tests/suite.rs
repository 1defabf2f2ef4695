//! The suite that every adapter passes, on threads.

use std::{
    io,
    process::ExitCode,
    sync::{Arc, atomic::Ordering, mpsc},
    thread,
    time::Duration,
};

use bytes::Bytes;
use fcgi::{
    Address, Error, Listener, Request, Server, Shutdown, Values,
    client::{Body, Chunk, Client, Collected, Connector, Response},
    pool::{Pool, PoolStats},
};
use fcgi_blocking as fcgi;
use fcgi_engine::{client, pool, server};
use fcgi_proto::Input;
use fcgi_testkit::suite::{
    self, Adapter, CancelPoint, Event, Progress, Script, Serving, Step, TestBody, TestClient,
    TestPool, TestRequest, TestResponse,
};

fn main() -> ExitCode {
    suite::run(Blocking)
}

struct Blocking;

impl Adapter for Blocking {
    fn package(&self) -> &'static str {
        "fcgi-blocking"
    }

    fn is_async(&self) -> bool {
        false
    }

    fn fewest_threads(&self) -> u64 {
        // The one for handlers, the one that polls, and two that wait: for signals, for the end.
        4
    }

    fn serve(
        &self,
        listener: Listener,
        settings: server::Settings,
        script: Script,
    ) -> Box<dyn Serving> {
        let address = listener.local_addr().clone();
        let (shutdown, script) = (Shutdown::new(), Arc::new(script));
        let (done, result) = mpsc::channel();
        let stop = shutdown.clone();
        thread::spawn(move || {
            let handler = move |request: Request| handle(&request, &script);
            let serve = server(settings).serve(listener, handler);
            // A test that is over does not ask.
            let _ = done.send(serve.with_graceful_shutdown(stop).run());
        });
        Box::new(BlockingServing { address, shutdown, result })
    }

    fn connect(
        &self,
        address: &Address,
        settings: client::Settings,
    ) -> Result<Box<dyn TestClient>, Error> {
        Ok(Box::new(BlockingClient(connector(settings).connect(address)?)))
    }

    fn pool(
        &self,
        address: &Address,
        connection: client::Settings,
        settings: pool::Settings,
    ) -> Box<dyn TestPool> {
        let limits = settings.limits;
        let pool = Pool::builder(address.clone())
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
        Box::new(BlockingPool(pool))
    }

    fn query_values(&self, address: &Address, settings: client::Settings) -> Result<Values, Error> {
        connector(settings).query_values(address)
    }
}

fn server(settings: server::Settings) -> Server {
    Server::new()
        .threads(32)
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

fn connector(settings: client::Settings) -> Connector {
    Connector::new()
        .limits(settings.limits)
        .connect_timeout(settings.connect)
        .first_byte_timeout(settings.first_byte)
        .next_byte_timeout(settings.next_byte)
        .total_timeout(settings.total)
        .drain_timeout(settings.drain)
        .values_timeout(settings.values)
}

struct BlockingServing {
    address: Address,
    shutdown: Shutdown,
    result: mpsc::Receiver<Result<(), Error>>,
}

impl Serving for BlockingServing {
    fn address(&self) -> &Address {
        &self.address
    }

    fn stop(&mut self) {
        self.shutdown.trigger();
    }

    fn abandon(&mut self) {
        // Nobody can drop what runs on a thread.
        self.shutdown.trigger();
    }

    fn ended(&mut self, within: Duration) -> Option<Result<(), Error>> {
        self.result.recv_timeout(within).ok()
    }
}

impl Drop for BlockingServing {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

fn handle(request: &Request, script: &Script) -> Result<u32, Error> {
    let _ended = script.probe().begin();
    let mut status = 0;
    for step in script.steps(request.params()) {
        perform(request, step, script, &mut status)?;
    }
    Ok(status)
}

fn perform(request: &Request, step: &Step, script: &Script, status: &mut u32) -> Result<(), Error> {
    let mut stdout = request.stdout();
    match step {
        Step::Stdout(bytes) => stdout.write_chunk(bytes.clone())?,
        Step::Stderr(bytes) => request.stderr().write_all(bytes.clone())?,
        Step::Param(name) => stdout.write_all(request.param(name).unwrap_or_default())?,
        Step::Describe => {
            let text = Script::describe(request.role(), request.keep_conn(), request.params());
            stdout.write_all(text)?;
        }
        Step::Flush => stdout.flush()?,
        Step::Stdin => {
            let mut stdin = request.stdin();
            while let Some(chunk) = stdin.chunk()? {
                stdout.write_chunk(chunk)?;
            }
        }
        Step::Data => {
            let mut data = request.data();
            while let Some(chunk) = data.chunk()? {
                stdout.write_chunk(chunk)?;
            }
        }
        Step::Handles(input, sizes) => {
            for size in sizes.iter().cycle() {
                let mut handle = match input {
                    Input::Stdin => request.stdin(),
                    Input::Data => request.data(),
                };
                let piece = match size {
                    0 => handle.chunk()?.unwrap_or_default(),
                    size => read(&mut handle, *size)?,
                };
                if piece.is_empty() {
                    break;
                }
                stdout.write_all(piece)?;
            }
        }
        Step::Count(limit) => {
            *status = match request.stdin().read_to_end(*limit) {
                Err(Error::InputTooLarge { limit: told }) if told == *limit => 99,
                body => body?.len() as u32,
            };
        }
        Step::Flood(chunk, times, counter) => {
            for _ in 0..*times {
                stdout.write_chunk(chunk.clone())?;
                counter.fetch_add(chunk.len(), Ordering::SeqCst);
            }
        }
        Step::Pass(gate) => {
            stdout.flush()?;
            gate.wait();
        }
        Step::Stuck => return Err(Error::Aborted(request.cancelled())),
        Step::Cancelled => {
            let reason = request.cancelled();
            script.probe().note(Event::Cancelled(reason));
        }
        Step::TryStreams => {
            let (read, wrote) = (request.stdin().chunk(), stdout.write_all("x"));
            for error in [read.err(), wrote.err()].into_iter().flatten() {
                script.probe().note(Event::Failed(error.to_string()));
            }
        }
        Step::Yield => thread::yield_now(),
        Step::Fail => return Err(Error::InputTooLarge { limit: 0 }),
        Step::Panic => panic!("as the test asked"),
        Step::Reject(rejection) => request.reject(*rejection),
        Step::Exit(exit) => *status = *exit,
    }
    Ok(())
}

/// One read by way of `Read`.
fn read(stream: &mut impl io::Read, size: usize) -> Result<Bytes, Error> {
    let mut buffer = vec![0; size];
    let n = stream.read(&mut buffer);
    buffer.truncate(n.map_err(|source| Error::Body { address: "peer".into(), source })?);
    Ok(buffer.into())
}

struct BlockingClient(Client);

fn body(body: TestBody) -> Body {
    match body {
        TestBody::Empty => Body::empty(),
        TestBody::Bytes(bytes) => bytes.into(),
        TestBody::Feed(feed) => Body::from_reader(feed),
    }
}

fn convert(request: TestRequest) -> fcgi::client::Request {
    let (begin, [stdin, data]) = request.into_parts();
    client::Request::from_parts(begin, [body(stdin), body(data)])
}

impl TestClient for BlockingClient {
    fn send<'a>(&'a mut self, request: TestRequest) -> Result<Box<dyn TestResponse + 'a>, Error> {
        Ok(Box::new(BlockingResponse(self.0.send(convert(request))?)))
    }

    fn send_and_cancel(
        &mut self,
        request: TestRequest,
        point: CancelPoint,
    ) -> Result<Progress, Error> {
        let cancel = self.0.cancel_handle();
        let units = point.sending + point.chunks * point.reading;
        let canceller = thread::spawn(move || {
            thread::sleep(Duration::from_micros(30) * units);
            cancel.cancel();
        });
        let progress = self.send_until_cancelled(request, point.chunks);
        canceller
            .join()
            .map_err(|_| Error::Closed { address: self.0.address().to_string().into() })?;
        match progress {
            Err(Error::Cancelled { .. }) => Ok(Progress::Cancelled),
            progress => progress,
        }
    }

    fn is_reusable(&self) -> bool {
        self.0.is_reusable()
    }
}

struct BlockingPool(Pool);

impl TestPool for BlockingPool {
    fn send(&self, request: TestRequest) -> Result<Box<dyn TestResponse>, Error> {
        Ok(Box::new(PoolResponse(self.0.send(convert(request))?)))
    }

    fn values(&self) -> Result<Values, Error> {
        self.0.values()
    }

    fn stats(&self) -> PoolStats {
        self.0.stats()
    }

    fn close(&self) {
        self.0.close();
    }
}

struct PoolResponse(fcgi::pool::Response);

impl TestResponse for PoolResponse {
    fn chunk(&mut self) -> Result<Option<Chunk>, Error> {
        self.0.chunk()
    }

    fn app_status(&self) -> Option<u32> {
        self.0.app_status()
    }

    fn collect(self: Box<Self>, limit: usize) -> Result<Collected, Error> {
        self.0.collect(limit)
    }

    fn detach(self: Box<Self>) {
        self.0.detach();
    }
}

impl BlockingClient {
    fn send_until_cancelled(
        &mut self,
        request: TestRequest,
        chunks: u32,
    ) -> Result<Progress, Error> {
        let mut response = self.0.send(convert(request))?;
        for _ in 0..chunks {
            if response.chunk()?.is_none() {
                return Ok(Progress::Finished);
            }
        }
        Ok(Progress::Cancelled)
    }
}

struct BlockingResponse<'a>(Response<'a>);

impl TestResponse for BlockingResponse<'_> {
    fn chunk(&mut self) -> Result<Option<Chunk>, Error> {
        self.0.chunk()
    }

    fn app_status(&self) -> Option<u32> {
        self.0.app_status()
    }

    fn collect(self: Box<Self>, limit: usize) -> Result<Collected, Error> {
        self.0.collect(limit)
    }

    fn detach(self: Box<Self>) {
        self.0.detach();
    }
}
