//! Our client calls php-fpm, over both kinds of socket.

use std::{
    collections::HashSet,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use fcgi_testkit::{
    harness::{Case, Failed},
    peers::{Peer, PhpFpm, PhpFpmOptions},
};
use fcgi_tokio::{
    self as fcgi,
    client::{Body, Chunk, Client, Collected, Connector, Request},
};
use futures_core::Stream;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    relay::Relay,
    support::{Kind, LIMIT, MOST, Outcome, block_on, body, call, pattern_bytes, text},
};

const UPLOAD: usize = 5 << 20;

pub(crate) fn cases() -> Vec<Case> {
    let cases = Kind::ALL.map(|kind| {
        [
            case(kind, "get_q3", get),
            case(kind, "post_5_mb_q15", post_5_mb),
            case(kind, "ping_and_status", ping_and_status),
            case(kind, "error_page_with_stderr", error_page),
            case(kind, "exit_status_stays_0", exit_status),
            case(kind, "100_requests_on_one_connection_q2", keep_conn),
            case(kind, "abort_of_a_silent_script_h11_q6", abort_silent),
            case(kind, "abort_of_a_printing_script_h11", abort_printing),
            case(kind, "unknown_role_q8", unknown_role),
            case(kind, "values_q7", values),
            case(kind, "params_over_64_kib_q1", long_params),
            case_with(kind, "a_pool_of_2_and_a_third_caller_q5", 2, pool_and_a_third),
            case(kind, "a_pool_after_an_abort_h11_q10", pool_after_aborts),
            case_with(kind, "a_script_that_goes_on_delays_nobody_q16", 2, script_goes_on),
            case_with(kind, "a_script_calls_its_own_site_q16", 2, own_site),
            case_of(kind, "workers_that_leave_lose_nothing_q17", leaving(), workers_leave),
        ]
    });
    cases.into_iter().flatten().collect()
}

/// A php-fpm, and the pool of it that a case calls.
struct Php {
    fpm: PhpFpm,
    address: fcgi::Address,
}

impl Php {
    fn start(kind: Kind, options: PhpFpmOptions) -> Result<Self, Failed> {
        let fpm = PhpFpm::start(options)?;
        let address = match kind {
            Kind::Unix => fpm.unix_address(),
            Kind::Tcp => fpm.tcp_address(),
        };
        Ok(Self { address: address.parse()?, fpm })
    }

    fn request(&self, script: &str) -> Request {
        Request::responder()
            .param("SCRIPT_FILENAME", self.fpm.script(script).as_os_str().as_encoded_bytes())
            .param("SCRIPT_NAME", format!("/{script}"))
    }

    fn get(&self, script: &str, query: &str) -> Request {
        self.request(script).param("REQUEST_METHOD", "GET").param("QUERY_STRING", query)
    }

    async fn connect(&self) -> Result<Client, fcgi::Error> {
        Client::connect(&self.address).await
    }
}

fn case(kind: Kind, name: &str, run: impl AsyncFnOnce(&Php) -> Outcome + Send + 'static) -> Case {
    case_with(kind, name, 4, run)
}

/// A case with so many worker processes.
fn case_with(
    kind: Kind,
    name: &str,
    children: usize,
    run: impl AsyncFnOnce(&Php) -> Outcome + Send + 'static,
) -> Case {
    case_of(kind, name, PhpFpmOptions::default().children(children), run)
}

fn case_of(
    kind: Kind,
    name: &str,
    options: PhpFpmOptions,
    run: impl AsyncFnOnce(&Php) -> Outcome + Send + 'static,
) -> Case {
    Case::new(format!("php_fpm_{kind}_{name}"), move || {
        let php = Php::start(kind, options)?;
        block_on(run(&php)).map_err(|failed| {
            let reason = failed.message().unwrap_or("failed");
            format!("{reason}; php-fpm's log:\n{}", php.fpm.log()).into()
        })
    })
    .needs(&[Peer::PhpFpm])
}

#[track_caller]
fn assert_hello(answer: &Collected) {
    assert_eq!(text(body(&answer.stdout)), "Hello, world\n");
    assert_eq!((text(&answer.stderr).as_str(), answer.app_status), ("", 0));
}

async fn get(php: &Php) -> Outcome {
    assert_hello(&call(&php.address, php.get("hello.php", "")).await?);
    assert_hello(&call(&php.address, php.get("hello.php", "").keep_conn(false)).await?);
    Ok(())
}

async fn post_5_mb(php: &Php) -> Outcome {
    let sent = pattern_bytes(UPLOAD);
    let request = php
        .request("echo.php")
        .param("REQUEST_METHOD", "POST")
        .param("CONTENT_TYPE", "application/octet-stream")
        .param("CONTENT_LENGTH", UPLOAD.to_string())
        .stdin(sent.clone());
    let answer = call(&php.address, request).await?;
    let echoed = body(&answer.stdout);
    assert_eq!(echoed.len(), sent.len());
    assert!(echoed == sent, "the echo differs from what was sent");
    Ok(())
}

