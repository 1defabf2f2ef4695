//! What operators see: log lines that name phase, limit and address, and counters.

#[path = "support/mod.rs"]
mod support;

use fcgi_driver::{
    Address, Error,
    client::{Client, Connector, Request},
    runtime::{Runtime, Transport},
    server::{self, Server},
};
use fcgi_engine::socket::HangUp;
use fcgi_testkit::{
    logs,
    sim::{self, Pipe, Sim},
};
use support::{LIMIT, address, echo, ms, serve};

/// A web server's end of a connection, by hand.
async fn dial() -> Pipe {
    Sim::connect(&address()).await.unwrap()
}

/// BEGIN_REQUEST of a Responder with keep_conn, under id 1.
const BEGIN: [u8; 16] = [1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0];
/// The end of PARAMS, and of STDIN.
const END_PARAMS: [u8; 8] = [1, 4, 0, 1, 0, 0, 0, 0];
const END_STDIN: [u8; 8] = [1, 5, 0, 1, 0, 0, 0, 0];

fn server() -> Server<Sim> {
    Server::new()
        .first_record_timeout(Some(ms(1_000)))
        .params_timeout(Some(ms(2_000)))
        .idle_timeout(Some(ms(3_000)))
        .write_timeout(Some(ms(4_000)))
        .handler_timeout(Some(ms(5_000)))
}

#[test]
fn each_limit_of_the_server_closes_in_its_time_and_says_so_h_16() {
    let whole = [&BEGIN[..], &END_PARAMS, &END_STDIN].concat();
    let cases: [(&[u8], &str, u64); 4] = [
        (&[], "no first record within 1s", 1_000),
        (&BEGIN, "no end of PARAMS within 2s", 2_000),
        (&whole, "no next request on a kept connection within 3s", 3_000),
        (&BEGIN[..9], "no first record within 1s", 1_000),
    ];
    for (bytes, line, took) in cases {
        let log = logs::of(|| {
            sim::run(1, async move {
                serve(server(), echo);
                let mut pipe = dial().await;
                pipe.write_all(bytes).await.unwrap();
                while !pipe.read().await.unwrap().is_empty() {}
                assert_eq!(sim::elapsed(), ms(took), "{line}");
            });
        });
        let line = log.lines().find(|logged| logged.contains(line));
        let line = line.unwrap_or_else(|| panic!("not there: {log}"));
        assert!(line.contains("peer=unix"), "{line}");
    }
}

#[test]
fn a_stalled_write_and_a_slow_handler_have_their_limits() {
    let log = logs::of(|| {
        sim::run(1, async {
            serve(server(), |request: server::Request| async move {
                let big = vec![b'x'; 10 << 20];
                request.stdout().write_all(big).await
            });
            let mut pipe = dial().await;
            pipe.write_all(&[&BEGIN[..], &END_PARAMS, &END_STDIN].concat()).await.unwrap();
            // It reads nothing.
            sim::sleep(ms(4_001)).await;
            assert_eq!(pipe.hang_up(), HangUp::Gone);
        });
    });
    assert!(log.contains("server: no progress of a write within 4s"), "{log}");
    let log = logs::of(|| {
        sim::run(1, async {
            serve(server(), echo);
            let slow = Request::responder().param("SLEEP", "60000");
            let mut client = Client::<Sim>::connect(&address()).await.unwrap();
            let answer = client.send(slow).await.unwrap().collect(LIMIT).await.unwrap();
            assert_eq!((answer.app_status, sim::elapsed()), (server::CANCELLED, ms(5_000)));
        });
    });
    assert!(log.contains("server: no end of the handler within 5s"), "{log}");
    assert!(log.contains("outcome=TimedOut(Handler)"), "{log}");
}

#[test]
fn each_limit_of_the_client_is_its_own_error_and_says_so() {
    let connector = || {
        Connector::<Sim>::new()
            .first_byte_timeout(Some(ms(1_000)))
            .next_byte_timeout(Some(ms(2_000)))
    };
    let cases = [
        ("", connector(), "unix:/app: no first byte of the response within 1s"),
        ("some", connector(), "unix:/app: no next byte of the response within 2s"),
        (
            "some",
            connector().total_timeout(Some(ms(500))),
            "unix:/app: no end of the response within 500ms",
        ),
    ];
    for (bytes, connector, message) in cases {
        let log = logs::of(|| {
            sim::run(1, async move {
                serve(Server::new(), move |request: server::Request| async move {
                    request.stdout().write_all(bytes).await?;
                    request.cancelled().await;
                    Ok::<_, Error>(())
                });
                let mut client = connector.connect(&address()).await.unwrap();
                let error = match client.send(Request::responder()).await {
                    Ok(response) => response.collect(LIMIT).await.unwrap_err(),
                    Err(error) => error,
                };
                assert_eq!(error.to_string(), message);
            });
        });
        let line = message.split_once("no ").unwrap().1;
        assert!(log.contains(&format!("client: no {line}")), "{log}");
        assert!(log.contains("peer=unix:/app"), "{log}");
    }
}

