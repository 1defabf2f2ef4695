//! Who sent a request, and how: from the connection or, before it, from trusted proxies.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use clap::ValueEnum;
use fcgi_http::request::is_host;
use fcgi_tokio::http::ParamsBuilder;
use http::{HeaderMap, StatusCode, header::HeaderName, uri::Authority};
use ipnet::IpNet;

use super::{client::Ends, failure::Failure};

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const X_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// nginx's name for a client at a unix socket.
const UNIX: &str = "unix:";

/// The origin of a request.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// `None` for a unix socket.
    remote: Option<IpAddr>,
    remote_port: Option<u16>,
    local: Option<SocketAddr>,
    /// What a proxy says about the client's connection.
    https: Option<bool>,
    server_name: Option<String>,
    server_port: Option<u16>,
}

impl Origin {
    /// The connected peer, whatever any field says.
    pub(super) fn of(ends: Ends) -> Self {
        Self {
            remote: ends.remote.map(|remote| remote.ip().to_canonical()),
            remote_port: ends.remote.map(|remote| remote.port()),
            local: ends.local,
            https: None,
            server_name: None,
            server_port: None,
        }
    }

    /// Sets the parameters for the application. The operator's own, in `own`, take precedence.
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

/// Trusted peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trusted {
    Net(IpNet),
    /// Anybody who can connect to a unix socket.
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

/// Which fields the proxies write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Fields {
    /// Either.
    Auto,
    /// X-Forwarded-For, -Proto and -Host.
    X,
    /// Forwarded.
    Standard,
}

/// The trusted proxies.
#[derive(Debug)]
pub(super) struct Proxies {
    pub(super) trusted: Vec<Trusted>,
    pub(super) fields: Fields,
}

/// What a proxy says about the peer that connected to it.
#[derive(Clone, Default)]
struct Hop<'a> {
    remote: Option<Cow<'a, str>>,
    proto: Option<Cow<'a, str>>,
    host: Option<Cow<'a, str>>,
}

type Node = (IpAddr, Option<u16>);

/// What all proxies together say, in one of the two ways.
#[derive(Default)]
struct Said {
    client: Option<Node>,
    https: Option<bool>,
    host: Option<(String, Option<u16>)>,
}

impl Said {
    fn new(client: Option<Node>, hop: &Hop<'_>) -> Self {
        let https =
            hop.proto.as_ref().and_then(|proto| match proto.to_ascii_lowercase().as_str() {
                "https" | "wss" => Some(true),
                "http" | "ws" => Some(false),
                _ => None,
            });
        let host = hop.host.as_ref().filter(|host| is_host(host.as_bytes()));
        let host = host.and_then(|host| Authority::from_str(host).ok());
        let host = host.map(|host| (host.host().to_owned(), host.port_u16()));
        Self { client, https, host }
    }

    /// What both ways agree on. A client can write the fields that its proxy does not write. So
    /// what only one of them says can't be believed, and can't be ignored either, since the client
    /// could choose that too.
    fn together(self, other: Self) -> Result<Self, &'static str> {
        let ip = |said: &Self| said.client.map(|(ip, _)| ip);
        let host =
            |said: &Self| said.host.as_ref().map(|(name, port)| (name.to_ascii_lowercase(), *port));
        for (is_same, reason) in [
            (ip(&self) == ip(&other), "name different clients"),
            (self.https == other.https, "name different schemes"),
            (host(&self) == host(&other), "name different hosts"),
        ] {
            if !is_same {
                return Err(reason);
            }
        }
        // Usually only one of them has the port; nothing depends on it.
        let client = self.client.map(|(ip, port)| {
            let same = other.client.is_none_or(|(_, other)| port == other);
            (ip, port.filter(|_| same))
        });
        Ok(Self { client, ..self })
    }
}

impl Proxies {
    /// The origin of a request.
    ///
    /// # Errors
    /// 400 if it is unclear which of the fields come from the proxy and which from the client.
    pub(super) fn origin(&self, headers: &HeaderMap, ends: Ends) -> Result<Origin, Failure> {
        let mut origin = Origin::of(ends);
        if self.trusted.is_empty() || !self.trust(origin.remote) {
            return Ok(origin);
        }
        let said = self.said(headers).map_err(|reason| {
            Failure::new(StatusCode::BAD_REQUEST, reason)
                .hinted("--forwarded says which fields the proxy writes")
        })?;
        if let Some((ip, port)) = said.client {
            (origin.remote, origin.remote_port) = (Some(ip), port);
        }
        origin.https = said.https;
        if let Some((name, port)) = said.host {
            (origin.server_name, origin.server_port) = (Some(name), port);
        }
        Ok(origin)
    }

    fn said(&self, headers: &HeaderMap) -> Result<Said, String> {
        let standard = match self.fields {
            Fields::X => None,
            _ => self.standard(headers)?,
        };
        let usual = match self.fields {
            Fields::Standard => None,
            _ => self.usual(headers),
        };
        match (standard, usual) {
            (Some(standard), Some(usual)) => standard
                .together(usual)
                .map_err(|reason| format!("Forwarded and X-Forwarded-* {reason}")),
            (said, other) => Ok(said.or(other).unwrap_or_default()),
        }
    }