async fn ping_and_status(php: &Php) -> Outcome {
    let page = |path: &str| {
        Request::responder()
            .param("SCRIPT_FILENAME", path)
            .param("SCRIPT_NAME", path)
            .param("REQUEST_METHOD", "GET")
    };
    let ping = call(&php.address, page("/ping")).await?;
    assert_eq!(text(body(&ping.stdout)), "pong");
    let status = call(&php.address, page("/status")).await?;
    let status = text(body(&status.stdout));
    assert!(status.contains("process manager:"), "{status}");
    Ok(())
}

async fn error_page(php: &Php) -> Outcome {
    let mut client = php.connect().await?;
    let mut response = client.send(php.get("err.php", "")).await?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(chunk) = response.chunk().await? {
        match chunk {
            Chunk::Stdout(bytes) => stdout.extend(bytes),
            Chunk::Stderr(bytes) => stderr.extend(bytes),
        }
    }
    assert!(text(&stdout).starts_with("Status: 418"), "{}", text(&stdout));
    assert_eq!(text(body(&stdout)), "teapot\n");
    assert!(text(&stderr).contains("logged to STDERR"), "{}", text(&stderr));
    Ok(())
}

/// php-fpm keeps a script's exit status to itself: END_REQUEST says 0 whatever it was.
async fn exit_status(php: &Php) -> Outcome {
    let answer = call(&php.address, php.get("exit.php", "c=7")).await?;
    assert_eq!(text(body(&answer.stdout)), "exiting\n");
    assert_eq!(answer.app_status, 0);
    Ok(())
}

async fn keep_conn(php: &Php) -> Outcome {
    let mut client = php.connect().await?;
    for n in 0..100 {
        let answer =
            client.send(php.get("env.php", &format!("n={n}"))).await?.collect(MOST).await?;
        let page = text(body(&answer.stdout));
        assert!(page.contains(&format!("\nQUERY_STRING=n={n}\n")), "{page}");
        assert!(client.is_reusable(), "after request {n}");
    }
    Ok(())
}

/// The script sleeps on: the client gives its connection up, and a new one works.
async fn abort_silent(php: &Php) -> Outcome {
    let mut client = php.connect().await?;
    // Whether the script has started by then makes no difference.
    let pause = Duration::from_millis(300);
    let early =
        tokio::time::timeout(pause, client.send(php.get("sleep.php", "s=60"))).await.is_ok();
    assert!(!early, "a script that prints nothing answered");
    let again = client.send(php.get("hello.php", "")).await.map(drop);
    assert!(matches!(again, Err(fcgi::Error::Closed { .. })), "{again:?}");
    assert!(!client.is_reusable());
    assert_hello(&call(&php.address, php.get("hello.php", "")).await?);
    Ok(())
}