#[test]
fn an_application_that_does_not_answer_get_values_is_no_error_but_is_told_of() {
    let log = logs::of(|| {
        sim::run(1, async {
            let mut backlog = sim::backlog(&address());
            sim::spawn(async move {
                let _silent = backlog.accept().await;
                std::future::pending::<()>().await;
            });
            let connector = Connector::<Sim>::new().values_timeout(ms(250));
            let values = connector.query_values(&address()).await.unwrap();
            assert_eq!(values, fcgi_proto::Values::default());
        });
    });
    assert!(log.contains("client: no answer to GET_VALUES within 250ms"), "{log}");
    assert!(log.contains("peer=unix:/app"), "{log}");
}

#[test]
fn a_request_is_logged_at_both_ends_and_stderr_is_escaped_h_10() {
    let log = logs::of(|| {
        sim::run(1, async {
            serve(Server::new(), |request: server::Request| async move {
                request.stderr().write_all("PHP Warning:\x1b[2J bad\nsecond").await?;
                request.stdout().write_all("12345").await?;
                Ok::<_, Error>(7u32)
            });
            let mut client = Client::<Sim>::connect(&address()).await.unwrap();
            let request = Request::responder()
                .param("REQUEST_METHOD", "POST")
                .param("SCRIPT_FILENAME", "/srv/a\nb.php")
                .param("CONTENT_LENGTH", "3")
                .stdin("abc");
            client.send(request).await.unwrap().collect(LIMIT).await.unwrap();
        });
    });
    for part in [
        "fcgi_client_connection{address=unix:/app}",
        "fcgi_server_connection{peer=unix}",
        "side=\"client\" request_id=1 role=Responder method=\"POST\" script=\"/srv/a\\\\nb.php\"",
        "side=\"server\" request_id=1 role=Responder",
        "STDERR stderr=\"PHP Warning:\\\\x1b[2J bad\"",
        "STDERR stderr=\"second\"",
        "request ended app_status=7 sent=3 received=",
    ] {
        assert!(log.contains(part), "{part}\nis not in\n{log}");
    }
    assert!(!log.contains('\x1b'), "{log}");
}

/// Whether the handler has dropped its request when it fails, or not.
#[test]
fn a_failed_handler_is_logged_with_method_and_path() {
    let log = logs::of(|| {
        sim::run(1, async {
            serve(server(), |request: server::Request| async move {
                match request.param_str("HOW") {
                    Some("early") => drop(request),
                    Some("panic") => panic!("as the test asked"),
                    _ => request.stdout().flush().await.map_err(|error| error.to_string())?,
                }
                Err::<(), _>("no database".to_owned())
            });
            for how in ["early", "late", "panic"] {
                let request = Request::responder()
                    .param("REQUEST_METHOD", "PUT")
                    .param("REQUEST_URI", format!("/{how}?token=secret"))
                    .param("HOW", how);
                let mut client = Client::<Sim>::connect(&address()).await.unwrap();
                client.send(request).await.unwrap().collect(LIMIT).await.unwrap();
            }
        });
    });
    let lines: Vec<_> = log.lines().filter(|line| line.contains("handler")).collect();
    assert_eq!(lines.len(), 3, "{log}");
    for (line, how) in lines.iter().zip(["early", "late", "panic"]) {
        assert!(line.contains("method=PUT"), "{line}");
        assert!(line.contains(&format!("path=/{how}")), "{line}");
        assert!(!line.contains("secret"), "{line}");
        assert!(line.contains("no database") || how == "panic", "{line}");
    }
}

#[test]
fn a_handler_runs_on_without_its_web_server_where_that_is_wanted_w_8() {
    logs::install();
    for (cancel, expected) in [(true, "dropped"), (false, "finished")] {
        sim::run(1, async move {
            let log = support::Log::default();
            let seen = log.clone();
            serve(Server::new().cancel_on_disconnect(cancel), move |request: server::Request| {
                struct Dropped(support::Log, bool);
                impl Dropped {
                    fn finish(&mut self) {
                        self.1 = true;
                    }
                }
                impl Drop for Dropped {
                    fn drop(&mut self) {
                        self.0.note(if self.1 { "finished" } else { "dropped" });
                    }
                }
                let mut dropped = Dropped(seen.clone(), false);
                async move {
                    sim::sleep(ms(100)).await;
                    // Far more than the connection holds.
                    for _ in 0..100 {
                        request.stdout().write_all(vec![b'x'; 50_000]).await?;
                    }
                    dropped.finish();
                    Ok::<_, Error>(())
                }
            });
            let mut pipe = dial().await;
            pipe.write_all(&[&BEGIN[..], &END_PARAMS, &END_STDIN].concat()).await.unwrap();
            sim::sleep(ms(10)).await;
            drop(pipe);
            sim::sleep(ms(1_000)).await;
            assert_eq!(log.all(), [expected]);
        });
    }
}

