//! php-fpm's pages, as it writes them. The real one is asked in fcgi-tokio's tests.

use std::time::Duration;

use fcgi_driver::{
    http::HttpError,
    php_fpm,
    server::{self, Server},
};
use fcgi_testkit::sim;

use crate::support::{builder, serve};

const STATUS: &str = r#"{"pool":"www","process manager":"dynamic","start time":1700000000,"start since":65,"accepted conn":12,"listen queue":1,"max listen queue":2,"listen queue len":511,"idle processes":3,"active processes":4,"total processes":7,"max active processes":5,"max children reached":6,"slow requests":8,"new one":9}"#;

fn app(page: Vec<u8>) {
    serve(Server::new(), move |request: server::Request| {
        let page = page.clone();
        async move {
            assert_eq!(request.param_str("SCRIPT_NAME"), Some("/status"));
            request.stdout().write_all("Content-type: application/json\r\n\r\n").await?;
            request.stdout().write_all(page).await
        }
    });
}

#[test]
fn status_is_read() {
    sim::run(1, async {
        app(STATUS.into());
        let status = php_fpm::status(&builder().build().unwrap(), "/status").await.unwrap();
        assert_eq!((&*status.pool, &*status.process_manager), ("www", "dynamic"));
        assert_eq!(status.start_since, Duration::from_secs(65));
        assert_eq!(
            (status.accepted_conn, status.listen_queue, status.max_listen_queue),
            (12, 1, 2)
        );
        assert_eq!((status.idle_processes, status.active_processes), (3, 4));
        assert_eq!((status.total_processes, status.max_active_processes), (7, 5));
        assert_eq!((status.max_children_reached, status.slow_requests), (6, 8));
        assert_eq!((status.memory_peak, status.processes.len()), (None, 0));
    });
}

#[test]
fn workers_are_read_and_what_they_were_asked_may_be_any_bytes_h_7() {
    let mut page = STATUS.trim_end_matches('}').as_bytes().to_vec();
    page.extend(br#","processes":[{"pid":71,"state":"Running","start time":1700000000,"start since":9,"requests":2,"request duration":1500,"request method":"GET","request uri":"/"#);
    page.extend(b"\xff\xfe");
    page.extend(br#"","content length":0,"user":"-","script":"-","last request cpu":12.50,"last request memory":2097152}]}"#);
    sim::run(1, async {
        app(page);
        let status = php_fpm::full_status(&builder().build().unwrap(), "/status").await.unwrap();
        let [process] = &status.processes[..] else { panic!("{status:?}") };
        assert_eq!((process.pid, &*process.state, process.requests), (71, "Running", 2));
        assert_eq!(process.request_duration, Duration::from_micros(1500));
        assert_eq!(process.last_request_cpu, 12.5);
        assert!(process.request_uri.starts_with('/'));
    });
}

#[test]
fn what_is_no_status_page_is_an_error() {
    sim::run(1, async {
        app(b"<html>".to_vec());
        let error = php_fpm::status(&builder().build().unwrap(), "/status").await.unwrap_err();
        assert!(matches!(error, HttpError::NoStatusPage { .. }), "{error}");
        assert!(error.to_string().starts_with("unix:/app: /status is not "), "{error}");
    });
    sim::run(1, async {
        serve(Server::new(), async |request: server::Request| {
            request.stdout().write_all("Status: 404 Not Found\r\n\r\n").await
        });
        let error = php_fpm::ping(&builder().build().unwrap(), "/ping").await.unwrap_err();
        assert_eq!(error.to_string(), "unix:/app: /ping has status 404 Not Found");
    });
    sim::run(1, async {
        let error = php_fpm::ping(&builder().build().unwrap(), "/ping").await.unwrap_err();
        assert!(matches!(error, HttpError::Call(_)), "{error}");
    });
}