/// The script ends, and its output must not reach the next request. php-fpm reads ABORT_REQUEST
/// only after END_REQUEST, and closes then: the client may learn of that before the next request
/// or with it.
async fn abort_printing(php: &Php) -> Outcome {
    let connector = Connector::new().drain_timeout(LIMIT);
    let mut client = connector.connect(&php.address).await?;
    let first = client.send(php.get("slow.php", "")).await?.chunk().await?;
    assert!(matches!(first, Some(Chunk::Stdout(_))), "{first:?}");
    match client.send(php.get("hello.php", "")).await {
        Ok(response) => assert_hello(&response.collect(MOST).await?),
        Err(fcgi::Error::Closed { .. } | fcgi::Error::Truncated { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    assert_hello(&call(&php.address, php.get("hello.php", "")).await?);
    Ok(())
}

/// php-fpm resets the connection without a reply. Our client has no such role, so that it is put
/// in on the way.
async fn unknown_role(php: &Php) -> Outcome {
    let relay = Relay::start(php.address.clone(), |first| first[9] = 9)?;
    let answer = call(&relay.address().parse()?, php.get("hello.php", "")).await;
    assert!(matches!(answer, Err(fcgi::Error::Truncated { .. })), "{answer:?}");
    Ok(())
}

/// php-fpm says that it does not multiplex, and nothing else.
async fn values(php: &Php) -> Outcome {
    let values = Connector::new().values_timeout(LIMIT).query_values(&php.address).await?;
    assert_eq!(values, fcgi::Values { mpxs_conns: Some(false), ..Default::default() });
    Ok(())
}

/// php-fpm resets a connection on which a pair is cut across records.
async fn long_params(php: &Php) -> Outcome {
    let mut params: Vec<(String, String)> =
        (0..300).map(|n| (format!("P{n:03}"), format!("{n:03}").repeat(n))).collect();
    params.push(("N".repeat(200), "name".into()));
    params.push(("ALMOST_A_RECORD".into(), "v".repeat(65_000)));
    let request = params
        .iter()
        .fold(php.get("env.php", ""), |request, (name, value)| request.param(name, value));
    let answer = call(&php.address, request).await?;
    let page = text(body(&answer.stdout));
    let lines: HashSet<&str> = page.lines().collect();
    for (name, value) in &params {
        let line = format!("{name}={value}");
        assert!(lines.contains(line.as_str()), "{name} is missing or changed");
    }
    Ok(())
}

/// 50 callers of a pool keep both workers busy, and go on until somebody who has no pool was
/// answered five times.
async fn pool_and_a_third(php: &Php) -> Outcome {
    let pool =
        fcgi::Pool::builder(php.address.clone()).max_connections(2).keep_conn(true).build()?;
    let third_is_done = Arc::new(AtomicBool::new(false));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (pool, third_is_done) = (pool.clone(), Arc::clone(&third_is_done));
        let script = php.fpm.script("hello.php");
        callers.spawn(async move {
            let mut sent = 0;
            while sent < 10 || !third_is_done.load(Ordering::SeqCst) {
                let request = Request::responder()
                    .param("SCRIPT_FILENAME", script.as_os_str().as_encoded_bytes())
                    .param("REQUEST_METHOD", "GET");
                let answer = pool.send(request).await?.collect(MOST).await?;
                assert_eq!(body(&answer.stdout), b"Hello, world\n");
                sent += 1;
            }
            Ok::<_, fcgi::Error>(sent)
        });
    }
    for _ in 0..5 {
        let answer = call(&php.address, php.get("hello.php", "")).await?;
        assert_eq!(body(&answer.stdout), b"Hello, world\n");
    }
    third_is_done.store(true, Ordering::SeqCst);
    let mut sent = 0;
    while let Some(caller) = callers.join_next().await {
        sent += caller??;
    }
    assert!(sent >= 500, "{sent}");
    Ok(())
}

/// php-fpm closes after the END_REQUEST of an aborted request: nobody else notices.
async fn pool_after_aborts(php: &Php) -> Outcome {
    let pool =
        fcgi::Pool::builder(php.address.clone()).max_connections(2).keep_conn(true).build()?;
    for _ in 0..10 {
        drop(pool.send(php.get("slow.php", "")).await?);
        let answer = pool.send(php.get("hello.php", "")).await?.collect(MOST).await?;
        assert_eq!(body(&answer.stdout), b"Hello, world\n");
    }
    Ok(())
}

/// The script's worker is busy until the gate is there, which it is after the second answer: who
/// was sent to the same worker would get none.
async fn script_goes_on(php: &Php) -> Outcome {
    let pool = fcgi::Pool::builder(php.address.clone()).max_connections(1).build()?;
    let finish = php.get("finish.php", "gate=finish.php.gate");
    let answer = pool.send(finish).await?.collect(MOST).await?;
    assert_eq!(body(&answer.stdout), b"finished\n");
    for _ in 0..10 {
        assert_hello(&pool.send(php.get("hello.php", "")).await?.collect(MOST).await?);
    }
    std::fs::write(php.fpm.script("finish.php.gate"), "")?;
    Ok(())
}

/// After its answer the script gets a page of its own site, over the same pool.
async fn own_site(php: &Php) -> Outcome {
    let pool = fcgi::Pool::builder(php.address.clone()).max_connections(1).build()?;
    let site = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("url=http://{}/hello.php&gate=finish.php.gate", site.local_addr()?);
    let answer = pool.send(php.get("finish.php", &url)).await?.collect(MOST).await?;
    assert_eq!(body(&answer.stdout), b"finished\n");
    let (mut client, _) = site.accept().await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    assert_hello(&pool.send(php.get("hello.php", "")).await?.collect(MOST).await?);
    client.write_all(b"HTTP/1.0 200 OK\r\n\r\nHello, world\n").await?;
    std::fs::write(php.fpm.script("finish.php.gate"), "")?;
    Ok(())
}

fn leaving() -> PhpFpmOptions {
    PhpFpmOptions::default().children(2).max_requests(5)
}

/// A body that can't be sent again.
struct Once(Option<Bytes>);

impl Stream for Once {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}

/// Not one of many requests that can be sent only once is lost.
async fn workers_leave(php: &Php) -> Outcome {
    let pool = fcgi::Pool::builder(php.address.clone()).max_connections(2).build()?;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..4 {
        let pool = pool.clone();
        let script = php.fpm.script("echo.php");
        callers.spawn(async move {
            for n in 0..50 {
                let sent = format!("{caller}: {n}");
                let request = Request::responder()
                    .param("SCRIPT_FILENAME", script.as_os_str().as_encoded_bytes())
                    .param("REQUEST_METHOD", "POST")
                    .param("CONTENT_TYPE", "application/octet-stream")
                    .param("CONTENT_LENGTH", sent.len().to_string())
                    .stdin(Body::from_stream(Once(Some(sent.clone().into()))));
                let answer = pool.send(request).await?.collect(MOST).await?;
                assert_eq!(text(body(&answer.stdout)), sent);
            }
            Ok::<_, fcgi::Error>(())
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    Ok(())
}