#[test]
fn a_peer_that_closes_by_halves_is_noticed_w_8() {
    logs::install();
    sim::run(1, async {
        let log = support::Log::default();
        let seen = log.clone();
        serve(Server::new(), move |request: server::Request| {
            struct Dropped(support::Log);
            impl Drop for Dropped {
                fn drop(&mut self) {
                    self.0.note("dropped");
                }
            }
            let dropped = Dropped(seen.clone());
            async move {
                sim::sleep(ms(60_000)).await;
                drop((request, dropped));
            }
        });
        let mut pipe = dial().await;
        pipe.write_all(&[&BEGIN[..], &END_PARAMS, &END_STDIN].concat()).await.unwrap();
        pipe.shutdown_write();
        sim::sleep(ms(5_000)).await;
        assert!(log.all().is_empty(), "a half-close cancels nothing (FC-3.5-2)");
        drop(pipe);
        sim::sleep(ms(1_500)).await;
        assert_eq!(log.all(), ["dropped"]);
    });
}

/// Over TCP a half-close and a close look the same (W-17).
#[test]
fn an_end_of_file_over_tcp_leaves_time_for_an_answer_fc_3_5_2() {
    for (sleep, answered) in [("0", true), ("400", true), ("600", false)] {
        let ended = sim::run(1, async move {
            let address: Address = "tcp:127.0.0.1:9000".parse().unwrap();
            let listener = sim::listen(&address);
            sim::spawn(async move { Server::new().serve(listener, support::echo).await.unwrap() });
            let mut pipe = Sim::connect(&address).await.unwrap();
            let mut params = vec![1, 4, 0, 1, 0, 7 + sleep.len() as u8, 0, 0];
            params.extend([5, sleep.len() as u8]);
            params.extend_from_slice(b"SLEEP");
            params.extend_from_slice(sleep.as_bytes());
            pipe.write_all(&[&BEGIN[..], &params, &END_PARAMS, &END_STDIN].concat()).await.unwrap();
            pipe.shutdown_write();
            let mut answer = Vec::new();
            loop {
                let bytes = pipe.read().await.unwrap();
                if bytes.is_empty() {
                    return answer.ends_with(&[1, 3, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                }
                answer.extend(bytes);
            }
        });
        assert_eq!(ended, answered, "an answer after {sleep} ms");
    }
}

#[cfg(feature = "metrics")]
#[test]
fn what_happens_is_counted() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};
    use support::{builder, call, numbered};

    logs::install();
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        sim::run(1, async {
            serve(Server::new(), echo);
            let pool = builder().max_connections(1).build().unwrap();
            for n in 0..3 {
                call(&pool, numbered(n)).await.unwrap();
            }
            sim::poll_some(call(&pool, numbered(4).param("SLEEP", "1000")), 1).await;
            sim::sleep(ms(100_000)).await;
        });
    });
    let mut seen: Vec<String> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .filter_map(|(key, _, _, value)| {
            let labels: Vec<_> = key
                .key()
                .labels()
                .map(|label| format!("{}={}", label.key(), label.value()))
                .collect();
            let value = match value {
                DebugValue::Counter(n) => n.to_string(),
                DebugValue::Gauge(n) => n.to_string(),
                DebugValue::Histogram(_) => return None,
            };
            Some(format!("{}{{{}}} {value}", key.key().name(), labels.join(",")))
        })
        .collect();
    seen.sort();
    for expected in [
        "fcgi_connections_total{side=client} 1",
        "fcgi_connections{side=client} 0",
        "fcgi_connections{side=server} 0",
        "fcgi_pool_requests_total{event=opened} 1",
        "fcgi_pool_requests_total{event=reused} 3",
        "fcgi_requests_total{side=client,role=responder,outcome=complete} 3",
        "fcgi_requests_total{side=client,role=responder,outcome=aborted} 1",
        "fcgi_requests_total{side=server,role=responder,outcome=complete} 3",
        "fcgi_requests_total{side=server,role=responder,outcome=aborted} 1",
        "fcgi_requests{side=client} 0",
        "fcgi_requests{side=server} 0",
        "fcgi_received_bytes_total{side=client} 3",
    ] {
        assert!(seen.iter().any(|line| line == expected), "{expected}\nis not in\n{seen:#?}");
    }
}
