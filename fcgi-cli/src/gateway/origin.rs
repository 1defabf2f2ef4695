//! Who asks, and how: what the connection says or, before it, the proxies that are trusted.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use fcgi_tokio::http::ParamsBuilder;
use http::{HeaderMap, header::HeaderName, uri::Authority};
use ipnet::IpNet;

use super::client::Ends;

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const X_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What nginx calls a client at a unix socket.
const UNIX: &str = "unix:";

/// Where a request comes from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// `None` for a unix socket.
    remote: Option<IpAddr>,
    remote_port: Option<u16>,
    local: Option<SocketAddr>,
    /// What a proxy has said of the client's own connection.
    https: Option<bool>,
    server_name: Option<String>,
    server_port: Option<u16>,
}

impl Origin {
    fn of(ends: Ends) -> Self {
        Self {
            remote: ends.remote.map(|remote| remote.ip().to_canonical()),
            remote_port: ends.remote.map(|remote| remote.port()),
            local: ends.local,
            https: None,
            server_name: None,
            server_port: None,
        }
    }

    /// Tells an application of it. What the operator says, with `own`, goes before all.
    pub(super) fn tell(
        &self,
        mut params: ParamsBuilder,
        own: &[(Vec<u8>, Vec<u8>)],
    ) -> ParamsBuilder {
        if let Some(local) = self.local {
            params = params.server_addr(local);
        }
        params = match (self.remote, self.remote_port) {
            (Some(ip), Some(port)) => params.remote_addr(SocketAddr::new(ip, port)),
            (Some(ip), None) => params.param("REMOTE_ADDR", ip.to_string()),
            (None, _) => params.param("REMOTE_ADDR", UNIX),
        };
        if let Some(https) = self.https {
            params = params.https(https);
        }
        if let Some(name) = &self.server_name {
            params = params.server_name(name.as_str());
        }
        let port = self.server_port.or(self.https.map(|https| if https { 443 } else { 80 }));
        if let Some(port) = port {
            params = params.param("SERVER_PORT", port.to_string());
        }
        own.iter().fold(params, |params, (name, value)| params.param(&name[..], &value[..]))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.remote {
            Some(remote) => remote.fmt(f),
            None => f.write_str(UNIX),
        }
    }
}

/// Peers whose word counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trusted {
    Net(IpNet),
    /// Whoever can connect to a unix socket.
    Unix,
}

impl FromStr for Trusted {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(Self::Net)
            .map_err(|_| "expected an address or a network, such as 10.0.0.0/8 or ::1, or unix")
    }
}

/// The proxies whose word counts.
#[derive(Debug)]
pub(super) struct Proxies(pub(super) Vec<Trusted>);

/// What a proxy says of whoever has connected to it.
#[derive(Clone, Copy, Default)]
struct Hop<'a> {
    remote: Option<&'a str>,
    proto: Option<&'a str>,
    host: Option<&'a str>,
}

impl Proxies {
    /// Where a request comes from.
    pub(super) fn origin(&self, headers: &HeaderMap, ends: Ends) -> Origin {
        let mut origin = Origin::of(ends);
        if self.0.is_empty() || !self.trust(origin.remote) {
            return origin;
        }
        let (forwarded, others) = (lines(headers, FORWARDED), lines(headers, X_FOR));
        let standard = forwarded_hops(&forwarded);
        let usual = usual_hops(&others);
        let said = match (self.client(&standard), self.client(&usual)) {
            // A proxy writes one of them, and may pass on the other as its client has sent it.
            (Some((_, one)), Some((_, other))) if one != other => return origin,
            (Some((at, node)), _) => Some((standard[at], Some(node))),
            (None, Some((at, node))) => {
                Some((Hop { remote: None, ..usual_rest(headers, &usual, at) }, Some(node)))
            }
            (None, None) => match standard.last() {
                Some(hop) => Some((*hop, None)),
                None => Some((usual_rest(headers, &[], 0), None)),
            },
        };
        let Some((hop, node)) = said else { return origin };
        if let Some((ip, port)) = node {
            (origin.remote, origin.remote_port) = (Some(ip), port);
        }
        origin.https = hop.proto.and_then(|proto| match proto.to_ascii_lowercase().as_str() {
            "https" | "wss" => Some(true),
            "http" | "ws" => Some(false),
            _ => None,
        });
        let host = hop.host.and_then(|host| Authority::from_str(host).ok());
        if let Some(host) =
            host.filter(|host| !host.as_str().contains('@') && !host.host().is_empty())
        {
            origin.server_port = host.port_u16();
            origin.server_name = Some(host.host().to_owned());
        }
        origin
    }

    fn trust(&self, remote: Option<IpAddr>) -> bool {
        self.0.iter().any(|trusted| match (trusted, remote) {
            (Trusted::Net(net), Some(remote)) => net.contains(&remote),
            (Trusted::Unix, None) => true,
            _ => false,
        })
    }

    /// The right-most address that is not trusted, or else the left-most; and which it is. What is
    /// to the left of something else than an address was not said by one who is trusted.
    fn client(&self, hops: &[Hop<'_>]) -> Option<(usize, (IpAddr, Option<u16>))> {
        let mut found = None;
        for (at, hop) in hops.iter().enumerate().rev() {
            let Some(node) = hop.remote.and_then(node) else { break };
            found = Some((at, node));
            if !self.trust(Some(node.0)) {
                break;
            }
        }
        found
    }
}

/// A field's values in their order.
fn lines(headers: &HeaderMap, name: HeaderName) -> Vec<&str> {
    // What is no text names nobody.
    headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?")).collect()
}

/// RFC 7239, 4.
fn forwarded_hops<'a>(lines: &[&'a str]) -> Vec<Hop<'a>> {
    let elements = lines.iter().flat_map(|line| split_unquoted(line, ','));
    let hops = elements.map(|element| {
        let mut hop = Hop::default();
        for pair in split_unquoted(element, ';') {
            let Some((name, value)) = pair.trim().split_once('=') else { continue };
            let value =
                value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            match name.to_ascii_lowercase().as_str() {
                "for" => hop.remote = Some(value),
                "proto" => hop.proto = Some(value),
                "host" => hop.host = Some(value),
                _ => {}
            }
        }
        hop
    });
    hops.collect()
}

fn usual_hops<'a>(lines: &[&'a str]) -> Vec<Hop<'a>> {
    let names = lines.iter().flat_map(|line| line.split(',')).map(str::trim);
    names.map(|name| Hop { remote: Some(name), ..Hop::default() }).collect()
}

/// X-Forwarded-Proto and X-Forwarded-Host of the hop at `at`, where they have one for each, else of
/// the last proxy.
fn usual_rest<'a>(headers: &'a HeaderMap, hops: &[Hop<'_>], at: usize) -> Hop<'a> {
    let pick = |name| {
        let values: Vec<_> = lines(headers, name)
            .into_iter()
            .flat_map(|line| line.split(','))
            .map(str::trim)
            .collect();
        if values.len() == hops.len() { values.get(at).copied() } else { values.last().copied() }
    };
    Hop { remote: None, proto: pick(X_PROTO), host: pick(X_HOST) }
}

/// Splits at a character outside of quotes.
fn split_unquoted(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == at && !quoted
    })
}

/// An address with or without a port.
fn node(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let bare = |ip: IpAddr| (ip.to_canonical(), None);
    if let Ok(ip) = text.parse() {
        return Some(bare(ip));
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Some((socket.ip().to_canonical(), Some(socket.port())));
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(bare)
}
