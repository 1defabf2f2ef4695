//! php-fpm's pages, as it writes them. How they are read is tested in fcgi-engine and fcgi-driver.

use fcgi::{Pool, Server, http::HttpError, php_fpm};
use fcgi_blocking as fcgi;

use crate::app::serve;

const STATUS: &str = r#"{"pool":"www","process manager":"dynamic","start time":1700000000,"start since":65,"accepted conn":12,"listen queue":1,"max listen queue":2,"listen queue len":511,"idle processes":3,"active processes":4,"total processes":7,"max active processes":5,"max children reached":6,"slow requests":8,"processes":[]}"#;

#[test]
fn pages_are_asked_for_and_read() {
    let app = serve(Server::new().threads(2), |request: fcgi::Request| {
        let asked = (request.param_str("SCRIPT_NAME"), request.param_str("QUERY_STRING"));
        let page = match asked {
            (Some("/ping"), Some("")) => "Content-Type: text/plain\r\n\r\npong".to_owned(),
            (Some("/status"), Some("json" | "json&full")) => {
                format!("Content-Type: application/json\r\n\r\n{STATUS}")
            }
            (Some("/text"), _) => "Content-Type: text/plain\r\n\r\npool: www\n".to_owned(),
            _ => "Status: 404 Not Found\r\n\r\nFile not found.\n".to_owned(),
        };
        request.stdout().write_all(page)
    });
    let pool = Pool::new(app.address.clone()).unwrap();
    assert_eq!(php_fpm::ping(&pool, "/ping").unwrap(), "pong");
    assert_eq!(php_fpm::status(&pool, "/status").unwrap().active_processes, 4);
    assert_eq!(php_fpm::full_status(&pool, "/status").unwrap().pool, "www");
    let error = php_fpm::status(&pool, "/text").unwrap_err();
    assert!(matches!(error, HttpError::NoStatusPage { .. }), "{error}");
    let error = php_fpm::ping(&pool, "/none").unwrap_err();
    assert!(matches!(error, HttpError::PageStatus { .. }), "{error}");
    assert_eq!(error.address(), Some(&*app.address.to_string()));
}