    /// What Forwarded says, if it is there.
    fn standard(&self, headers: &HeaderMap) -> Result<Option<Said>, String> {
        let lines: Vec<_> = lines(headers, FORWARDED).collect();
        let hops = forwarded_hops(&lines).ok_or("Forwarded has a quote without its end")?;
        let says =
            |hop: &Hop<'_>| hop.remote.is_some() || hop.proto.is_some() || hop.host.is_some();
        if !hops.iter().any(says) {
            return Ok(None);
        }
        let said = match self.client(&hops) {
            Some((at, node)) => Said::new(Some(node), &hops[at]),
            None => Said::new(None, hops.last().unwrap_or(&Hop::default())),
        };
        Ok(Some(said))
    }

    /// What X-Forwarded-For, -Proto and -Host say, if they are there.
    fn usual(&self, headers: &HeaderMap) -> Option<Said> {
        let names = values(headers, X_FOR);
        let hops: Vec<_> =
            names.iter().map(|name| Hop { remote: Some(name.into()), ..Hop::default() }).collect();
        let client = self.client(&hops);
        // Takes the value of the client's hop if there is one for each hop, else of the last proxy.
        let pick = |name| {
            let mut values = values(headers, name);
            let at = client.map(|(at, _)| at).filter(|_| values.len() == hops.len());
            values.truncate(at.map_or(values.len(), |at| at + 1));
            values.pop()
        };
        let (proto, host) = (pick(X_PROTO), pick(X_HOST));
        let hop = Hop { remote: None, proto: proto.map(Cow::Owned), host: host.map(Cow::Owned) };
        let says = !hops.is_empty() || hop.proto.is_some() || hop.host.is_some();
        says.then(|| Said::new(client.map(|(_, node)| node), &hop))
    }

    fn trust(&self, remote: Option<IpAddr>) -> bool {
        self.trusted.iter().any(|trusted| match (trusted, remote) {
            (Trusted::Net(net), Some(remote)) => net.contains(&remote),
            (Trusted::Unix, None) => true,
            _ => false,
        })
    }

    /// The right-most address that is not trusted, or else the left-most, with its position.
    /// Anything to the left of an invalid address does not come from a trusted proxy.
    fn client(&self, hops: &[Hop<'_>]) -> Option<(usize, Node)> {
        let mut found = None;
        for (at, hop) in hops.iter().enumerate().rev() {
            let Some(node) = hop.remote.as_deref().and_then(node) else { break };
            found = Some((at, node));
            if !self.trust(Some(node.0)) {
                break;
            }
        }
        found
    }
}

/// A field's lines in order. Invalid text in them names nobody, and hides nothing that a proxy has
/// added.
fn lines(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = Cow<'_, str>> {
    headers.get_all(name).into_iter().map(|value| String::from_utf8_lossy(value.as_bytes()))
}

/// A list's elements in order. Empty ones don't count (RFC 9110, 5.6.1).
fn values(headers: &HeaderMap, name: HeaderName) -> Vec<String> {
    let mut values = Vec::new();
    for line in lines(headers, name) {
        let elements = line.split(',').map(str::trim).filter(|value| !value.is_empty());
        values.extend(elements.map(str::to_owned));
    }
    values
}

/// Parses RFC 7239, 4. `None` for a quoted text without its end, which would swallow a proxy's own
/// fields.
fn forwarded_hops<'a>(lines: &'a [Cow<'_, str>]) -> Option<Vec<Hop<'a>>> {
    let mut elements = Vec::new();
    for line in lines {
        elements.extend(split_unquoted(line, ',')?);
    }
    let elements = elements.into_iter().filter(|element| !element.trim().is_empty());
    let hops = elements.map(|element| {
        let mut hop = Hop::default();
        for pair in split_unquoted(element, ';')? {
            let Some((name, value)) = pair.trim().split_once('=') else { continue };
            let value = unquoted(value);
            match name.to_ascii_lowercase().as_str() {
                "for" => hop.remote = Some(value),
                "proto" => hop.proto = Some(value),
                "host" => hop.host = Some(value),
                _ => {}
            }
        }
        Some(hop)
    });
    hops.collect()
}

/// Splits at a character outside of quotes; `None` if a quote does not end.
fn split_unquoted(text: &str, at: char) -> Option<Vec<&str>> {
    let (mut quoted, mut escaped) = (false, false);
    let pieces = text.split(|c| {
        quoted ^= c == '"' && !escaped;
        escaped = quoted && !escaped && c == '\\';
        c == at && !quoted
    });
    let pieces: Vec<_> = pieces.collect();
    (!quoted).then_some(pieces)
}

/// A value without its quotes and escapes.
fn unquoted(value: &str) -> Cow<'_, str> {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    match inner {
        Some(inner) if inner.contains('\\') => {
            let mut escaped = false;
            let is_kept = |c: &char| {
                escaped = !escaped && *c == '\\';
                !escaped
            };
            inner.chars().filter(is_kept).collect::<String>().into()
        }
        inner => inner.unwrap_or(value).into(),
    }
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
