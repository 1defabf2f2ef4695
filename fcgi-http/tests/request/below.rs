//! Applications below a path, and the client's address.

use fcgi_http::{
    MetaVariables, MountPoint, PathSource, RemoteAddr, RequestBody,
    request::{self},
};
use fcgi_proto::Params;

use crate::{build, with_headers};

/// The URI and the mount of a request with these parameters, by SCRIPT_NAME and PATH_INFO.
fn below(pairs: &[(&str, &str)]) -> (String, String) {
    let method = [("REQUEST_METHOD", "GET")];
    let params = Params::from_iter(method.iter().chain(pairs).copied());
    let parts = request::from_params_by(params, PathSource::PathInfo).unwrap();
    let mount = parts.extensions.get::<MountPoint>().unwrap();
    (parts.uri.to_string(), mount.to_string())
}

#[test]
fn the_path_below_the_application_is_path_info() {
    for (name, info, uri, mount) in [
        ("/shop", "/cart", "/cart", "/shop"),
        ("", "/cart", "/cart", ""),
        // Rack's and flup's name for the top.
        ("/", "/cart", "/cart", ""),
        ("/shop", "/", "/", "/shop"),
        ("/shop", "", "/", "/shop"),
        ("/a b/\u{e9}", "/J\u{fc}rgen 7%", "/J%C3%BCrgen%207%25", "/a%20b/%C3%A9"),
        ("/shop.fcgi", "//x", "//x", "/shop.fcgi"),
    ] {
        // What the client asked for before a rewrite does not count.
        let pairs = [("SCRIPT_NAME", name), ("PATH_INFO", info), ("REQUEST_URI", "/else?q")];
        assert_eq!(below(&pairs), (uri.to_owned(), mount.to_owned()), "{name} {info}");
        let query = [&pairs[..], &[("QUERY_STRING", "id=7")]].concat();
        assert_eq!(below(&query).0, format!("{uri}?id=7"));
    }
    assert_eq!(below(&[("PATH_INFO", "/cart")]), ("/cart".into(), String::new()));
    let options = [("REQUEST_METHOD", "OPTIONS"), ("REQUEST_URI", "*")];
    let parts = request::from_params_by(Params::from_iter(options), PathSource::PathInfo).unwrap();
    assert_eq!(parts.uri, "*");
    let bad = [("REQUEST_METHOD", "GET"), ("PATH_INFO", "/a\nb")];
    assert!(request::from_params_by(Params::from_iter(bad), PathSource::PathInfo).is_err());
}

#[test]
fn a_path_info_that_is_left_out_is_found_where_the_web_server_has_it() {
    let nginx = ("SERVER_SOFTWARE", "nginx/1.22.1");
    let haproxy = ("SERVER_SOFTWARE", "HAProxy 2.6.12");
    let apache = ("SERVER_SOFTWARE", "Apache/2.4");
    let proxied = |path| ("SCRIPT_FILENAME", path);
    let name = |name| ("SCRIPT_NAME", name);
    for (pairs, uri, mount) in [
        // nginx, with and without fastcgi_split_path_info.
        (vec![nginx, name("/shop/cart"), ("DOCUMENT_URI", "/shop/cart")], "/shop/cart", ""),
        (vec![nginx, name("/shop"), ("DOCUMENT_URI", "/shop/cart")], "/cart", "/shop"),
        (vec![nginx, name("/shop"), ("DOCUMENT_URI", "/shopping")], "/", "/shop"),
        // HAProxy without path-info.
        (vec![haproxy, name("/shop/cart")], "/shop/cart", ""),
        // Apache leaves out what is empty.
        (vec![apache, name("/shop.fcgi")], "/", "/shop.fcgi"),
        // ProxyPass "/shop/" "fcgi://HOST/" (W-5).
        (vec![apache, name("/shop/cart"), proxied("proxy:fcgi://h:9/cart")], "/cart", "/shop"),
        (vec![apache, name("/shop/cart"), proxied("proxy:balancer://b/cart?x")], "/cart", "/shop"),
        (vec![apache, name("/s/a b"), proxied("proxy:fcgi://h/a%20b")], "/a%20b", "/s"),
        (vec![apache, name("/s/a%b"), proxied("proxy:fcgi://h/a%b")], "/a%25b", "/s"),
        (vec![apache, name("/shop/"), proxied("proxy:fcgi://h/")], "/", "/shop"),
        // Of a target with a path of its own.
        (vec![apache, name("/shop"), proxied("proxy:fcgi://h/srv/shop")], "/", "/shop"),
    ] {
        assert_eq!(below(&pairs), (uri.to_owned(), mount.to_owned()), "{pairs:?}");
    }
}

#[test]
fn an_empty_host_is_no_host() {
    let params = [("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/"), ("HTTP_HOST", "")];
    let parts = request::from_params(Params::from_iter(params)).unwrap();
    assert!(!parts.headers.contains_key("host"));
    let sent = build(&with_headers("/", &[("Host", "")]), RequestBody::None).unwrap();
    assert_eq!((sent.get("HTTP_HOST"), sent.get_str("SERVER_NAME")), (None, Some("localhost")));
}

#[test]
fn a_client_without_an_address_is_said_to_be_so() {
    let of = |pairs: &[(&str, &str)]| {
        RemoteAddr::of(&MetaVariables::new(Params::from_iter(pairs.iter().copied())))
    };
    let client = of(&[("REMOTE_ADDR", "2001:db8::7"), ("REMOTE_PORT", "x")]).unwrap();
    assert_eq!((client.to_string(), client.port()), ("2001:db8::7".into(), None));
    let missing = of(&[]).unwrap_err();
    assert_eq!(of(&[("REMOTE_ADDR", "")]), Err(missing.clone()));
    assert!(missing.to_string().contains("REMOTE_ADDR"), "{missing}");
    // nginx, listening on a unix socket.
    let invalid = of(&[("REMOTE_ADDR", "unix:")]).unwrap_err().to_string();
    assert!(invalid.contains("REMOTE_ADDR is \"unix:\""), "{invalid}");
}
