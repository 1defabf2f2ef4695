//! The likely causes of an error at an address, in the same words in every subcommand.

mod answer;
mod cause;
mod process;
mod socket;

use std::io;

use fcgi_tokio::{self as fcgi, Address, Phase, Target, proto::ProtocolErrorKind};

pub(crate) use answer::{body_too_large, is_body_too_large, no_head, no_ping, of_answer};
pub(crate) use cause::Cause;
pub(crate) use socket::name;
pub(crate) use socket::{only_user_of, owner_of};

/// The first byte of a TLS record that refuses what came.
const TLS_ALERT: u8 = 21;

/// The cause of a request that got no answer. This looks at the file system and at processes of
/// this machine, and sends nothing.
pub(crate) fn of(error: &fcgi::Error, address: &Address) -> Option<Cause> {
    match error {
        fcgi::Error::Connect { source, .. } => of_connect(source, address),
        fcgi::Error::Io { source, .. } if fcgi_engine::client::is_close(source) => {
            Some(closed(address))
        }
        fcgi::Error::Truncated { .. } => Some(closed(address)),
        fcgi::Error::Protocol { source, .. } => Some(match (source.kind, source.offset) {
            (ProtocolErrorKind::Version(_), 0) => not_fastcgi(&source.to_string()),
            _ => broken_rules(),
        }),
        fcgi::Error::Timeout { phase: Phase::Connect, .. } => Some(no_connection(address)),
        fcgi::Error::Timeout { phase: Phase::Values, .. } => Some(process::no_values(address)),
        fcgi::Error::Timeout { .. } => Some(process::silent(address)),
        fcgi::Error::Rejected { rejection: fcgi::Rejection::Overloaded, .. } => Some(Cause::new(
            "overloaded",
            "the application is full",
            "let it take more at once, or send it less",
        )),
        fcgi::Error::Rejected { rejection: fcgi::Rejection::UnknownRole, .. } => Some(Cause::new(
            "unknown-role",
            "the application does not know the role that was asked for",
            "ask for another role, or another application",
        )),
        _ => None,
    }
}

/// The cause of a connection that could not be made.
pub(crate) fn of_connect(source: &io::Error, address: &Address) -> Option<Cause> {
    let host_port = match address.target() {
        Target::Unix(path) => return socket::of_connect(source, path),
        Target::Tcp(host_port) => host_port,
        _ => return None,
    };
    let port = host_port.rsplit_once(':').map_or("", |(_, port)| port);
    Some(match source.kind() {
        io::ErrorKind::ConnectionRefused => Cause::new(
            "nobody-listens",
            format!("nobody listens at port {port} there"),
            "start the application, or look at its `listen`: in another container, 127.0.0.1 is \
             not this one's",
        ),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Cause::new("unreachable", "no route leads there", "look at the network between the two")
        }
        // The resolver's errors have no error number.
        _ if source.raw_os_error().is_none() => Cause::new(
            "unknown-host",
            "the name is not known here",
            "look at the name, and at the resolver (/etc/resolv.conf, the container's network)",
        ),
        _ => return None,
    })
}

fn no_connection(address: &Address) -> Cause {
    if let Some(cause) = process::queue_full(address) {
        return cause;
    }
    match address.target() {
        // A socket of this machine takes a connection at once, unless its queue is full.
        Target::Unix(_) => Cause::new(
            "queue-full",
            "the socket's queue was full, or this machine had no time",
            "look at what the workers do (fcgi status), or try a longer --timeout",
        ),
        _ => Cause::new(
            "unreachable",
            "nothing answers there",
            "look at host and port, and at a firewall between the two; or its queue is full",
        ),
    }
}

/// It closed the connection before its answer was complete.
pub(crate) fn closed(address: &Address) -> Cause {
    match address.target() {
        Target::Unix(_) => Cause::new(
            "closed",
            "it closed the connection: its worker crashed or was ended, or it is no FastCGI \
             application",
            "look at the application's log",
        ),
        _ => Cause::new(
            "allowed-clients",
            "it closed the connection: `listen.allowed_clients` of php-fpm's pool has not this \
             machine's address, its worker crashed, or it is no FastCGI application",
            "look at php-fpm's log for \"Connection disallowed\" or \"exited on signal\"",
        ),
    }
}

/// A web server listens there.
pub(crate) fn http() -> Cause {
    Cause::new(
        "http",
        "that is HTTP, not FastCGI: a web server listens there",
        "name the application's own socket, as in the web server's fastcgi_pass",
    )
}

/// Its first record was FastCGI's, but not all were.
fn broken_rules() -> Cause {
    Cause::new(
        "protocol",
        "the application breaks a rule of FastCGI",
        "tell its authors; `fcgi check` tries all rules",
    )
}

/// `said` names the version in the first record, that is, the first byte that came.
pub(crate) fn not_fastcgi(said: &str) -> Cause {
    let starts_with = |byte: u8| said.contains(&format!("record version {byte} "));
    // `HTTP/1.1 400`, or only a page, as servers send it to those that name no version.
    if starts_with(b'H') || starts_with(b'<') {
        http()
    } else if starts_with(TLS_ALERT) {
        Cause::new(
            "http",
            "that is TLS, not FastCGI: a web server for HTTPS listens there",
            "name the application's own socket, as in the web server's fastcgi_pass",
        )
    } else {
        Cause::new(
            "not-fastcgi",
            "it does not speak FastCGI",
            "look which program listens there (ss -xlp, ss -tlp)",
        )
    }
}
