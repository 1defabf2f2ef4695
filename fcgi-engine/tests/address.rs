//! Addresses as people write them.

use std::{
    net::{SocketAddr, SocketAddrV6, ToSocketAddrs},
    path::{Path, PathBuf},
};

use fcgi_engine::{Address, Listener, Target};
use proptest::prelude::*;

#[test]
fn each_form_is_an_address() {
    let unix = |path| (Target::Unix(Path::new(path)), format!("unix:{path}"));
    let tcp = |host_port| (Target::Tcp(host_port), format!("tcp:{host_port}"));
    for (text, (target, shown)) in [
        ("unix:/run/x.sock", unix("/run/x.sock")),
        ("unix:///run/x.sock", unix("/run/x.sock")),
        ("/run/x.sock", unix("/run/x.sock")),
        ("/run/a:9000", unix("/run/a:9000")),
        ("unix:x.sock", unix("x.sock")),
        ("./x.sock", unix("./x.sock")),
        ("../x.sock", unix("../x.sock")),
        ("tcp:host:9000", tcp("host:9000")),
        ("tcp://host:9000", tcp("host:9000")),
        ("fcgi://host:9000", tcp("host:9000")),
        ("tcp://host:9000/", tcp("host:9000")),
        ("fcgi://host:9000/", tcp("host:9000")),
        ("fcgi://[::1]:9000/", tcp("[::1]:9000")),
        ("fcgi://:9000/", (Target::Tcp("127.0.0.1:9000"), "tcp::9000".into())),
        ("host:9000", tcp("host:9000")),
        ("php-fpm.my_net.example:9000", tcp("php-fpm.my_net.example:9000")),
        ("127.0.0.1:0", tcp("127.0.0.1:0")),
        ("[::1]:9000", tcp("[::1]:9000")),
        ("tcp:[::1]:9000", tcp("[::1]:9000")),
        (
            "fcgi://[fe80::1%eth0]:9000",
            (Target::Tcp("fe80::1%eth0:9000"), "tcp:[fe80::1%eth0]:9000".into()),
        ),
        ("[fe80::1%2]:9000", tcp("[fe80::1%2]:9000")),
        (":9000", (Target::Tcp("127.0.0.1:9000"), "tcp::9000".into())),
        ("tcp::9000", (Target::Tcp("127.0.0.1:9000"), "tcp::9000".into())),
        ("tcp://:9000", (Target::Tcp("127.0.0.1:9000"), "tcp::9000".into())),
        ("-", (Target::Stdin, "-".into())),
    ] {
        let address: Address = text.parse().unwrap();
        assert_eq!(address.target(), target, "{text}");
        assert_eq!(address.to_string(), shown, "{text}");
        assert_eq!(shown.parse(), Ok(address.clone()), "{text}: what is shown is one again");
        assert_eq!(Address::try_from(text), Ok(address.clone()), "{text}");
        assert_eq!(address.is_callable(), text != "-", "{text}");
    }
}

#[test]
fn the_resolver_takes_an_interface_by_name_and_by_number() {
    for text in ["[fe80::1%lo]:9000", "tcp:[fe80::1%1]:9000"] {
        let address: Address = text.parse().unwrap();
        let Target::Tcp(host_port) = address.target() else { panic!("{text}") };
        let found: Vec<SocketAddr> = host_port.to_socket_addrs().expect(text).collect();
        let expected = SocketAddrV6::new("fe80::1".parse().unwrap(), 9000, 0, 1);
        assert_eq!(found, [expected.into()], "{text}: the loopback interface is the first");
    }
}

#[test]
fn what_fits_none_says_which_there_are() {
    for text in [
        "",
        "9000",
        "host",
        "x.sock",
        "unix:",
        "unix://",
        "unix://run/x.sock",
        "unix:/a\0b",
        "tcp:",
        "tcp:host",
        "tcp:9000",
        "tcp:host:",
        "host:+9000",
        "host:65536",
        "host:9000/",
        "tcp:host:9000/",
        "fcgi://host:9000//",
        "fcgi://host:9000/app",
        "fcgi://host/",
        "fcgi:///",
        "::1:9000",
        "[::1:9000",
        "[host]:9000",
        "http://host:80",
        "ho st:9000",
        "user@host:9000",
        "-1",
        "--",
        ":",
    ] {
        let error = text.parse::<Address>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("{text:?} is not an address")), "{error}");
        for form in
            ["unix:PATH", "/PATH", "./PATH", "tcp:HOST:PORT", "fcgi://HOST:PORT", ":PORT", " - "]
        {
            assert!(error.contains(form), "{error}");
        }
    }
}

#[test]
fn it_is_made_of_the_standard_librarys_types() {
    let socket: std::net::SocketAddr = "[::1]:9000".parse().unwrap();
    assert_eq!(Address::from(socket), "tcp:[::1]:9000".parse().unwrap());
    assert_eq!(Address::from(PathBuf::from("/x")), Address::unix("/x"));
    assert_eq!(Address::from(Path::new("x")), "unix:x".parse().unwrap());
    assert!(!Address::STDIN.is_callable());
}

#[test]
fn a_port_alone_listens_everywhere_and_calls_loopback() {
    let listener = Listener::bind(":0").unwrap();
    let Target::Tcp(at) = listener.local_addr().target() else { panic!("{listener:?}") };
    let at: std::net::SocketAddr = at.parse().unwrap();
    assert!(at.ip().is_unspecified() && at.port() != 0, "{at}");
    let address: Address = format!(":{}", at.port()).parse().unwrap();
    let Target::Tcp(calls) = address.target() else { panic!("a port is called") };
    std::net::TcpStream::connect(calls).unwrap();
}

proptest! {
    #[test]
    fn no_text_panics_and_what_is_shown_is_read_again(text: String) {
        if let Ok(address) = text.parse::<Address>() {
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }
    }
}
